"""A Prefect server of our own: 127.0.0.1, its own database, and an end with the process that started it.

Run as a module, this file becomes `prefect server start`, after asking the kernel for a SIGTERM when its parent dies.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import LeaseError, MaskmillError, SettingsError

SERVED = "MASKMILL_SERVED"  # set in the processes that a schedule starts
START_SECONDS = 180.0  # a new database takes 21 s on an idle machine
STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


@contextmanager
def own_server(home: Path, port: int | None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server whose database, log and lock lie in `home`; give its API's URL and its process; end it.

    Raises LeaseError where another schedule holds `home`, SettingsError where the folder cannot be written or the
    port is taken, MaskmillError where the server does not become healthy.
    """
    with _held(home), (home / "server.log").open("ab") as log:
        port = port or _free_port()
        _refuse_taken(port)
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", "flows.server", str(port)],
            env=_environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us first, so that the last states still find a server
        )
        url = f"http://127.0.0.1:{port}/api"
        try:
            _wait_until_healthy(url, process, home / "server.log")
            yield url, process
        finally:
            _end(process)


def die_with_parent() -> None:
    """Ask the kernel (Linux) to send this process a SIGTERM when its parent ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        os.kill(os.getpid(), signal.SIGTERM)


def die_with_schedule() -> None:
    """In a process that a schedule started: end when it ends. Elsewhere: nothing.

    A SIGTERM comes first, so that the scene is put down in order. A flow run would go on for minutes trying to tell
    that to a server which has ended, too: hence an end by force.
    """
    if os.environ.get(SERVED):
        threading.Thread(target=_end_after, args=(os.getppid(),), name="die-with-schedule", daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(128 + signal.SIGTERM)


def answers(url: str, seconds: float = 10.0) -> bool:
    """Whether an HTTP server answers at a Prefect API's `url`, whatever it says: a hosted one has no `/health`."""
    return _health(url, seconds) is not None


def demand_answer(url: str) -> None:
    """Raise SettingsError where no server answers at `url`."""
    if not answers(url):
        raise SettingsError(f"The Prefect server {url} does not answer; start it, or unset PREFECT_API_URL.")


def named_server(command: str) -> str:
    """The API's URL of the server that Prefect's settings name. Raises SettingsError where none is, or it is silent."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415  # imports take two seconds

    url = PREFECT_API_URL.value()
    if not url:
        raise SettingsError(
            f"`{command}` needs a Prefect server that stays: name it by PREFECT_API_URL, such as "
            "http://127.0.0.1:4200/api after `prefect server start`. `maskmill schedule` needs none."
        )
    demand_answer(url)
    return str(url)


def told_by(error: Any) -> str:  # noqa: ANN401  # Prefect's, which is not imported here
    """What a server says of a request that it refused."""
    try:
        said = error.response.json()
    except ValueError:
        said = error.response.text
    return " ".join(str(said.get("detail", said) if isinstance(said, dict) else said).split())[:500]


def _health(url: str, seconds: float) -> int | None:
    """The HTTP status of the server's health; None where nobody answers."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=seconds) as answer:  # noqa: S310  # http or https
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """Hold the folder's lock for as long as this process lives."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("a")
    except OSError as error:
        raise SettingsError(f"The server's folder {home} cannot be written: {error.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LeaseError(f"Another `maskmill schedule` holds {home}; end it, or give this one a --home.") from None
        yield


def _environment(home: Path) -> dict[str, str]:
    """The server's environment: ours, without what names another server or database."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_API", "PREFECT_SERVER_"))}
    database = f"sqlite+aiosqlite:///{(home / 'prefect.db').resolve()}"
    return kept | {
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SettingsError(f"The port {port} cannot be had: {error.strerror}; give another --port.") from None


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while _health(url, seconds=2.0) != 200:
        if process.poll() is not None:
            raise MaskmillError(f"The Prefect server ended at once, with {process.returncode}; its log is {log}.")
        if time.monotonic() > until:
            raise MaskmillError(f"The Prefect server was not healthy after {START_SECONDS:.0f} s; its log is {log}.")
        time.sleep(0.3)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _become_server(port: str) -> None:
    """Replace this process; what was asked of the kernel outlives that."""
    die_with_parent()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    os.execv(sys.executable, command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    _become_server(sys.argv[1])
