"""The work of one block: read the hull, predict, write the core, say what it took.

`run_block` is what a worker calls; it needs a Plan and a number, returns a Record, and keeps nothing but an open
session, reader and sink for the next block of the same plan. Done twice, in any order or process, it writes the same
bytes.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.aoi import fence_of, fenced
from pipeline.budget import peak_memory, restart_peak
from pipeline.carried import model_of
from pipeline.errors import BlockError, DeviceError, InputError, RoomError, portable
from pipeline.grid import Rect
from pipeline.lay import narrower
from pipeline.network.card import Card
from pipeline.network.engine import Engine, EngineOutOfMemory
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe
from pipeline.network.providers import CPU
from pipeline.network.rescale import rescaled, trimmed
from pipeline.network.shrink import Shrinking
from pipeline.plan import Kind, Network, Plan
from pipeline.predict import Bench, Made, Stopwatch, all_of, predict_block
from pipeline.raster.reader import Reader
from pipeline.raster.seal import demand_unchanged
from pipeline.raster.source import Scene, row_areas
from pipeline.settings import statuses
from pipeline.store.record import Record, State
from pipeline.store.sink import Sink

_log = logging.getLogger("maskmill")
Outcome = Record | Exception
_benches: dict[str, Bench] = {}  # at most one: the next plan takes its place
_opening = threading.Lock()


def build_engine(network: Network, recipe: Recipe, device: str) -> Engine:
    """Fuse and start a network. Raises DeviceError where a precision of GPUs comes to run on the CPU."""
    engine = Engine(fused_graph(network, recipe), device, precision=recipe.precision)
    if recipe.precision != "fp32" and engine.provider == CPU:
        raise DeviceError(
            f"`precision: {recipe.precision}` is for GPUs, and the network runs on the CPU, which gains nothing by it; "
            f"take fp32. {engine.fallback or ''}"
        )
    return engine


def fused_graph(network: Network, recipe: Recipe) -> bytes:
    """The graph that an engine runs. Raises LackingError where the file is no longer what was planned."""
    model, card = model_of(Path(network.path), network.digest), network.card
    whole = rescaled(trimmed(model, card.layout, network.rim), card.output, card.layout, network.scale)
    return fuse(whole, card, recipe, network.field)


def bench(plan: Plan, hands: int = 1) -> Bench:
    """Open what a plan needs, once per process; its network is run by so many threads at once.

    Raises DeviceError where this process runs another numeric class than the plan, unless that lets classes be mixed.
    """
    key = _key(plan)
    with _opening:
        if key not in _benches:
            close_bench()
            restart_peak()
            engine = _shrinking(plan)
            if engine.numeric_class != plan.choices.numeric_class and not plan.mixed:
                raise DeviceError(
                    f"This worker runs {engine.numeric_class}, the plan was made for {plan.choices.numeric_class}: "
                    "their masks differ in a few pixels, so they are not mixed. Use workers of one kind, or say "
                    "`mixed: true`."
                )
            reader = Reader(plan.scene)
            view = reader if plan.grid.zoom == 1 else Reader(plan.view)
            fence = fence_of(plan.area, plan.scene)
            # On a GPU one block's pixels travel while another's are computed.
            turns = threading.Semaphore(2 if plan.choices.device == "cuda" else hands)
            _benches[key] = Bench(plan, engine, reader, view, Sink(Path(plan.store)), fence, turns)
        return _benches[key]


def _key(plan: Plan) -> str:
    return f"{plan.digest} {plan.store} {plan.scene.uri} {plan.recipe}"


def _shrinking(plan: Plan) -> Shrinking:
    def build(batch: int) -> Engine:
        return build_engine(plan.network, replace(plan.recipe, batch=batch), plan.choices.device)

    return Shrinking(build, plan.recipe.batch)


def close_bench() -> None:
    """Let go of the open session, reader and sink, if any."""
    for one in _benches.values():
        one.reader.close()
        one.view.close()
    _benches.clear()


def run_block(plan: Plan, block: int, attempt: int = 1, hands: int = 1) -> Record:
    """Do one block of a plan; so many threads of this process may do others meanwhile.

    Returns a Record whose state is DONE, NODATA (no valid pixel: the network is not asked), OUTSIDE (no pixel
    inside the area: nothing is read) or FAILED, with the reason.
    Raises an InputError where no block of this plan could be done here.
    """
    readers, watch = bench(plan, hands).readers, Stopwatch()
    before = _bytes_of(readers)
    try:
        open_bench, made = _predicted(plan, block, watch, hands)
        record = put_block(open_bench, block, made, watch, attempt, _bytes_of(readers) - before)
        held = open_bench.plan.grid.core, open_bench.engine.at_once
        return record if held == (plan.grid.core, plan.recipe.batch) else replace(record, held=held)
    except InputError:
        _forget(plan)
        raise
    except Exception as error:  # noqa: BLE001 - whatever a block dies of is recorded with it, none is swallowed
        return Record(
            block=block,
            state=State.FAILED,
            seconds=watch.stopped(),
            bytes_read=_bytes_of(readers) - before,
            peak=peak_memory(),
            attempts=attempt,
            reason=error.message if isinstance(error, BlockError) else f"{type(error).__name__}: {error}",
        )


def _bytes_of(readers: set[Reader]) -> int:
    """Bytes of the tiles that were decoded for this thread so far."""
    return sum(reader.bytes_read for reader in readers)


def _predicted(plan: Plan, block: int, watch: Stopwatch, hands: int) -> tuple[Bench, Made]:
    """A block's pixels and what made them: with smaller windows, where memory does not hold the plan's.

    Raises BlockError, SceneError where the image has changed, RoomError where windows cannot be smaller.
    """
    while True:
        open_bench = bench(plan, hands)
        try:
            made = predict_block(open_bench, block, watch)
        except (EngineOutOfMemory, MemoryError):  # of the device, or of what is read for a window
            tight = open_bench.plan
        except Exception:
            demand_unchanged(plan.scene)  # no block of it would do better
            raise
        else:
            demand_unchanged(plan.scene)
            return open_bench, made
        del open_bench  # and its session, before there is another
        _narrow(plan, tight)


def _narrow(plan: Plan, tight: Plan) -> None:
    """Have this process go on with smaller windows than those of `tight`, of which memory does not hold one."""
    less, key = narrower(tight), _key(plan)
    if less is None:
        raise RoomError(
            f"Memory does not hold one window of {tight.grid.window} px: this process had {peak_memory() >> 20} MiB at "
            "most. "
            + (
                f"A core of {tight.grid.core} px cannot be smaller; give it more memory, by fewer --workers."
                if tight.margin.kind is Kind.EXACT
                else "Smaller ones would change pixels: give it more memory, by fewer --workers, or take a smaller "
                "--window in another --out."
            )
        )
    with _opening:
        if key not in _benches or _benches[key].plan is not tight:  # another thread has done it
            return
        had = _benches.pop(key)
        parts = had.reader, had.view, had.sink, had.fence, had.turns
        del had
        _benches[key] = Bench(less, _shrinking(less), *parts)
    _log.warning(
        "Memory does not hold one window of %d pixels. This process goes on with %d.",
        tight.grid.window,
        less.grid.window,
    )


def _forget(plan: Plan) -> None:
    """Open anew for the next block: what is open may be of a file that is not there any more."""
    with _opening:
        _benches.pop(_key(plan), None)


def do_block(plan: Plan, block: int, attempt: int, hands: int = 1) -> Outcome:
    """Do a block. What keeps this process from doing any comes back as a value: so it leaves its causes behind."""
    try:
        return run_block(plan, block, attempt, hands)
    except InputError as error:
        return portable(error)
    except MemoryError:
        return RoomError(
            f"Memory does not hold the network {plan.network.path}: this process had {peak_memory() >> 20} MiB at "
            "most. Give it more memory, by fewer --workers."
        )


def put_block(open_bench: Bench, block: int, made: Made, watch: Stopwatch, attempt: int, bytes_read: int) -> Record:
    """Write a block's rasters, each a whole shard, and account for them."""
    owned = open_bench.plan.grid.owned(block)
    with watch("write"):
        shards = {name: open_bench.sink.put(name, owned, raster) for name, raster in made.rasters.items()}
    counts, area = census(open_bench.plan.scene, owned, made.rasters["mask"], open_bench.plan.network.card)
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
        ran=open_bench.engine.numeric_class if open_bench.plan.mixed else None,
    )


