"""Two parts about the coordinator alone.

tasks    200 000 blocks that take no time, through a real scheduler: milliseconds for each, memory at the end
ledger   ten million blocks through a generator and the ledger
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from flows.cluster import local_cluster
from flows.feed import Feed
from flows.office import Office
from pipeline.document import load_job
from pipeline.errors import BlockError
from pipeline.grid import Grid, Rect
from pipeline.plan import Plan
from pipeline.run import lay_out
from pipeline.settings import SceneEntry
from pipeline.store.ledger import Ledger
from pipeline.store.objects import Shard
from pipeline.store.record import Record, State
from tests.bench.command import WORKERS
from tests.bench.scenes import write_scene

FEW, MANY = 20_000, 200_000
LEDGER = (2_500, 4_000)  # blocks, down and across


@dataclass(frozen=True, slots=True)
class NoGrid(Grid):
    """A grid whose blocks are refused at once: what is left is what a block costs without its work."""

    def owned(self, block: int) -> Rect:
        """No pixels."""
        raise BlockError(f"Block {block} is not there.")


def tasks(folder: Path, model: str) -> None:
    plan = _plan(folder, model)
    with local_cluster(WORKERS) as client:
        feed = Feed(client, plan, 1, lambda: WORKERS)
        sizes = []
        for count in (FEW, MANY - FEW):
            start = time.perf_counter()
            done = sum(1 for _ in feed.records(range(count)))
            took = time.perf_counter() - start
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
            print(
                f"tasks: {done} blocks, {1000 * took / done:.2f} ms each, then {sizes[-1] / 2**20:.0f} MiB", flush=True
            )
    print(f"tasks: memory after {MANY} blocks is {sizes[1] / sizes[0]:.3f} times that after {FEW}")


def _plan(folder: Path, model: str) -> Plan:
    scene = folder / "scene.tif"
    write_scene(scene, 1024, 1024)
    said = {"scenes": [str(scene)], "model": model, "out": folder / "out", "device": "cpu", "window": 368}
    with Office.of(load_job(None, said)) as office:
        plan = office.settle(SceneEntry(name="scene", uri=str(scene)), None).plan
    lay_out(plan, folder / "store")
    sides = {one.name: getattr(plan.grid, one.name) for one in fields(Grid)}
    return replace(plan, grid=NoGrid(**sides)).on(str(folder / "store"))


def ledger(folder: Path, _model: str) -> None:
    count = LEDGER[0] * LEDGER[1]
    start = time.perf_counter()
    with Ledger.create(folder / "ledger", LEDGER, {"scene": "none"}) as journal:
        for record in _records(count):
            journal.append(record)
    written, start = time.perf_counter() - start, time.perf_counter()
    held = psutil.Process().memory_info().rss
    with Ledger.resume(folder / "ledger") as journal:
        assert len(journal.fold.of(State.DONE)) == count
    read = time.perf_counter() - start
    size = (folder / "ledger" / "journal.jsonl").stat().st_size
    print(
        f"ledger: {count} blocks in {written:.0f} s, {1e6 * written / count:.1f} µs each, {size / 2**20:.0f} MiB; "
        f"read in {read:.0f} s; {held / 2**20:.0f} MiB of memory"
    )


def _records(count: int) -> Iterator[Record]:
    seconds = {"read": 0.01, "predict": 0.5, "stitch": 0.01, "write": 0.01}
    for block in range(count):
        shards, counts = {"mask": Shard(1000 + block % 999, block)}, {0: 1000, 1: block % 4096}
        yield Record(block=block, state=State.DONE, shards=shards, counts=counts, seconds=seconds, bytes_read=1, peak=1)
