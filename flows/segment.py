"""The flow: a job in parts, a Prefect task for each, one report. A thin skin over flows.tasks, which knows no Prefect.

A run with holes ends in a state Failed called "Holes", so that the morning sees it; its data is the report. Prefect's
tables are for looking at: what is done is in the ledgers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Thread
from typing import Any

from flows.environment import prepare_prefect

prepare_prefect()
# ^ Prefect reads its settings when it is imported.

from prefect import flow, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.runtime import deployment  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402
from prefect.tasks import exponential_backoff  # noqa: E402

from flows.archive import Why, catalogued  # noqa: E402
from flows.artifacts import Meter, show, tried  # noqa: E402
from flows.batches import batched  # noqa: E402
from flows.lanes import Line, Passage, StoppedError, run_lanes  # noqa: E402
from flows.lines import JobReport, in_short  # noqa: E402
from flows.masking import masked, without_secrets  # noqa: E402
from flows.morning import reported  # noqa: E402
from flows.notice import noticed  # noqa: E402
from flows.quarantine import refusal  # noqa: E402
from flows.room import demand_room  # noqa: E402
from flows.screen import Lines, Moved  # noqa: E402
from flows.server import die_with_schedule  # noqa: E402
from flows.shift import Shift  # noqa: E402
from flows.sources.listed import LeftOut  # noqa: E402
from flows.tasks import run_part  # noqa: E402
from pipeline.child import interrupts_held  # noqa: E402
from pipeline.document import load_job  # noqa: E402
from pipeline.errors import GoldenError, InputError  # noqa: E402
from pipeline.settings import Job, SceneEntry  # noqa: E402

HOLES, WITH_HOLES, REFUSED, CARRIED_OVER, QUARANTINED = "Holes", "With holes", "Refused", "Carried over", "Quarantined"
STOPPED = "Stopped"
_log = logging.getLogger(__name__)
Outcome = dict[str, Any] | InputError


@flow(name="segment", persist_result=False, validate_parameters=False)
def segment(job: dict[str, Any]) -> State[Any]:
    """Run a job, given as its JSON form; every scene is done or named. Ends in Completed, "Holes" or "Refused"."""
    # ^ A served flow is pickled with what its body names, and a ContextVar has no pickle: hence the functions.
    die_with_schedule()
    try:
        return _ended(_asked_and_done(job))
    except InputError as error:
        return _refused(error)


def _may_pass(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether another try may help: bad input is no better then, and a run that is being stopped has no time."""
    return state.name not in {REFUSED, STOPPED}


