"""The pixels of one block: what its windows say, kept core by core or blended. Writes nothing."""

from __future__ import annotations

import threading
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
from pipeline.network.rule import classes_of, confidence_of, quantised
from pipeline.network.shrink import Shrinking
from pipeline.plan import Plan
from pipeline.raster.area import Fence
from pipeline.raster.reader import Pixels, Reader, Valid
from pipeline.settings import statuses
from pipeline.store.record import State
from pipeline.store.sink import Sink
from pipeline.strips import Strips


@dataclass(slots=True)
class Bench:
    """What a worker keeps open for one plan."""

    plan: Plan
    engine: Shrinking
    reader: Reader  # of the scene
    view: Reader  # of the scene as the network sees it: the same, unless its resolution is another
    sink: Sink
    fence: Fence | None = None
    turns: threading.Semaphore = field(default_factory=threading.Semaphore)  # how many blocks use the device at once

    @property
    def readers(self) -> set[Reader]:
        """Of the scene and of its view, which may be one."""
        return {self.reader, self.view}


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
    owned, seen = plan.grid.owned(block), plan.grid.seen(block)
    with watch("read"):
        inside = inside_of(open_bench.fence, owned)
        if inside is False:
            return Made(all_of("outside", plan, owned), State.OUTSIDE)
        there = inside if plan.grid.zoom == 1 else open_bench.reader.read(owned)[1] & inside
    rows, cols = plan.grid.spread(block)
    asked = np.broadcast_to(there, seen.shape) if plan.grid.zoom == 1 else _met(np.asarray(there), rows, cols, seen)
    task = _Task(open_bench, block, seen, asked, np.zeros(seen.shape, np.bool_), all_of("nodata", plan, seen), watch)
    spread = (_blend if plan.grid.stitch is Stitch.BLEND else _keep_cores)(task)
    rasters, wanted = task.rasters, task.wanted
    if plan.grid.zoom != 1:
        rasters = {name: raster.take(rows, axis=-2).take(cols, axis=-1) for name, raster in rasters.items()}
        wanted = np.asarray(there)
    if not wanted.any():
        rasters, spread = all_of("nodata", plan, owned), None
    if not wanted.all():
        for raster in rasters.values():
            raster[..., ~wanted] = _without(inside, owned, raster.dtype)[~wanted]
    return Made(rasters, State.DONE if wanted.any() else State.NODATA, spread)


def _met(there: NDArray[np.bool_], rows: NDArray[np.int64], cols: NDArray[np.int64], seen: Rect) -> NDArray[np.bool_]:
    """Which pixels of the view are those of some pixel of the scene."""
    down, across = there.nonzero()
    met = np.zeros(seen.shape, np.bool_)
    met[rows[down], cols[across]] = True
    return met


def _without(inside: NDArray[np.bool_] | bool, owned: Rect, dtype: DTypeLike) -> NDArray[Any]:
    """What a pixel that is not predicted holds: nodata inside the area, else outside."""
    told = statuses(dtype)
    lacking: NDArray[Any] = np.where(np.broadcast_to(inside, owned.shape), told.nodata, told.outside).astype(dtype)
    return lacking


def all_of(status: Literal["failed", "outside", "nodata"], plan: Plan, rect: Rect) -> dict[str, NDArray[Any]]:
    """A raster of one status for each product over a rectangle."""
    return {
        product.name: np.full(product.shape(*rect.shape), getattr(statuses(product.dtype), status), product.dtype)
        for product in plan.products
    }


Said = Mapping[str, NDArray[Any]] | None  # what the network says of a window; None where it was not asked


@dataclass(frozen=True, slots=True)
class _Task:
    """One block on the bench: where its rasters are being filled in. All in pixels of the view."""

    bench: Bench
    block: int
    seen: Rect  # what the rasters cover
    asked: NDArray[np.bool_]  # (row, col) of what is seen: inside the area
    wanted: NDArray[np.bool_]  # and valid, as far as was read
    rasters: dict[str, NDArray[Any]]
    watch: Stopwatch

    def predictions(self, wanted: Callable[[Rect, Valid], bool]) -> Iterator[tuple[Rect, Said]]:
        """Run the windows that are wanted, in batches; yields all windows in order, and what was said of them."""
        grid, size = self.bench.plan.grid, self.bench.plan.recipe.batch
        strips = Strips(self.bench.view, grid.hull(self.block), self._saw, lambda: self.watch("read"))
        order: list[tuple[Rect, bool]] = []
        batch: list[tuple[Pixels, Valid]] = []
        for window in grid.windows(self.block):
            pixels, valid = strips.of(window)
            order.append((window, wanted(window, valid)))
            if order[-1][1]:
                batch.append((pixels, valid))
            if len(batch) == size:
                yield from self._run(order, batch)
                order, batch = [], []
        yield from self._run(order, batch)

    def _saw(self, band: Rect, valid: Valid) -> None:
        """What of a band is wanted, now that its validity is known."""
        part = band.intersect(self.seen)
        if part.area:
            here = part.slices(self.seen)
            self.wanted[here] = self.asked[here] & valid[part.slices(band)]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the device."""
        with self.watch("wait"):
            self.bench.turns.acquire()
        try:
            yield
        finally:
            self.bench.turns.release()

    def _run(self, order: list[tuple[Rect, bool]], batch: list[tuple[Pixels, Valid]]) -> Iterator[tuple[Rect, Said]]:
        plan, said, number = self.bench.plan, {}, 0
        if batch:
            with self._turn(), self.watch("predict"):
                said = self.bench.engine.run(
                    [pixels for pixels, _ in batch],
                    [valid for _, valid in batch],
                    np.asarray(plan.choices.shift, np.float32),
                    np.asarray(plan.choices.factor, np.float32),
                )
        for window, ran in order:
            if not ran:
                yield window, None
                continue
            if not said["finite"][number]:
                raise BlockError(
                    f"The network says NaN or infinity in the window at row {window.top}, column {window.left}; "
                    "the input there, or the model's precision, is at fault."
                )
            yield window, {name: values[number] for name, values in said.items()}
            number += 1


def _keep_cores(task: _Task) -> None:
    """Fill the rasters with each window's core."""
    grid = task.bench.plan.grid

    def has_pixels(window: Rect, _valid: Valid) -> bool:
        return bool(task.wanted[grid.core_of(window).intersect(task.seen).slices(task.seen)].any())

    names = {"mask": "classes"}
    for window, said in task.predictions(has_pixels):
        if said is None:
            continue
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

    def has_pixels(window: Rect, valid: Valid) -> bool:
        return bool(task.wanted[window.intersect(task.seen).slices(task.seen)].any() and valid.any())

    for window, said in task.predictions(has_pixels):
        yield window.grown(-less), nothing if said is None else said[answer]
