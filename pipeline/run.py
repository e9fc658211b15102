"""One scene's run, as its coordinator sees it: what is to be done, what was done, and the publishing when all is.

    run = open_run(job, settle)         nothing is written before all that can be refused has been
    for record in …run.todo…:           any executor, any order
        run.take(record)
    run.finish()                        publishes, unless a block is pending

The ledger alone says what is done; a run that was killed at any instant is opened again in the same way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.about import note
from pipeline.budget import demand_disk, demand_memory, peak_memory
from pipeline.errors import IdentityError, LeaseError, MaskmillError, SettingsError
from pipeline.folder import Folder, asked_of, exchange_interrupted, finish_exchange
from pipeline.making import Submit
from pipeline.plan import Choices, Plan, demand_same
from pipeline.publish import Ahead, Tick, intact, publish
from pipeline.raster.stage import reason_to_stage
from pipeline.report import Blocks, Facts
from pipeline.settings import Job
from pipeline.settle import Settled, before_the_first_block
from pipeline.store.hierarchy import create
from pipeline.store.lease import Lease
from pipeline.store.ledger import JOURNAL, Ledger
from pipeline.store.objects import drop_partials, sentences
from pipeline.store.record import Record, State
from pipeline.store.sink import Sink
from pipeline.survey import staged
from pipeline.work import put_failed

Settle = Callable[[Choices | None], Settled]


@dataclass(slots=True)
class SceneRun:
    """A scene's run between its opening and its end; made by `open_run`, used with `with`."""

    job: Job
    folder: Folder
    settled: Settled
    plan: Plan
    ledger: Ledger
    lease: Lease
    todo: list[int]
    started: float = field(default_factory=time.time)
    ahead: Ahead | None = None
    hands: int = 1  # processes that do blocks
    _began: float | None = None
    _ended: float = 0.0
    _predicted: float = 0.0
    _pixels: int = 0

    def __enter__(self) -> SceneRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Of several refusals the first is told; and a store that was waited for once is not waited for again.
        patience, told = (None, nullcontext()) if kind is None else (0.0, suppress(MaskmillError))
        with told, ExitStack() as stack:
            stack.callback(self.lease.release, patience)
            stack.callback(self.ledger.close, patience)
            if self.ahead:
                stack.callback(self.ahead.close)

    @property
    def complete(self) -> bool:
        """Whether nothing is pending."""
        return not len(self.ledger.fold.of(State.PENDING))

    @property
    def published(self) -> bool:
        """Whether what users find is what the ledger says."""
        return not self.folder.building.exists()

    def make_ahead(self, submit: Submit | None) -> None:
        """Have what is published made as blocks are done, by whoever `submit` gives it to; None: by threads here."""
        self.ahead = self._ahead(submit, set(range(len(self.plan.grid))) - set(self.todo))

    def take(self, record: Record) -> None:
        """Believe a worker: its shards are synced. A block given up gets its FAILED pixels here.

        Raises LeaseError where another run has taken the folder, and what the store refuses for good.
        """
        self.lease.check()
        self._ended, took = time.time(), sum(record.seconds.values())
        self._began = min(self._began or self._ended, self._ended - took)
        self._predicted += record.seconds.get("predict", 0.0)
        self._pixels += self.plan.grid.owned(record.block).area
        self.ledger.append(put_failed(self.plan, record) if record.state is State.FAILED else record)
        if self.ahead:
            self.ahead.making.took(record.block)

    def _ahead(self, submit: Submit | None, done: Iterable[int]) -> Ahead:
        return Ahead.begin(self.plan, self.folder, self.settled.interest.extent, submit, done)

    def facts(self) -> Facts:
        """What the report is made of, as of now."""
        seconds = self._ended - self._began if self._began else 0.0
        waited = max(0.0, self.hands * seconds - self._predicted)
        blocks = Blocks(seconds, waited, self.hands, self._pixels) if seconds else None
        return Facts(self.settled, self.ledger.fold, time.time() - self.started, peak_memory(), blocks)

    def finish(self, tick: Tick) -> dict[str, Any]:
        """Publish if nothing is pending and something is new; returns the report."""
        self.ledger.flush()
        facts = self.facts()
        if self.complete and not self.published:
            ahead = self.ahead = self.ahead or self._ahead(None, range(len(self.plan.grid)))
            with sentences(self.folder.path):
                made, facts = publish(self.plan, self.folder, ahead, self.facts, tick)
            self.ledger.event("published", made)
        report = facts.as_dict()
        if self.complete and self.folder.beside:
            self.ledger.close()
            self.folder.take_place()
        return report


def open_run(job: Job, name: str, settle: Settle) -> SceneRun:
    """Decide everything, then take the folder: fresh, to go on with, or beside the old result.

    `settle` makes the plan from what the folder has frozen, or from nothing. Raises an InputError, having written
    nothing: the folder holds another result, memory or disk do not hold the run, another run holds the folder.
    """
    for place in (job.out, job.out / name):
        demand_writable(place)
    if exchange_interrupted(job.out, name):
        with _hold(job.out, name):
            finish_exchange(job.out, name)
    folder, settled, resumed = _choose_folder(job, name, settle)
    demand_startable(job, settled, fresh=not resumed)
    absent = _absent(job.out, name)
    try:
        lease = _hold(job.out, name)
    except BaseException:
        _remove_empty(absent)
        raise
    if not resumed and not folder.beside and folder.choices():
        lease.release()
        raise LeaseError(f"Another run has made {folder.path} since this one looked; run again to go on with it.")
    try:
        return _begin(job, folder, settled, lease, resumed)
    except BaseException:
        if resumed:
            lease.release()
        else:
            folder.discard()
            lease.withdraw()
            _remove_empty(absent)
        raise


