"""Starts a process and watches it from outside: its seconds from start to end, and the most memory its tree held.

Memory is PSS, a page that several processes share counted once in all: programs of many processes are not charged for
what they share, as they would be by RSS. It is looked at twice a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.command import ROOT

EVERY = 0.5  # s
_LAST = 1500  # characters of a failure that are told


class PeerError(Exception):
    """A process that was measured ended badly; the message has its last words."""


@dataclass(frozen=True)
class Seen:
    """Seconds of the whole process, bytes at its peak, and the JSON of its last line."""

    seconds: float
    peak: int
    said: dict


def watched(command: list[str], limit: float) -> Seen:
    """Run a command in the repository's root to its end. Raises PeerError where it fails or takes over `limit` s."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env=environment, start_new_session=True)
        peak = Peak(process.pid)
        peak.start()
        try:
            code = process.wait(limit)
            seconds = time.perf_counter() - start
        except subprocess.TimeoutExpired:
            raise PeerError(f"{_name(command)} was stopped after {limit:.0f} s") from None
        finally:
            peak.over.set()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            peak.join()
        said, complaint = (file.seek(0) or file.read() for file in (out, err))
    lines = said.strip().splitlines()
    if code or not lines:
        raise PeerError(f"{_name(command)} ended with {code}: {(complaint or said).strip()[-_LAST:]}")
    return Seen(seconds, peak.bytes, json.loads(lines[-1]))


class Peak(threading.Thread):
    """The most that a process and all its descendants held at once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.bytes, self.over = psutil.Process(pid), 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(EVERY):
            try:
                tree = [self.root, *self.root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.bytes = max(self.bytes, sum(map(_held, tree)))


def _held(process: psutil.Process) -> int:
    """A process' PSS in bytes, as the kernel adds it up: to add up its pages here would take the cores' time."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # it has just ended
        pass
    return 0


def _name(command: list[str]) -> str:
    return next((Path(word).name for word in command if word.endswith(".py")), " ".join(command[:4]))
