"""One scene of a job: planned, its blocks done, published. No Prefect here, and of Dask only what a job needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.archive import Rations
from flows.bucketed import mirrored
from flows.crew import Crew
from flows.lanes import Passage, Stage
from flows.lines import holes_of, line
from flows.zoo import model_path
from pipeline.budget import cores
from pipeline.child import Child
from pipeline.errors import MaskmillError
from pipeline.plan import Choices, Network
from pipeline.run import SceneRun, open_run
from pipeline.settings import Job, SceneEntry
from pipeline.settle import Settled, settle
from pipeline.store.record import State
from pipeline.survey import Survey, wanted_of
from pipeline.tune import Tuner

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger("maskmill")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scene is; `done` and `total` are pixels."""

    scene: str
    done: int
    total: int
    failed: int
    stage: str = "blocks"


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Office:
    """What the scenes of a job share."""

    job: Job
    network: Network
    tuner: Tuner
    survey: Survey
    cores: int  # of this machine, or threads of somebody else's workers
    told: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def of(cls, job: Job, child: Child | None = None, client: Client | None = None) -> Iterator[Office]:
        """Open the model; raises an InputError where no scene could be done with it.

        Files are opened in `child`, or in one of its own, which ends with the office. Windows are tried there, or by a
        worker where these are somebody else's.
        """
        with Survey(child) as survey:
            network = survey.network(model_path(job.model), job)
            if client is None:
                yield cls(job, network, Tuner(survey.child, len(job.scenes)), survey, cores())
                return
            from flows.far import FarChild, share_model  # noqa: PLC0415  # Dask's imports take as long as a small scene

            share_model(client, network)
            threads = client.nthreads().values()
            tuner = Tuner(FarChild(client), len(job.scenes), beside=max(threads, default=1))
            yield cls(job, network, tuner, survey, max(1, sum(threads)))

    def settle(self, entry: SceneEntry, frozen: Choices | None) -> Settled:
        """Plan one scene."""
        wanted = wanted_of(self.network.card, self.job, entry)
        allow = [str(folder.resolve()) for folder in self.job.allow]
        scene = self.survey.scene(entry.uri, wanted, entry.name, allow)
        self.survey.area(self.job, scene)
        return settle(self.job, self.network, scene, self.tuner, frozen, self.cores)

    def tell(self, scene: str, notes: tuple[str, ...]) -> None:
        """Say what a user should know of a scene; what holds for all scenes is said once."""
        for note in notes:
            if note not in self.told:
                self.told.add(note)
                _log.warning("%s: %s", scene, note)

    def open(self, entry: SceneEntry, rations: Rations) -> SceneRun:
        """Open one scene's run. Raises what `rations` raise, before anything is written of a scene that is new."""

        def settle(frozen: Choices | None) -> Settled:
            settled = self.settle(entry, frozen)
            if frozen is None:
                rations.demand(entry.name, settled.plan.grid.scene.area)
            return settled

        run = open_run(self.job.model_copy(update={"scenes": (entry,)}), entry.name, settle)
        if pixels := sum(run.plan.grid.owned(block).area for block in run.todo):
            try:
                rations.demand(entry.name, pixels)
            except BaseException as error:
                run.__exit__(type(error), error, None)
                raise
            rations.take(entry.name, pixels)
        return run


def run_scene(
    office: Office, crew: Crew, entry: SceneEntry, listen: Listener, rations: Rations, passage: Passage
) -> tuple[dict[str, Any], list[str]]:
    """Do one scene, or what is left of it; returns its line and a sentence for each hole.

    Raises CarriedOverError where it is for the next run, and the InputError of a scene that cannot start; one that
    comes later ends the scene, and is its one sentence. `passage` is in the stage of opening; raises StoppedError where
    the run is being stopped.
    """
    with mirrored(office.job, entry.name) as follow:
        run = office.open(entry, rations)
        try:
            with run, follow(run.folder, listen) as heard:
                office.tell(run.plan.scene.name, run.settled.notes)
                return _run_open(crew, run, heard, passage)
        except MaskmillError as error:
            kept = "What is done is kept, and the same command goes on from there."
            return line(run, run.facts().as_dict(), False), [f"{entry.name} is not finished: {error.message} {kept}"]


def _run_open(crew: Crew, run: SceneRun, listen: Listener, passage: Passage) -> tuple[dict[str, Any], list[str]]:
    name = run.plan.scene.name
    already = run.complete and run.published and not run.todo
    run.started += passage.enter(Stage.BLOCKS)
    _do_blocks(run, crew, listen, passage)
    run.started += passage.enter(Stage.PUBLISHING)
    report = run.finish(lambda stage, done, total: listen(Progress(name, done, total, 0, stage)))
    total = run.plan.grid.height * run.plan.grid.width
    listen(Progress(name, total, total, report["blocks"]["failed"]))
    return line(run, report, already), holes_of(run, report)


def _do_blocks(run: SceneRun, crew: Crew, listen: Listener, passage: Passage) -> None:
    grid = run.plan.grid
    if not run.todo:
        return
    total = grid.height * grid.width
    done = total - sum(grid.owned(block).area for block in run.todo)
    failed = 0
    listen(Progress(run.plan.scene.name, done, total, failed))
    for record in crew.records(run, passage.line.demand_going):
        run.take(record)
        done += grid.owned(record.block).area
        failed += record.state is State.FAILED
        listen(Progress(run.plan.scene.name, done, total, failed))
