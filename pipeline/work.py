"""The work of one block: read the hull, predict, write the core, say what it took.

`run_block` is what a worker calls; it needs a Plan and a number, returns a Record, and keeps nothing but an open
session, reader and sink for the next block of the same plan. Done twice, in any order or process, it writes the same
bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.budget import peak_memory
from pipeline.errors import BlockError, DeviceError, InputError, ModelError
from pipeline.grid import Rect, Stitch
from pipeline.network.blend import blended
from pipeline.network.card import Card
from pipeline.network.digest import model_digest
from pipeline.network.engine import Engine
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe
from pipeline.network.model_file import load_model
from pipeline.network.rule import classes_of, confidence_of, quantised
from pipeline.plan import Network, Plan
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene, row_areas
from pipeline.settings import FAILED, NODATA
from pipeline.store.record import Record, State
from pipeline.store.sink import Sink


@dataclass(slots=True)
class Bench:
    """What a worker keeps open for one plan."""

    plan: Plan
    engine: Engine
    reader: Reader
    sink: Sink


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage; what no stage claims is called "stitch"."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the body's seconds to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def stopped(self) -> dict[str, float]:
        """The stages so far, with what lies between them."""
        between = time.perf_counter() - self.started - sum(self.seconds.values())
        return {**self.seconds, "stitch": max(0.0, between)}


_benches: dict[str, Bench] = {}  # at most one: the next plan takes its place
_opening = threading.Lock()


def build_engine(network: Network, recipe: Recipe, device: str) -> Engine:
    """Load, check, fuse and start a network. Raises ModelError where the file is no longer what was planned."""
    model = load_model(Path(network.path))
    if (found := model_digest(model)) != network.digest:
        raise ModelError(
            f"The model {network.path} has changed since the run was planned: {found[:12]} now, "
            f"{network.digest[:12]} then. Put the old file back, or run with --overwrite."
        )
    return Engine(fuse(model, network.card, recipe, network.field), device)


def bench(plan: Plan) -> Bench:
    """Open what a plan needs, once per process. Raises DeviceError where this process runs another numeric class."""
    key = f"{plan.digest} {plan.store} {plan.scene.uri} {plan.recipe}"
    with _opening:
        if key not in _benches:
            close_bench()
            engine = build_engine(plan.network, plan.recipe, plan.choices.device)
            if engine.numeric_class != plan.choices.numeric_class:
                raise DeviceError(
                    f"This worker runs {engine.numeric_class}, the plan was made for {plan.choices.numeric_class}: "
                    "their masks differ in a few pixels, so they are not mixed. Use workers of one kind."
                )
            _benches[key] = Bench(plan, engine, Reader(plan.scene), Sink(Path(plan.store)))
        return _benches[key]


def close_bench() -> None:
    """Let go of the open session, reader and sink, if any."""
    for one in _benches.values():
        one.reader.close()
    _benches.clear()


def run_block(plan: Plan, block: int, attempt: int = 1) -> Record:
    """Do one block of a plan.

    Returns a Record whose state is DONE, NODATA (no valid pixel: the network is not asked) or FAILED, with the reason.
    Raises an InputError where no block of this plan could be done here.
    """
    open_bench = bench(plan)
    watch = Stopwatch()
    before = open_bench.reader.bytes_read
    reason, made = None, None
    try:
        made = predict_block(open_bench, block, watch)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a block dies of is recorded with it, none is swallowed
        reason = error.message if isinstance(error, BlockError) else f"{type(error).__name__}: {error}"
    bytes_read = open_bench.reader.bytes_read - before
    if made is None:
        return Record(
            block=block,
            state=State.FAILED,
            shards={},
            counts={},
            area=None,
            seconds=watch.stopped(),
            bytes_read=bytes_read,
            peak=peak_memory(),
            attempts=attempt,
            reason=reason,
            spread=None,
        )
    return put_block(open_bench, block, made, watch, attempt, bytes_read)


@dataclass(frozen=True, slots=True)
class Made:
    """A block's rasters by product, each (rows, cols) or (class, rows, cols) uint8, and how far windows disagreed."""

    rasters: dict[str, NDArray[np.uint8]]
    state: State
    spread: tuple[float, float] | None = None  # the sum over the valid pixels, and the greatest


def predict_block(open_bench: Bench, block: int, watch: Stopwatch) -> Made:
    """Read and predict one block, without writing anything. Raises BlockError."""
    plan = open_bench.plan
    owned, hull = plan.grid.owned(block), plan.grid.hull(block)
    with watch("read"):
        pixels, valid = open_bench.reader.read(hull)
    inside = valid[owned.slices(hull)]
    rasters = {
        product.name: np.full((*((product.channels,) if product.channels else ()), *owned.shape), NODATA, np.uint8)
        for product in plan.products
    }
    if not inside.any():
        return Made(rasters, State.NODATA)
    stitch = _blend if plan.grid.stitch is Stitch.BLEND else _keep_cores
    spread = stitch(_Task(open_bench, block, owned, hull, pixels, valid, rasters, watch))
    if not inside.all():
        for raster in rasters.values():
            raster[..., ~inside] = NODATA
    return Made(rasters, State.DONE, spread)


