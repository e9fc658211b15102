"""The work of one block: read the hull, predict, write the core, say what it took.

`run_block` is what a worker calls; it needs a Plan and a number, returns a Record, and keeps nothing but an open
session, reader and sink for the next block of the same plan. Done twice, in any order or process, it writes the same
bytes.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.aoi import fence_of, fenced
from pipeline.budget import peak_memory
from pipeline.errors import BlockError, DeviceError, InputError, ModelError
from pipeline.grid import Rect
from pipeline.network.digest import model_digest
from pipeline.network.engine import Engine
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe
from pipeline.network.model_file import load_model
from pipeline.network.rescale import rescaled, trimmed
from pipeline.plan import Network, Plan
from pipeline.predict import Bench, Made, Stopwatch, predict_block
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene, row_areas
from pipeline.settings import FAILED
from pipeline.store.record import Record, State
from pipeline.store.sink import Sink

_benches: dict[str, Bench] = {}  # at most one: the next plan takes its place
_opening = threading.Lock()


def build_engine(network: Network, recipe: Recipe, device: str) -> Engine:
    """Fuse and start a network."""
    return Engine(fused_graph(network, recipe), device)


def fused_graph(network: Network, recipe: Recipe) -> bytes:
    """The graph that an engine runs. Raises ModelError where the file is no longer what was planned."""
    model = load_model(Path(network.path))
    if (found := model_digest(model)) != network.digest:
        raise ModelError(
            f"The model {network.path} has changed since the run was planned: {found[:12]} now, "
            f"{network.digest[:12]} then. Put the old file back, or run with --overwrite."
        )
    card = network.card
    whole = rescaled(trimmed(model, card.layout, network.rim), card.output, card.layout, network.scale)
    return fuse(whole, card, recipe, network.field)


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
            reader = Reader(plan.scene)
            view = reader if plan.grid.zoom == 1 else Reader(plan.view)
            fence = fence_of(plan.area, plan.scene)
            _benches[key] = Bench(plan, engine, reader, view, Sink(Path(plan.store)), fence)
        return _benches[key]


def close_bench() -> None:
    """Let go of the open session, reader and sink, if any."""
    for one in _benches.values():
        one.reader.close()
        one.view.close()
    _benches.clear()


def run_block(plan: Plan, block: int, attempt: int = 1) -> Record:
    """Do one block of a plan.

    Returns a Record whose state is DONE, NODATA (no valid pixel: the network is not asked), OUTSIDE (no pixel
    inside the area: nothing is read) or FAILED, with the reason.
    Raises an InputError where no block of this plan could be done here.
    """
    open_bench = bench(plan)
    watch = Stopwatch()
    before = open_bench.bytes_read
    try:
        made = predict_block(open_bench, block, watch)
        return put_block(open_bench, block, made, watch, attempt, open_bench.bytes_read - before)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a block dies of is recorded with it, none is swallowed
        return Record(
            block=block,
            state=State.FAILED,
            seconds=watch.stopped(),
            bytes_read=open_bench.bytes_read - before,
            peak=peak_memory(),
            attempts=attempt,
            reason=error.message if isinstance(error, BlockError) else f"{type(error).__name__}: {error}",
        )


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
        spread=made.spread,
    )


def put_failed(plan: Plan, failed: Record) -> Record:
    """Write FAILED over a block that is given up, but where it is outside the area, and complete its record."""
    owned = plan.grid.owned(failed.block)
    sink = Sink(Path(plan.store))
    fence = fence_of(plan.area, plan.scene)
    shards = {}
    for product in plan.products:
        shape = (*((product.channels,) if product.channels else ()), *owned.shape)
        shards[product.name] = sink.put(product.name, owned, fenced(np.full(shape, FAILED, np.uint8), fence, owned))
    counts, area = census(plan.scene, owned, fenced(np.full(owned.shape, FAILED, np.uint8), fence, owned))
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
