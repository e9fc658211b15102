"""A file for each run of a job, OUT/logs/2026-11-23T0200.log: what was warned of, what came of each scene. UTC.

A log makes no folder for results: lines wait until the run has made one, and are dropped where it never does. A log
that cannot be written ends nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.masking import masked

FOLDER, KEEP = "logs", 30  # files; the oldest are removed
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d{4}\.log")


class Log(logging.Handler):
    """What is warned of, as lines of a file."""

    def __init__(self, out: Path, began: datetime) -> None:
        super().__init__(logging.WARNING)
        self._out = out
        self._path = out / FOLDER / f"{began:%Y-%m-%dT%H%M}.log"
        self._waiting: list[str] = []
        self._formatter = logging.Formatter("%(levelname)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        """Write what is logged, its traceback with it."""
        try:
            self.note(self._formatter.format(record))
        except Exception:  # noqa: BLE001  # whatever was given to a logger
            self.handleError(record)

    def note(self, text: str) -> None:
        """Write a line, or several."""
        self._waiting.append(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {masked(text)}\n")
        with suppress(OSError):
            if self._out.is_dir():
                self._path.parent.mkdir(exist_ok=True)
                with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.writelines(self._waiting)
                self._waiting.clear()


@contextmanager
def logged(out: Path) -> Iterator[Log]:
    """A log of the body, beside the results in `out`; says how the body ended, and removes the oldest logs."""
    log = Log(out, datetime.now(UTC))
    logging.getLogger().addHandler(log)
    try:
        log.note("began")
        yield log
    except BaseException as error:
        log.note(f"ended by {type(error).__name__}: {error}")
        raise
    finally:
        logging.getLogger().removeHandler(log)
        _rotate(out / FOLDER)


def note_report(log: Log, report: Mapping[str, Any]) -> None:
    """Write down what came of each scene."""
    for line in report["scenes"]:
        log.note(f"{line['scene']}: {line['state']}")
    for problem in report["problems"]:
        log.note(f"problem: {problem}")
    log.note(f"ended with exit code {report['exit_code']}")


def _rotate(folder: Path) -> None:
    with suppress(OSError):
        logs = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
        for path in logs[:-KEEP]:
            path.unlink()