def put_block(open_bench: Bench, block: int, made: Made, watch: Stopwatch, attempt: int, bytes_read: int) -> Record:
    """Write a block's rasters, each a whole shard, and account for them."""
    owned = open_bench.plan.grid.owned(block)
    with watch("write"):
        shards = {name: open_bench.sink.put(name, owned, raster) for name, raster in made.rasters.items()}
    counts, area = census(open_bench.plan.scene, owned, made.rasters["mask"])
    return Record(
        block=block,
        state=made.state,
        shards=shards,
        counts=counts,
        area=area,
        seconds=watch.stopped(),
        bytes_read=bytes_read,
        peak=peak_memory(),
        attempts=attempt,
        reason=None,
        spread=made.spread,
    )


def put_failed(plan: Plan, failed: Record) -> Record:
    """Write FAILED over a block that is given up, and complete its record."""
    owned = plan.grid.owned(failed.block)
    sink = Sink(Path(plan.store))
    shards = {}
    for product in plan.products:
        shape = (*((product.channels,) if product.channels else ()), *owned.shape)
        shards[product.name] = sink.put(product.name, owned, np.full(shape, FAILED, np.uint8))
    counts, area = census(plan.scene, owned, np.full(owned.shape, FAILED, np.uint8))
    return replace(failed, shards=shards, counts=counts, area=area)


def census(scene: Scene, owned: Rect, mask: NDArray[np.uint8]) -> tuple[dict[int, int], dict[int, float] | None]:
    """Count a block's pixels by value, and in a geographic CRS their area in m² by value."""
    areas = row_areas(scene, owned.top, owned.bottom)
    if areas is None:
        counts = np.bincount(mask.reshape(-1), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}, None
    by_row = np.stack([np.bincount(row, minlength=256) for row in mask])
    counts = by_row.sum(axis=0)
    present = np.flatnonzero(counts)
    weighed = areas @ by_row[:, present]
    return (
        {int(value): int(counts[value]) for value in present},
        {int(value): float(area) for value, area in zip(present, weighed, strict=True)},
    )


@dataclass(frozen=True, slots=True)
class _Task:
    """One block on the bench: what was read, and where its rasters are being filled in."""

    bench: Bench
    block: int
    owned: Rect
    hull: Rect
    pixels: NDArray[np.generic]  # (band, row, col) of the hull
    valid: NDArray[np.bool_]  # (row, col) of the hull
    rasters: dict[str, NDArray[np.uint8]]
    watch: Stopwatch

    def predictions(self, wanted: Callable[[Rect], bool]) -> Iterator[tuple[Rect, Mapping[str, NDArray[Any]]]]:
        """Run the windows that are wanted, in order, in batches; yields each with what the network said of it."""
        plan, engine = self.bench.plan, self.bench.engine
        windows = [window for window in plan.grid.windows(self.block) if wanted(window)]
        for start in range(0, len(windows), plan.recipe.batch):
            batch = windows[start : start + plan.recipe.batch]
            with self.watch("predict"):
                said = engine.run(
                    np.stack([self.pixels[:, *window.slices(self.hull)] for window in batch]),
                    np.stack([self.valid[window.slices(self.hull)] for window in batch]),
                    np.asarray(plan.choices.shift, np.float32),
                    np.asarray(plan.choices.factor, np.float32),
                )
            for number, window in enumerate(batch):
                if not said["finite"][number]:
                    raise BlockError(
                        f"The network says NaN or infinity in the window at row {window.top}, column {window.left}; "
                        "the input there, or the model's precision, is at fault."
                    )
                yield window, {name: values[number] for name, values in said.items()}


def _keep_cores(task: _Task) -> None:
    """Fill the rasters with each window's core."""
    grid = task.bench.plan.grid

    def has_pixels(window: Rect) -> bool:
        return bool(task.valid[grid.core_of(window).slices(task.hull)].any())

    names = {"mask": "classes"}
    for window, said in task.predictions(has_pixels):
        core = grid.core_of(window)
        for product, raster in task.rasters.items():
            kept = said[names.get(product, product)][..., : core.height, : core.width]
            raster[..., *core.slices(task.owned)] = kept


def _blend(task: _Task) -> tuple[float, float]:
    """Fill the rasters with the weighted mean of all windows; returns the sum and the greatest of their spread."""
    card = task.bench.plan.network.card
    total, greatest = 0.0, 0.0
    for band, mean, spread in blended(task.owned, _every_window(task, card.channels)):
        rows, cols = band.slices(task.owned)
        for product, raster in task.rasters.items():
            raster[..., rows, cols] = _blended_product(product, mean, spread, card)
        seen = spread[task.valid[band.slices(task.hull)]]
        if seen.size:
            total, greatest = total + float(seen.sum(dtype=np.float64)), max(greatest, float(seen.max()))
    return total, greatest


def _blended_product(
    product: str, mean: NDArray[np.float32], spread: NDArray[np.float32], card: Card
) -> NDArray[np.uint8]:
    if product == "mask":
        return classes_of(mean, card)
    if product == "confidence":
        return quantised(confidence_of(mean, card))
    return quantised(mean if product == "probabilities" else spread)


def _every_window(task: _Task, channels: int) -> Iterator[tuple[Rect, NDArray[np.float32]]]:
    """All windows of a block with their probabilities; zeros for those without a valid pixel, which have no say."""
    plan = task.bench.plan
    nothing = np.zeros((channels, plan.grid.window, plan.grid.window), np.float32)

    def has_pixels(window: Rect) -> bool:
        return bool(task.valid[window.slices(task.hull)].any())

    said = task.predictions(has_pixels)
    for window in plan.grid.windows(task.block):
        yield (window, next(said)[1]["probabilities"]) if has_pixels(window) else (window, nothing)
