"""The notice of a run that did not end well, by what the job says `on_failure`: a command, an address, or both.

What is stopped by hand and what is carried over is no failure. A notice that cannot be given is a warning: it changes
nothing of how the run ends.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import IO, Any

from flows.ending import NOT_STARTED, UNEXPECTED, came_of_a_stop
from flows.lines import in_short
from flows.masking import masked
from pipeline.errors import InputError, MaskmillError
from pipeline.night import Notice
from pipeline.settings import Job

SECONDS = 30.0  # that each way of giving notice may take
PROBLEMS = 50  # that a notice holds; the report has them all
_log = logging.getLogger("maskmill")


def noticed(job: Job, name: str | None, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do a job, and give notice if it does not end well; the mapping of its JobReport, and what `do` raises.

    `name` is what the job is called, where that is known: else it is called as the folder of its results.
    """
    began = time.time()
    name = name or job.out.resolve().name
    try:
        report = do()
    except Exception as error:
        if not came_of_a_stop(error):
            code = NOT_STARTED if isinstance(error, InputError) else UNEXPECTED
            _give(job, _said(job, name, began, {"exit_code": code, "problems": [_told(error)], "scenes": []}))
        raise
    if report["exit_code"]:
        _give(job, _said(job, name, began, report))
    return report


def _told(error: Exception) -> str:
    if isinstance(error, MaskmillError):
        return error.message
    return " ".join(f"Unexpected: {type(error).__name__}: {error}".split())


def _said(job: Job, name: str, began: float, report: Mapping[str, Any]) -> dict[str, Any]:
    """What a person needs to know of a run, as plain data for JSON, without secrets."""
    from pipeline.morning_page import HTML  # noqa: PLC0415  # Pillow, for which no run that ends well has to wait

    out = job.out.resolve()
    problems = [masked(problem) for problem in report["problems"]]
    return {
        "text": f"maskmill {name} ended with exit code {report['exit_code']}: {in_short(problems)}",
        "job": name,
        "out": job.mirror or str(out),
        "exit_code": report["exit_code"],
        "counts": dict(Counter(line["state"] for line in report["scenes"])),
        "carried_over": report.get("carried_over", 0),
        "problems": problems[:PROBLEMS],
        "more_problems": max(0, len(problems) - PROBLEMS),
        "report": str(out / HTML) if _newer(out / HTML, began) else None,
    }


def _newer(file: Path, began: float) -> bool:
    """Whether a file was written since; disks may round their times down to two seconds."""
    try:
        return file.stat().st_mtime >= began - 2.0
    except OSError:
        return False


def _give(job: Job, said: Mapping[str, Any]) -> None:
    if (notice := job.on_failure) is None:
        return
    ways: list[tuple[str, Callable[[Notice, Mapping[str, Any]], str | None]]] = []
    if notice.command:
        ways.append(("command", _run))
    if notice.webhook:
        ways.append(("webhook", _post))
    for way, give in ways:
        try:
            wrong = give(notice, said)
        except Exception as error:  # noqa: BLE001  # whatever it is, the run has ended as it has
            wrong = type(error).__name__
        if wrong:
            _log.warning("no notice of the failure was given: the %s of `on_failure` %s", way, wrong)


def _run(notice: Notice, said: Mapping[str, Any]) -> str | None:
    """Run the command with the notice on its stdin; what was wrong with it, or None."""
    with tempfile.TemporaryFile() as spoken, tempfile.TemporaryFile() as given:
        given.write(json.dumps(said).encode())
        given.seek(0)
        try:
            # What it says is not mixed with our answer, and what it starts ends with it.
            process = subprocess.Popen(  # noqa: S603  # the job's own command
                notice.command or (),
                stdin=given,
                stdout=spoken,
                stderr=subprocess.STDOUT,
                env=os.environ | _variables(said),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"cannot be started: {getattr(error, 'strerror', None) or type(error).__name__}"
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return f"took longer than {SECONDS:.0f} s and was ended"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return f"ended with {code}{_last_line(spoken)}" if code else None


def _variables(said: Mapping[str, Any]) -> dict[str, str]:
    """The notice as environment variables, for commands that read no JSON."""
    named = ("text", "job", "out", "exit_code", "report")
    known = {name: str(said[name] or "").replace("\0", "") for name in named}
    known["exit"] = known.pop("exit_code")
    return {f"MASKMILL_{name.upper()}": value for name, value in known.items()}


def _last_line(spoken: IO[bytes]) -> str:
    spoken.seek(0, os.SEEK_END)
    spoken.seek(max(0, spoken.tell() - 1000))
    lines = spoken.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {masked(last)}" if last else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is sent elsewhere would arrive there without its body."""

    def redirect_request(self, *_said: object) -> None:
        return None


def _post(notice: Notice, said: Mapping[str, Any]) -> str | None:
    """POST the notice; what was wrong with it, or None. In a thread, since a slow server may never end."""
    wrong: list[str | None] = [_slow()]

    def post() -> None:
        wrong[0] = _posted(notice.webhook or "", json.dumps(said).encode())

    thread = Thread(target=post, name="notice", daemon=True)
    thread.start()
    thread.join(SECONDS)
    return wrong[0]


def _slow() -> str:
    return f"did not answer within {SECONDS:.0f} s"


def _posted(address: str, body: bytes) -> str | None:
    """What was wrong, without the address: that is a secret, and errors may hold it."""
    if address.startswith("$"):
        variable, address = address, os.environ.get(address[1:], "")
        if not re.match(r"https?://", address):
            return f"is {variable}, which is set to no address that begins with https:// or http://"
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310  # as above
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered with {error.code}"
    except Exception as error:  # noqa: BLE001  # as for all ways of giving notice
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return _slow()
        return f"cannot be reached: {type(reason if isinstance(reason, Exception) else error).__name__}"