def demand_startable(job: Job, settled: Settled, fresh: bool) -> None:
    """Raise an InputError where a planned run would not fit into memory, on the disk, or may not write there."""
    demand_writable(job.out)
    demand_memory(replace(settled.budget, workers=0) if job.far else settled.budget, job.memory)
    if fresh:
        demand_disk(settled.budget, job.out)


def _hold(out: Path, name: str) -> Lease:
    """Keep other runs of the scene out. The lease lies beside the scenes: the folder itself may change places."""
    return Lease.acquire(out / ".leases" / name, f"a run of {name}")


def _absent(out: Path, name: str) -> list[Path]:
    """The folders that holding a scene will make, the innermost first."""
    place = out / ".leases" / name
    return [folder for folder in (place, *place.parents) if not folder.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Remove what was made in vain; a folder that another run has found a use for stays."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _choose_folder(job: Job, name: str, settle: Settle) -> tuple[Folder, Settled, bool]:
    """Where this result is made, its plan, and whether it was begun before."""
    final, beside = Folder(job.out, name), Folder(job.out, name, beside=True)
    if job.overwrite is not True:
        had = final.choices()
        settled = settle(had[1] if had else None)
        same = had is not None and had[0] == settled.plan.identity
        if had and not job.overwrite:
            demand_same(had[0], settled.plan.identity, str(final.path))
        if same or not had or not job.overwrite:
            return final, settled, had is not None
    for folder in (beside, final):
        begun = _begun(folder)
        if begun:
            settled = settle(begun[1])
            if begun[0] == settled.plan.identity:
                return folder, settled, True
    return (beside if final.path.exists() else final), settle(None), False


def _begun(folder: Folder) -> tuple[dict[str, Any], Choices] | None:
    """What an unfinished result is; None where there is none, it is what users already have, or it is not ours."""
    try:
        return None if (folder.path / "report.json").exists() and not folder.beside else folder.choices()
    except (IdentityError, SettingsError):
        return None


def _begin(job: Job, folder: Folder, settled: Settled, lease: Lease, resumed: bool) -> SceneRun:
    """Lay out the folder, or find out what in it is still to be done."""
    plan = settled.plan
    drop_partials(folder.ledger)
    if not resumed:
        if folder.beside:
            folder.discard()
        folder.freeze(plan.identity, plan.choices, asked_of(job, plan))
    had_journal = (folder.ledger / JOURNAL).exists()
    if had_journal:
        ledger = Ledger.resume(folder.ledger)
    else:
        ledger = Ledger.create(folder.ledger, plan.grid.blocks, _header(plan))
    try:
        lay_out(plan, folder.store)
        todo = _to_do(plan, ledger, Sink(folder.store))
        if folder.published.exists() and not folder.building.exists():
            if todo or not intact(folder, ledger):
                folder.reopen()
            else:
                folder.clear_stage()
        note(plan, folder.ledger, anew=bool(todo))
        scene = plan.scene
        if todo and reason_to_stage(scene):
            with before_the_first_block():
                scene = staged(scene, folder.stage)
        if had_journal and todo:
            ledger.event("resumed", {"pending": len(todo)})
        return SceneRun(job, folder, settled, plan.on(str(folder.store), scene), ledger, lease, todo)
    except BaseException:
        ledger.close()
        raise


def _header(plan: Plan) -> dict[str, Any]:
    """What `status` needs to know without the plan."""
    grid = plan.grid
    sides = {"height": grid.height, "width": grid.width, "block": grid.block}
    return {"scene": plan.scene.name, "identity": plan.digest, **sides}


def lay_out(plan: Plan, store: Path) -> None:
    """Write the hierarchy's metadata, or repair it; the same bytes each time."""
    legend = [(one.value, one.name, one.colour) for one in plan.network.card.legend]
    create(store, plan.grid, plan.products, plan.grid.chunk, georef=plan.georef, classes=legend)


def _to_do(plan: Plan, ledger: Ledger, sink: Sink) -> list[int]:
    """Blocks that are pending, that failed, or whose shards are not what the ledger says; the latter are removed."""
    fold = ledger.fold
    for block in range(len(plan.grid)):
        if fold.state(block) is State.PENDING:
            continue
        place = plan.grid.position(block)
        broken = [name for name, shard in fold.shards(block).items() if not sink.check(name, *place, shard)]
        for name in broken:
            sink.remove(name, *place)
        if broken:
            ledger.remove(block)
    return sorted([*fold.of(State.PENDING).tolist(), *fold.of(State.FAILED).tolist()])


def demand_writable(out: Path) -> None:
    """Raise SettingsError where results cannot be written, without writing any."""
    with sentences(out):
        there = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise SettingsError(f"{there} is a file; --out must name a folder for results.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingsError(f"{there} cannot be written by this user; take another --out, or change its rights.")