@task(
    name="scenes",
    task_run_name="{label}",
    retries=2,
    retry_delay_seconds=exponential_backoff(10),
    retry_condition_fn=_may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def do_scenes(job: dict[str, Any], label: str) -> State[Any]:  # noqa: ARG001  # names the task run
    """Do one large scene or a batch of small ones; the state's data is the report's mapping or an InputError.

    Bad input is returned and not raised: it deserves no traceback.
    """
    shift, at_last = _part.get()
    try:
        return _part_ended(run_part(shift, Job.model_validate(job), _moved, at_last).as_dict())
    except InputError as error:
        return _refused(error)
    except StoppedError as error:
        return Failed(name=STOPPED, message="The run was stopped; the next goes on from there.", data=error)


@task(name="quarantined", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def leave_alone(label: str, left: list[dict[str, str]]) -> State[Any]:  # noqa: ARG001  # names the task run
    """Do nothing with scenes that are quarantined, for the run's page to show it: which, and why."""
    return Completed(name=QUARANTINED, message=masked(in_short([f"{one['scene']}: {one['why']}" for one in left])))


def run_as_flow(job: Job, on_progress: Callable[[Moved], None]) -> dict[str, Any]:
    """Run a job as a flow run in this process; give the report's mapping, as `JobReport.as_dict` does.

    Raises what kept the whole job from starting.
    """
    _onlooker.set(on_progress)
    _given.set(job)
    _start_server()
    return _unwrapped(segment(without_secrets(job), return_state=True))


def _start_server() -> None:
    """Start Prefect's embedded server, if it is to be one, where Ctrl-C does not reach it: it is told the last states.

    Waiting for it can be interrupted. What keeps it from starting is raised by the flow run, which tries again.
    """

    def start() -> None:
        with suppress(Exception):
            get_client(sync_client=True)

    with interrupts_held():
        starting = Thread(target=start, name="prefect-server", daemon=True)
        starting.start()
    starting.join()


def _asked_and_done(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job: what `run_as_flow` was given, whose caller gives notice of a failure, or what a deployment says."""
    if given := _given.get():
        return _done(given)
    asked = load_job(None, job)
    return noticed(asked, deployment.name, lambda: _done(asked))


def _done(job: Job) -> dict[str, Any]:
    if _onlooker.get() is None:
        _onlooker.set(Lines())
    job = job.begun(datetime.now(UTC))
    parts, found = batched(job, left := LeftOut())
    for note in (*left.notes(), *found.notes()):
        _log.warning("%s", note)
    meter = Meter(len(found.due))
    _meter.set(meter)
    aside, rows = JobReport.aside(found, job, left.problems).as_dict(), list[dict[str, Any]]()

    def do() -> dict[str, Any]:
        demand_room(job, found)
        if kept := found.left_alone[Why.QUARANTINED]:
            leave_alone(f"{kept} quarantined", aside["left"], return_state=True)
        return merged([aside, *_outcomes(job, parts, len(found.due), rows)])

    try:
        report = reported(job, do)
    finally:
        if found.of_archive:
            catalogued(job, rows)
    meter.finish()
    tried(lambda: show(report, job.out))
    return report


def _outcomes(job: Job, parts: Sequence[Job], scenes: int, rows: list[dict[str, Any]]) -> list[Outcome]:
    """The report of each part, or what kept it from starting. A part begins when the one before begins its last scene.

    `rows` takes a line for each scene.
    """
    outcomes: dict[int, Outcome] = {}
    with Shift(job, scenes) as shift:

        def do(numbered: tuple[int, Job], passage: Passage) -> None:
            _part.set((shift, passage.leave))
            place, part = numbered
            try:
                outcome = outcomes[place] = _outcome(part)
            except Exception:
                shift.line.stopping.set()
                raise
            if isinstance(outcome, GoldenError):
                raise outcome

        try:
            run_lanes(Line(), iter(enumerate(parts)), do, shift.abort)
        finally:
            for place in sorted(outcomes):
                rows += _rows(parts[place], outcomes[place])
    return [outcomes[place] for place in sorted(outcomes)]


def _rows(part: Job, outcome: Outcome) -> list[dict[str, Any]]:
    """A line for each scene of a part."""
    if isinstance(outcome, dict):
        return list(outcome["scenes"])
    names = _names(part)
    return [refusal(names[0], outcome)] if len(names) == 1 else []


def _outcome(part: Job) -> Outcome:
    """The report of a part, or what kept it from starting, naming it. What nobody foresaw is raised."""
    if part.is_over:
        return JobReport(carried_over=len(part.scenes)).as_dict()
    names = _names(part)
    label = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)})"
    try:
        return _unwrapped(do_scenes(part.model_dump(mode="json"), label, return_state=True))
    except InputError as error:
        return error


def _names(part: Job) -> list[str]:
    return [scene.name for scene in part.scenes if isinstance(scene, SceneEntry)]


def _unwrapped(state: State[Any]) -> dict[str, Any]:
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return dict(result)


def merged(outcomes: Sequence[Mapping[str, Any] | InputError]) -> dict[str, Any]:
    """One report of several: all scenes, all problems, exit code 0 or 3.

    Raises an InputError that names all reasons, each once, where no part could start.
    """
    errors = [one for one in outcomes if isinstance(one, InputError)]
    reports = [one for one in outcomes if not isinstance(one, InputError)]
    if errors and not any(report["scenes"] or report["problems"] or report["carried_over"] for report in reports):
        reasons = dict.fromkeys(error.message for error in errors)
        raise errors[0] if len(reasons) == 1 else InputError(" ".join(reasons))
    return {
        "scenes": [scene for report in reports for scene in report["scenes"]],
        "problems": [problem for report in reports for problem in report["problems"]]
        + [error.message for error in errors],
        "exit_code": 3 if errors else max(report["exit_code"] for report in reports),
        "carried_over": sum(report["carried_over"] for report in reports),
        "left": [one for report in reports for one in report["left"]],
    }


_given: ContextVar[Job | None] = ContextVar("_given", default=None)  # whole: Prefect keeps a flow's parameters
_part: ContextVar[tuple[Shift, Callable[[], None]]] = ContextVar(
    "_part"
)  # of a run, and whom to tell of its last scene
_onlooker: ContextVar[Callable[[Moved], None] | None] = ContextVar("_onlooker", default=None)
_meter: ContextVar[Meter | None] = ContextVar("_meter", default=None)


def _moved(step: Moved) -> None:
    for listener in (_onlooker.get(), meter.moved if (meter := _meter.get()) else None):
        if listener:
            listener(step)


def _refused(error: InputError) -> State[Any]:
    return Failed(name=REFUSED, message=masked(error.message), data=error)


def _part_ended(report: dict[str, Any]) -> State[Any]:
    """How a task ends: with holes it is completed all the same, since it is not to be tried again at once."""
    name = WITH_HOLES if report["problems"] else CARRIED_OVER if report["carried_over"] else None
    return Completed(name=name, message=masked(in_short(report["problems"])) or None, data=report)


def _ended(report: dict[str, Any]) -> State[Any]:
    if report["exit_code"] == 0 and (later := report["carried_over"]):
        return Completed(name=CARRIED_OVER, message=f"{later} scenes are left to the next run.", data=report)
    if report["exit_code"] == 0:
        return Completed(message=f"{len(report['scenes'])} scenes complete.", data=report)
    return Failed(name=HOLES, message=masked(in_short(report["problems"])), data=report)
