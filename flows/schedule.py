"""A job by the clock: a Prefect server (ours, unless one is named), one deployment, and a runner, until stopped.

Prefect's embedded server has no scheduler, so the night would silently never come. Hence a real server, and a proof
before we say that all is well: scheduled runs must really stand in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.masking import demand_no_secret
from flows.screen import complain, say
from flows.server import SERVED, demand_answer, own_server
from flows.timing import Timing, one_at_a_time, proven, runs_of
from pipeline.errors import MaskmillError
from pipeline.settings import Job

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.flows import Flow
    from prefect.runner import Runner

HOME = ".schedule"  # in the job's output folder; no scene's name begins with a dot
LOOK_SECONDS = 1.0
_LEFT_BEHIND = ("RUNNING", "PENDING", "CANCELLING")


def serve(job: Job, timing: Timing, home: Path | None, port: int | None) -> int:
    """Serve the job until SIGINT or SIGTERM; give 128 + the signal's number.

    Raises SettingsError where the job holds a secret or the named server does not answer, MaskmillError where no run
    comes to be scheduled or our server ends.
    """
    demand_no_secret(job)
    from flows.segment import segment  # noqa: PLC0415  # what cannot be imported fails before a server is started

    with _server(home or job.out / HOME, port) as (url, process):
        from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

        os.environ["PREFECT_API_URL"] = url
        os.environ[SERVED] = "1"
        with temporary_settings({PREFECT_API_URL: url}):
            runner, deployment = _deployed(segment, job, timing, forget_unfinished=process is not None)
            _announce(url, timing, proven(deployment))
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
    from prefect.runner import Runner  # noqa: PLC0415
    from prefect.schedules import Cron  # noqa: PLC0415
    from prefect.types.entrypoint import EntrypointType  # noqa: PLC0415

    runner = Runner(name=timing.name, pause_on_shutdown=False)
    deployment: UUID = runner.add_flow(  # type: ignore[assignment]  # a coroutine in async code only
        flow,
        name=timing.name,
        schedules=[Cron(timing.cron, timezone=timing.timezone)],
        parameters={"job": job.model_dump(mode="json")},
        concurrency_limit=one_at_a_time(),
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

    for run in runs_of(client, deployment, _LEFT_BEHIND):
        client.set_flow_run_state(run.id, Crashed(message="The schedule that ran it ended."), force=True)


def _announce(url: str, timing: Timing, times: list[datetime]) -> None:
    say(f"Serving {timing.name} at {url.removesuffix('/api')}; next: {timing.in_words(times)}. Ctrl-C ends it.")


def _hear(signals: list[int]) -> None:
    """Have SIGINT and SIGTERM noted, and nothing else done."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.append, number)


async def _until_stopped(runner: Runner, process: subprocess.Popen[bytes] | None) -> int:
    """Run what is due until SIGINT or SIGTERM; then end the flow run that is going on. Gives the signal's number.

    Raises MaskmillError where our server ends, or the runner by itself.
    """
    signals: list[int] = []
    # What the runner would do with a SIGTERM while it starts is to end with 0, amid its own coroutine.
    runner.handle_sigterm = lambda *_: signals.append(signal.SIGTERM)  # type: ignore[method-assign]
    _hear(signals)
    running = asyncio.ensure_future(runner.start())
    while not runner.started and not running.done():
        await asyncio.sleep(0.05)
    _hear(signals)  # again: the runner has installed a handler of its own
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
