"""What the commands and the flow do, as plain functions: no Prefect here.

A job is done scene by scene; each scene's blocks go to the Dask workers of one cluster, which is started when the
first block is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.archive import Rations, Selection, catalogued
from flows.batches import placed
from flows.crew import Crew, import_early
from flows.golden import again, demand_same_mask
from flows.lines import CARRIED_OVER, JobReport, holes_of, line
from flows.quarantine import refusal
from flows.room import Room, demand_room, room_for
from flows.sources.listed import LeftOut
from flows.zoo import model_path
from pipeline.budget import cores
from pipeline.child import Child
from pipeline.errors import CarriedOverError, InputError, MaskmillError, SceneError
from pipeline.folder import Folder
from pipeline.plan import Choices, Network
from pipeline.run import SceneRun, demand_startable, open_run
from pipeline.settings import Job, SceneEntry
from pipeline.settle import Settled, settle
from pipeline.store.record import State
from pipeline.survey import Survey, wanted_of
from pipeline.tune import Tuner
from pipeline.verify import Verdict, verify

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
            rations.take(pixels)
        return run


def run_job(
    job: Job, on_progress: Listener | None = None, child: Child | None = None, begun: Rations | None = None
) -> JobReport:
    """Do the scenes of a job: those that are named, and of an archive those that are due.

    `begun` is what the parts of the job before this one have begun of what it may.

    A scene that is refused or has holes is a problem, and the others are done; raises its InputError where no scene
    could start.
    """
    left = LeftOut()
    job, found = placed(job.begun(datetime.now(UTC)), left)
    for note in (*left.notes(), *found.notes()):
        _log.warning("%s", note)
    if begun is None:  # else the whole job was looked at before its parts
        demand_room(job, found)
    rations = replace(begun, job=job) if begun else Rations(job)
    night = _Night(job, rations, on_progress or _nobody, JobReport.aside(found, job, left.problems))
    if found.due:
        night.do(found, child)
    if found.of_archive:
        catalogued(job, night.rows)
    return night.report()


@dataclass(slots=True)
class _Night:
    """One run over a job's scenes, as far as it has come."""

    job: Job
    rations: Rations
    listen: Listener
    aside: JobReport
    problems: list[str] = field(default_factory=list)
    carried_over: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[InputError] = field(default_factory=list)

    def do(self, found: Selection, child: Child | None) -> None:
        """Do scene after scene, until there are none, or the run may begin no more."""
        with ExitStack() as stack:
            client = _hired(stack, self.job)
            importing = import_early()
            office = stack.enter_context(Office.of(self.job, child, client))
            crew = Crew(stack, office.survey.child, len(found.due), client, importing)
            if self.job.golden:
                _demand_golden(office, crew, self.job.golden)
            for place, due in enumerate(found.due):
                try:
                    self._one(office, crew, due.entry)
                except CarriedOverError:
                    self.carried_over += len(found.due) - place
                    break

    def _one(self, office: Office, crew: Crew, entry: SceneEntry) -> None:
        try:
            row, holes = run_scene(office, crew, entry, self.listen, self.rations)
        except InputError as error:
            self.refused.append(error)
            self.problems.append(f"{entry.name} is refused: {error.message}")
            self.rows.append(refusal(entry.name, error))
        else:
            self.rows.append(row)
            self.problems.extend(holes)
            self.carried_over += row["state"] == CARRIED_OVER

    def report(self) -> JobReport:
        """What came of it. Raises the InputErrors where nothing but these came of it."""
        carried_over = self.aside.carried_over + self.carried_over
        if self.refused and len(self.refused) == len(self.rows) and not carried_over:
            if len(self.refused) == 1:
                raise self.refused[0]
            raise SceneError(f"None of {len(self.refused)} scenes could start: {' '.join(self.problems)}")
        return self.aside.plus(self.rows, self.problems, self.carried_over, self.rations.begun())


def _hired(stack: ExitStack, job: Job) -> Client | None:
    """A client of somebody else's workers; None where a job has its own. Raises ClusterError where there is none."""
    if isinstance(job.cluster, str):
        return None
    from flows.far import far_cluster  # noqa: PLC0415  # as above

    return stack.enter_context(far_cluster(job.cluster, job.workers))