def put_failed(plan: Plan, failed: Record) -> Record:
    """Write that it failed over a block that is given up, but where it is outside the area, and complete its record."""
    owned = plan.grid.owned(failed.block)
    sink = Sink(Path(plan.store))
    fence = fence_of(plan.area, plan.scene)
    rasters = {name: fenced(raster, fence, owned) for name, raster in all_of("failed", plan, owned).items()}
    shards = {name: sink.put(name, owned, raster) for name, raster in rasters.items()}
    counts, area = census(plan.scene, owned, rasters["mask"], plan.network.card)
    return replace(failed, shards=shards, counts=counts, area=area)


def census(scene: Scene, owned: Rect, mask: NDArray[Any], card: Card) -> tuple[dict[int, int], dict[int, float] | None]:
    """Count a block's pixels by value, and in a geographic CRS their area in m² by value.

    Where the mask has a band for each class, by the value of each class that is there, and by the first class's where
    none is: a pixel may count for several.
    """
    areas = row_areas(scene, owned.top, owned.bottom)
    if areas is None:
        one_row = mask.reshape(*mask.shape[:-2], 1, -1)
        present, by_row = _by_layer(one_row, card) if card.layered else _by_value(one_row)
        return dict(zip(present, by_row.sum(axis=0).tolist(), strict=True)), None
    present, by_row = _by_layer(mask, card) if card.layered else _by_value(mask)
    weighed = areas @ by_row
    return (
        dict(zip(present, by_row.sum(axis=0).tolist(), strict=True)),
        {value: float(area) for value, area in zip(present, weighed, strict=True)},
    )


def _by_value(mask: NDArray[Any]) -> tuple[list[int], NDArray[np.int64]]:
    """The values that are there, and how many pixels of each row (row, value) have each."""
    pixels: dict[int, NDArray[np.int64]] = {}
    for number, row in enumerate(mask):
        counts = np.bincount(row)
        for value in np.flatnonzero(counts).tolist():
            pixels.setdefault(value, np.zeros(len(mask), np.int64))[number] = counts[value]
    present = sorted(pixels)
    return present, np.stack([pixels[value] for value in present], axis=1)


def _by_layer(mask: NDArray[Any], card: Card) -> tuple[list[int], NDArray[np.int64]]:
    """As `_by_value`, of a mask (class, row, col) of 0, 1 and statuses."""
    none, *values = card.values
    pixels = {value: band == 1 for value, band in zip(values, mask, strict=True)}
    pixels |= {none: (mask == 0).all(axis=0)}
    pixels |= {status: mask[0] == status for status in statuses(mask.dtype).named()}
    by_row = {value: there.sum(axis=1) for value, there in sorted(pixels.items()) if there.any()}
    return list(by_row), np.stack(list(by_row.values()), axis=1)
