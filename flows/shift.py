"""What the scenes of one run share: the workers, the model, the stages that they pass, what may be begun.

A run may be cut into parts, as Prefect's tasks are: they share one shift, and their scenes go along one line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flows.archive import Rations, Selection
from flows.crew import Crew, import_early
from flows.golden import again, demand_same_mask
from flows.lanes import Line, Passage, Stage, run_lanes
from flows.lines import CARRIED_OVER, JobReport
from flows.office import Listener, Office, Progress, run_scene
from flows.quarantine import refusal
from pipeline.child import Child
from pipeline.errors import CarriedOverError, InputError, SceneError
from pipeline.settings import Job, SceneEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client


@dataclass(slots=True)
class Shift:
    """Whoever works on a run; hired when the first scene is due, sent home at the end of the `with`."""

    job: Job
    scenes: int  # how many there are
    child: Child = field(default_factory=Child)
    line: Line = field(default_factory=Line)
    rations: Rations = field(init=False)
    listening: threading.Lock = field(default_factory=threading.Lock)
    _stack: ExitStack = field(default_factory=ExitStack)
    _hiring: threading.Lock = field(default_factory=threading.Lock)
    _staff: tuple[Office, Crew] | None = None

    def __post_init__(self) -> None:
        self.rations = Rations(self.job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def staff(self, job: Job) -> tuple[Office, Crew]:
        """Those who do the scenes of a part of the run. Raises an InputError where no scene could be done.

        The first to ask has the golden scene done, where his job names one: raises GoldenError.
        """
        with self._hiring:
            if self._staff is None or _left_alone(self._staff[1]):
                self._staff = self._hired(job)
            office, crew = self._staff
        return replace(office, job=job), crew

    def _hired(self, job: Job) -> tuple[Office, Crew]:
        with ExitStack() as stack:
            client = client_of(stack, job)
            importing = import_early()
            office = stack.enter_context(Office.of(job, self.child, client))
            crew = Crew(stack, self.child, self.scenes, client, importing)
            if job.golden:
                self._demand_golden(office, crew, job.golden)
            crew.stack = self._stack
            self._stack.push(stack.pop_all())
            return office, crew

    def abort(self) -> None:
        """Have whatever a thread waits for end."""
        self.line.stopping.set()
        self.child.end()

    def _demand_golden(self, office: Office, crew: Crew, golden: Path) -> None:
        """Do a scene again of which there is a trusted result, with the model, settings and workers of this run.

        Raises GoldenError where it does not come out as it did, and then nothing is begun.
        """
        with again(office.job, golden) as (job, entry):
            with self.line.passage() as passage:
                passage.enter(Stage.OPENING)
                row, problems = run_scene(replace(office, job=job), crew, entry, nobody, Rations(job), passage)
            demand_same_mask(golden, job.out / entry.name, row, problems)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one scene: its line, a sentence for each problem, and why it was refused, if it was."""

    row: dict[str, Any]
    problems: list[str]
    refused: InputError | None = None


@dataclass(slots=True)
class Part:
    """The scenes of a job, or some of them, as far as they have come."""

    shift: Shift
    job: Job
    listen: Listener
    aside: JobReport
    line: Line = field(init=False)
    carried_over: int = 0
    _over: bool = False
    _outcomes: dict[int, _Outcome] = field(default_factory=dict)  # by the scenes' places

    def __post_init__(self) -> None:
        self.line = Line(self.shift.line)

    def do(self, found: Selection, at_last: Callable[[], None]) -> None:
        """Do scene after scene, until there are none, or the run may begin no more.

        `at_last` is called before the last is begun.
        """
        office, crew = self.shift.staff(self.job)
        due = self._due(found, at_last)

        def do(placed: tuple[int, SceneEntry], passage: Passage) -> None:
            self._one(office, crew, *placed, passage)

        if len(found.due) == 1 or self.job.cluster == "inline":
            self.line.along(due, do)
        else:
            run_lanes(self.line, due, do, self.shift.abort)

    def _due(self, found: Selection, at_last: Callable[[], None]) -> Iterator[tuple[int, SceneEntry]]:
        """The scenes with their places, until one is for the next run; those from it on are counted."""
        for place, due in enumerate(found.due):
            if place == len(found.due) - 1:
                at_last()
            yield place, due.entry
            if self._over:
                self.carried_over += len(found.due) - place
                at_last()
                return

    def _one(self, office: Office, crew: Crew, place: int, entry: SceneEntry, passage: Passage) -> None:
        try:
            row, problems = run_scene(office, crew, entry, self._hear, self.shift.rations, passage)
            self._outcomes[place] = _Outcome(row, problems)
        except CarriedOverError:
            self._over = True
        except InputError as error:
            said = f"{entry.name} is refused: {error.message}"
            self._outcomes[place] = _Outcome(refusal(entry.name, error), [said], error)

    def _hear(self, progress: Progress) -> None:
        self.line.demand_going()
        with self.shift.listening:
            self.listen(progress)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The scenes' lines, in order."""
        return [self._outcomes[place].row for place in sorted(self._outcomes)]

    def report(self) -> JobReport:
        """What came of it. Raises the InputErrors where nothing but these came of it."""
        outcomes = [self._outcomes[place] for place in sorted(self._outcomes)]
        problems = list(chain.from_iterable(one.problems for one in outcomes))
        refused = [one.refused for one in outcomes if one.refused]
        carried_over = self.carried_over + sum(row["state"] == CARRIED_OVER for row in self.rows)
        if refused and len(refused) == len(outcomes) and not self.aside.carried_over + carried_over:
            if len(refused) == 1:
                raise refused[0]
            raise SceneError(f"None of {len(refused)} scenes could start: {' '.join(problems)}")
        return self.aside.plus(self.rows, problems, carried_over)


def client_of(stack: ExitStack, job: Job) -> Client | None:
    """A client of somebody else's workers; None where a job has its own. Raises ClusterError where there is none."""
    if isinstance(job.cluster, str):
        return None
    from flows.far import far_cluster  # noqa: PLC0415  # Dask's imports take as long as a small scene

    return stack.enter_context(far_cluster(job.cluster, job.workers))


def _left_alone(crew: Crew) -> bool:
    """Whether somebody else's workers are out of reach: their scheduler may be there again."""
    return crew.client is not None and crew.client.status not in {"running", "connecting"}


def nobody(_progress: Progress) -> None:
    """Listen to no one."""
