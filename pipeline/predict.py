"""The pixels of one block: what its windows say, kept core by core or blended. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.aoi import inside_of
from pipeline.errors import BlockError
from pipeline.grid import Rect, Stitch
from pipeline.network.blend import blended
from pipeline.network.card import Card
from pipeline.network.engine import Engine
from pipeline.network.rule import classes_of, confidence_of, quantised
from pipeline.plan import Plan
from pipeline.raster.area import Fence
from pipeline.raster.reader import Reader
from pipeline.settings import statuses
from pipeline.store.record import State
from pipeline.store.sink import Sink


@dataclass(slots=True)
class Bench:
    """What a worker keeps open for one plan."""

    plan: Plan
    engine: Engine
    reader: Reader  # of the scene
    view: Reader  # of the scene as the network sees it: the same, unless its resolution is another
    sink: Sink
    fence: Fence | None = None

    @property
    def bytes_read(self) -> int:
        """Bytes of the tiles that were decoded so far."""
        return self.reader.bytes_read + (self.view.bytes_read if self.view is not self.reader else 0)


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


@dataclass(frozen=True, slots=True)
class Made:
    """A block's rasters by product, each (rows, cols) or (class, rows, cols), and how far windows disagreed."""

    rasters: dict[str, NDArray[Any]]
    state: State
    spread: tuple[float, float] | None = None  # the sum over the valid pixels, and the greatest


def predict_block(open_bench: Bench, block: int, watch: Stopwatch) -> Made:
    """Read and predict one block, without writing anything. Raises BlockError."""
    plan = open_bench.plan
    owned, seen, hull = plan.grid.owned(block), plan.grid.seen(block), plan.grid.hull(block)
    with watch("read"):
        inside = inside_of(open_bench.fence, owned)
        if inside is False:
            return Made(all_of("outside", plan, owned), State.OUTSIDE)
        pixels, valid = open_bench.view.read(hull)
        there = valid[seen.slices(hull)] if plan.grid.zoom == 1 else open_bench.reader.read(owned)[1]
    wanted = there & inside
    if wanted.any():
        rasters, spread = _predicted(open_bench, block, pixels, valid, wanted, watch)
    else:
        rasters, spread = all_of("nodata", plan, owned), None
    if not wanted.all():
        for raster in rasters.values():
            raster[..., ~wanted] = _without(inside, owned, raster.dtype)[~wanted]
    return Made(rasters, State.DONE if wanted.any() else State.NODATA, spread)


def _without(inside: NDArray[np.bool_] | bool, owned: Rect, dtype: DTypeLike) -> NDArray[Any]:
    """What a pixel that is not predicted holds: nodata inside the area, else outside."""
    told = statuses(dtype)
    lacking: NDArray[Any] = np.where(np.broadcast_to(inside, owned.shape), told.nodata, told.outside).astype(dtype)
    return lacking


def _predicted(
    open_bench: Bench,
    block: int,
    pixels: NDArray[np.generic],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    watch: Stopwatch,
) -> tuple[dict[str, NDArray[Any]], tuple[float, float] | None]:
    """The rasters of what a block owns, right where it is wanted, and the sum and the greatest of the windows' spread.

    `pixels` and `valid` are those of the hull, in pixels of the view; `wanted` (row, col) is in pixels of the scene.
    """
    plan = open_bench.plan
    seen, hull = plan.grid.seen(block), plan.grid.hull(block)
    rows, cols = plan.grid.spread(block)
    taken = wanted
    if plan.grid.zoom != 1:
        down, across = wanted.nonzero()
        taken = np.zeros(seen.shape, np.bool_)
        taken[rows[down], cols[across]] = True
        taken &= valid[seen.slices(hull)]
    rasters = all_of("nodata", plan, seen)
    stitch = _blend if plan.grid.stitch is Stitch.BLEND else _keep_cores
    spread = stitch(_Task(open_bench, block, seen, hull, pixels, valid, taken, rasters, watch))
    if plan.grid.zoom != 1:
        rasters = {name: raster.take(rows, axis=-2).take(cols, axis=-1) for name, raster in rasters.items()}
    return rasters, spread


def all_of(status: Literal["failed", "outside", "nodata"], plan: Plan, rect: Rect) -> dict[str, NDArray[Any]]:
    """A raster of one status for each product over a rectangle."""
    return {
        product.name: np.full(product.shape(*rect.shape), getattr(statuses(product.dtype), status), product.dtype)
        for product in plan.products
    }


@dataclass(frozen=True, slots=True)
class _Task:
    """One block on the bench: what was read, and where its rasters are being filled in. All in pixels of the view."""

    bench: Bench
    block: int
    seen: Rect  # what the rasters cover
    hull: Rect
    pixels: NDArray[np.generic]  # (band, row, col) of the hull
    valid: NDArray[np.bool_]  # (row, col) of the hull
    wanted: NDArray[np.bool_]  # (row, col) of what is seen: valid, and inside the area
    rasters: dict[str, NDArray[Any]]
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
        return bool(task.wanted[grid.core_of(window).intersect(task.seen).slices(task.seen)].any())

    names = {"mask": "classes"}
    for window, said in task.predictions(has_pixels):
        core = grid.core_of(window)
        kept = core.intersect(task.seen)  # all of it, unless blocks end inside cores
        for product, raster in task.rasters.items():
            place = raster[..., *kept.slices(task.seen)]
            if (name := names.get(product, product)) in said:
                place[:] = said[name][..., *kept.slices(core)].reshape(place.shape)
            else:
                place[:] = 0  # beside values the mask holds statuses alone


def _blend(task: _Task) -> tuple[float, float]:
    """Fill the rasters with the weighted mean of all windows; returns the sum and the greatest of their spread."""
    card = task.bench.plan.network.card
    total, greatest = 0.0, 0.0
    for band, mean, spread in blended(task.seen, _every_window(task, card.channels)):
        rows, cols = band.slices(task.seen)
        for product, raster in task.rasters.items():
            place = raster[..., rows, cols]
            place[:] = _blended_product(product, mean, spread, card).reshape(place.shape)
        seen = spread[task.wanted[rows, cols]]
        if seen.size:
            total, greatest = total + float(seen.sum(dtype=np.float64)), max(greatest, float(seen.max()))
    return total, greatest


def _blended_product(product: str, mean: NDArray[np.float32], spread: NDArray[np.float32], card: Card) -> NDArray[Any]:
    if product == "mask":
        return classes_of(mean, card)
    if product == "confidence":
        return quantised(confidence_of(mean, card))
    answer = spread if product == "disagreement" else mean
    return answer if card.says == "values" else quantised(answer)


def _every_window(task: _Task, channels: int) -> Iterator[tuple[Rect, NDArray[np.float32]]]:
    """What the network says of all windows of a block, and where; zeros of those without a valid pixel.

    A network that says less than its window (its field's offset) says it of the window's middle.
    """
    plan = task.bench.plan
    answer = plan.network.card.answer
    less = plan.network.field.offset
    side = plan.grid.window - 2 * less
    nothing = np.zeros((channels, side, side), np.float32)

    def has_pixels(window: Rect) -> bool:
        decides = task.wanted[window.intersect(task.seen).slices(task.seen)].any()
        return bool(decides and task.valid[window.slices(task.hull)].any())

    said = task.predictions(has_pixels)
    for window in plan.grid.windows(task.block):
        yield window.grown(-less), next(said)[1][answer] if has_pixels(window) else nothing