def run_scene(
    office: Office, crew: Crew, entry: SceneEntry, listen: Listener, rations: Rations
) -> tuple[dict[str, Any], list[str]]:
    """Do one scene, or what is left of it; returns its line and a sentence for each hole.

    Raises CarriedOverError where it is for the next run, and the InputError of a scene that cannot start; one that
    comes later ends the scene, and is its one sentence.
    """
    run = office.open(entry, rations)
    try:
        with run:
            return _run_open(office, crew, run, listen)
    except MaskmillError as error:
        kept = "What is done is kept, and the same command goes on from there."
        return line(run, run.facts().as_dict(), False), [f"{entry.name} is not finished: {error.message} {kept}"]


def _demand_golden(office: Office, crew: Crew, golden: Path) -> None:
    """Do a scene again of which there is a trusted result, with the model, the settings and the workers of this run.

    Raises GoldenError where it does not come out as it did, and then nothing is begun.
    """
    with again(office.job, golden) as (job, entry):
        row, problems = run_scene(replace(office, job=job), crew, entry, _nobody, Rations(job))
        demand_same_mask(golden, job.out / entry.name, row, problems)


def _run_open(office: Office, crew: Crew, run: SceneRun, listen: Listener) -> tuple[dict[str, Any], list[str]]:
    name = run.plan.scene.name
    office.tell(name, run.settled.notes)
    already = run.complete and run.published and not run.todo
    _do_blocks(run, crew, listen)
    report = run.finish(lambda stage, done, total: listen(Progress(name, done, total, 0, stage)))
    total = run.plan.grid.height * run.plan.grid.width
    listen(Progress(name, total, total, report["blocks"]["failed"]))
    return line(run, report, already), holes_of(run, report)


def _do_blocks(run: SceneRun, crew: Crew, listen: Listener) -> None:
    grid = run.plan.grid
    if not run.todo:
        return
    total = grid.height * grid.width
    done = total - sum(grid.owned(block).area for block in run.todo)
    failed = 0
    listen(Progress(run.plan.scene.name, done, total, failed))
    for record in crew.records(run):
        run.take(record)
        done += grid.owned(record.block).area
        failed += record.state is State.FAILED
        listen(Progress(run.plan.scene.name, done, total, failed))


def _nobody(_progress: Progress) -> None:
    """Listen to no one."""


def plan_job(job: Job, child: Child | None = None) -> tuple[list[dict[str, Any]], Room | None]:
    """Plan every scene of a job, writing nothing; `refused` says why a run of it would not start, or is None.

    Beside the plans stands what all scenes together need on the disk. Where a scene cannot even be planned there is
    nothing beside its name and `refused`. Raises an InputError where the job or its model is at fault.
    """
    job, found = placed(job, left := LeftOut())
    for note in (*left.notes(), *found.notes(), *left.problems):
        _log.warning("%s", note)
    with ExitStack() as stack:
        office = stack.enter_context(Office.of(job, child, _hired(stack, job)))
        return [_planned(office, due.entry) for due in found.due], room_for(job, found)


def _planned(office: Office, entry: SceneEntry) -> dict[str, Any]:
    job, plan = office.job, {"scene": entry.name}
    try:
        had = None if job.overwrite is True else Folder(job.out, entry.name).choices()
        settled = office.settle(entry, had[1] if had else None)
        plan = settled.as_dict()
        demand_startable(job, settled, fresh=had is None)
    except InputError as error:
        return {**plan, "refused": error.message}
    return {**plan, "refused": None}


def verify_scene(folder: Path, sample: int) -> Verdict:
    """Prove a finished scene, from what its folder says of its source and model. Raises an InputError."""
    place = Folder(folder.parent, folder.name)
    job = Job.model_validate(place.asked())
    had = place.choices()
    entry = next(one for one in job.scenes if isinstance(one, SceneEntry))
    with Office.of(job) as office:
        return verify(office.settle(entry, had[1] if had else None), place, sample)
