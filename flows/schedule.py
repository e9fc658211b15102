"""A job by the clock: a Prefect server (ours, unless one is named), one deployment, and a runner, until stopped.

Prefect's embedded server has no scheduler, so the night would silently never come. Hence a real server, and a proof
before we say that all is well: scheduled runs must really stand in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from flows.screen import complain, say
from flows.server import SERVED, demand_answer, own_server
from pipeline.errors import MaskmillError, SettingsError
from pipeline.settings import Job

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.flows import Flow
    from prefect.runner import Runner

HOME = ".schedule"  # in the job's output folder; no scene's name begins with a dot
PROOF_SECONDS = 90.0
LOOK_SECONDS = 1.0
SHOWN_TIMES = 3
_LEFT_BEHIND = ("RUNNING", "PENDING", "CANCELLING")


@dataclass(frozen=True, slots=True)
class Timing:
    """What runs when: a deployment's name, five cron fields, and the zone whose clock counts.

    Raises SettingsError where the zone or the fields are not known, or Prefect cannot take the name.
    """

    name: str
    cron: str
    timezone: str

    def __post_init__(self) -> None:
        if "%" in self.name or "/" in self.name:
            raise SettingsError(f"The job file's name, {self.name}, names the deployment: it may hold neither / nor %.")
        if self.timezone not in available_timezones():
            raise SettingsError(f"There is no time zone `{self.timezone}`; give one such as Europe/Vienna or UTC.")
        from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415  # imports take two seconds
        from pydantic import ValidationError  # noqa: PLC0415

        try:
            CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError:
            raise SettingsError(
                f"`--cron` cannot be '{self.cron}': give minute, hour, day, month and weekday, such as '0 2 * * *'."
            ) from None


def serve(job: Job, timing: Timing, home: Path | None, port: int | None) -> int:
    """Serve the job until SIGINT or SIGTERM; give 128 + the signal's number.

    Raises SettingsError where the named server does not answer, MaskmillError where no run comes to be scheduled or
    our server ends.
    """
    from flows.segment import segment  # noqa: PLC0415  # what cannot be imported fails before a server is started

    with _server(home or job.out / HOME, port) as (url, process):
        from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

        os.environ["PREFECT_API_URL"] = url
        os.environ[SERVED] = "1"
        with temporary_settings({PREFECT_API_URL: url}):
            runner, deployment = _deployed(segment, job, timing, forget_unfinished=process is not None)
            _announce(url, timing, _proven(deployment))
            return 128 + asyncio.run(_until_stopped(runner, process))


@contextmanager
def _server(home: Path, port: int | None) -> Iterator[tuple[str, subprocess.Popen[bytes] | None]]:
    """The server that the environment or Prefect's profile names, or our own."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

    named = PREFECT_API_URL.value()
    if named:
        demand_answer(named)
        yield named, None
        return
    complain("starting a Prefect server …")
    with own_server(home, port) as (url, process):
        yield url, process


def _deployed(flow: Flow[..., Any], job: Job, timing: Timing, forget_unfinished: bool) -> tuple[Runner, UUID]:
    """A runner with the deployment, and the deployment's id."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy  # noqa: PLC0415
    from prefect.runner import Runner  # noqa: PLC0415
    from prefect.schedules import Cron  # noqa: PLC0415
    from prefect.types.entrypoint import EntrypointType  # noqa: PLC0415

    runner = Runner(name=timing.name, pause_on_shutdown=False)
    deployment: UUID = runner.add_flow(  # type: ignore[assignment]  # a coroutine in async code only
        flow,
        name=timing.name,
        schedules=[Cron(timing.cron, timezone=timing.timezone)],
        parameters={"job": job.model_dump(mode="json")},
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    if forget_unfinished:
        with get_client(sync_client=True) as client:
            _forget_unfinished(client, deployment)
    return runner, deployment


def _forget_unfinished(client: SyncPrefectClient, deployment: UUID) -> None:
    """Call crashed what an earlier schedule left unfinished when it was killed.

    The server is ours and its folder is locked, so none of these runs lives; each would hold the one slot for ever.
    """
    from prefect.states import Crashed  # noqa: PLC0415

    for run in _runs(client, deployment, _LEFT_BEHIND):
        client.set_flow_run_state(run.id, Crashed(message="The schedule that ran it ended."), force=True)


def _runs(client: SyncPrefectClient, deployment: UUID, states: tuple[str, ...], limit: int = 200) -> list[Any]:
    """The deployment's flow runs in these states, the earliest first."""
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter  # noqa: PLC0415
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415

    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": list(states)}}}),
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment]}}),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=limit,
    )


def _proven(deployment: UUID) -> list[datetime]:
    """The next times, read from runs that really stand in the server. Raises MaskmillError where none comes.

    Registering a deployment removes its future runs, so that those found here were made by a scheduler that lives.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    until = time.monotonic() + PROOF_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < until:
            now = datetime.now().astimezone()
            times = [run.expected_start_time for run in _runs(client, deployment, ("SCHEDULED",))]
            if coming := [moment for moment in times if moment and moment > now]:
                return coming[:SHOWN_TIMES]
            time.sleep(1.0)
    raise MaskmillError(
        f"The Prefect server has made no scheduled run within {PROOF_SECONDS:.0f} s: its scheduler does not work and "
        "no night would ever come; `maskmill doctor` says whether the packages fit (SQLAlchemy must be below 2.1)."
    )


def _announce(url: str, timing: Timing, times: list[datetime]) -> None:
    zone = ZoneInfo(timing.timezone)
    shown = ", ".join(f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}" for moment in times)
    say(f"Serving {timing.name} at {url.removesuffix('/api')}; next: {shown}. Ctrl-C ends it.")


async def _until_stopped(runner: Runner, process: subprocess.Popen[bytes] | None) -> int:
    """Run what is due until SIGINT or SIGTERM; then end the flow run that is going on. Gives the signal's number.

    Raises MaskmillError where our server ends, or the runner by itself.
    """
    signals: list[int] = []
    running = asyncio.ensure_future(runner.start())
    while not runner.started and not running.done():
        await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.append, number)
        # ^ Only now: the runner installs a handler of its own, which cannot tell us about it.
    while not signals and not running.done() and (process is None or process.poll() is None):
        await asyncio.wait([running], timeout=LOOK_SECONDS)
    if not running.done():
        await runner.astop()
    await running
    if signals:
        return signals[0]
    if process is not None and process.poll() is not None:
        raise MaskmillError(f"The Prefect server ended, with {process.returncode}; start the schedule again.")
    raise MaskmillError("The runner ended although nobody stopped it; start the schedule again.")
