"""Dask's own parts as other people run them: a scheduler and workers, each a process that a command started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DASK = [sys.executable, "-m", "dask"]


def started(*words: str, folder: Path, **environment: str) -> subprocess.Popen:
    """A command of Dask's, in a session of its own: what it starts ends with it."""
    log = (folder / f"{words[0]}-{time.monotonic_ns()}.log").open("wb")
    return subprocess.Popen(
        [*DASK, *words], cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
    )


def ended(process: subprocess.Popen, how: int = signal.SIGTERM) -> None:
    """End a command and all that it started."""
    try:
        os.killpg(process.pid, how)
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


@contextmanager
def scheduler(
    folder: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen, str]]:
    """A scheduler on the loopback: its process and its address."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    said = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    process = started("scheduler", *said, *flags, folder=folder, **(environment or {}))
    try:
        while not (file.exists() and file.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        yield process, json.loads(file.read_text())["address"]
    finally:
        ended(process)


@contextmanager
def worker(
    folder: Path, address: str, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """A worker of one thread under a nanny, in the folder."""
    said = [
        address,
        "--nthreads",
        "1",
        "--host",
        "127.0.0.1",
        "--dashboard-address",
        "127.0.0.1:0",
        "--death-timeout",
        "60",
    ]
    process = started("worker", *said, *flags, folder=folder, **(environment or {}))
    try:
        yield process
    finally:
        ended(process)
