"""What a person sees: progress, tables and errors. Progress and errors go to stderr, results to stdout.

On a terminal progress is a bar (megapixels, rate, time left); elsewhere it is a plain line every ten seconds. Tables
show whatever a report's `as_dict` holds, with units told from the keys: `bytes`, `memory`, `seconds`, `pixels`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from flows.masking import masked

SECONDS_BETWEEN_LINES = 10.0
SCENES = 3  # that are under way at a time
_BYTES = {"bytes", "memory", "disk"}


class Moved(Protocol):
    """How far a scene is: what flows.tasks.Progress says. `done` and `total` are pixels of a stage."""

    @property
    def scene(self) -> str: ...  # noqa: D102
    @property
    def done(self) -> int: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def failed(self) -> int: ...  # noqa: D102
    @property
    def stage(self) -> str: ...  # noqa: D102


def complain(message: str) -> None:
    """Say one sentence on stderr."""
    sys.stderr.write(masked(f"maskmill: {message}\n"))
    sys.stderr.flush()


def say(line: str) -> None:
    """Say one line on stdout."""
    sys.stdout.write(f"{masked(line)}\n")
    sys.stdout.flush()


def emit(result: Mapping[str, Any]) -> None:
    """Print one JSON object as one line, the last of stdout."""
    say(json.dumps(result, ensure_ascii=False, default=str))


class _Complaints(logging.Handler):
    """A warning of ours is one of the sentences: masked, and above the bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def hear_warnings() -> None:
    """Have what is logged as a warning, or worse, said on stderr."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Complaints()])


@contextmanager
def watched() -> Iterator[Callable[[Moved], None]]:
    """Show progress on stderr while the block runs: a bar on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        with _bar() as moved:
            yield moved
    else:
        yield Lines()


@dataclass(slots=True)
class _Doing:
    """A stage of a scene: when it began and was last told of, and how far it was then."""

    stage: str
    began: float
    last: float
    at_start: int
    complete: bool = False  # its last pixel was told


class Lines:
    """Progress as plain lines: when a scene begins and ends, and every ten seconds in between."""

    def __init__(self, say: Callable[[str], None] = complain, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._doing: dict[str, _Doing] = {}  # of the scenes that were heard of last

    def __call__(self, moved: Moved) -> None:
        """Take note of how far it is; speak if it is time."""
        now, had = self._clock(), self._doing.get(moved.scene)
        complete = moved.stage == "blocks" and moved.done == moved.total
        if had and complete and had.complete:
            return
        if had is None or had.stage != moved.stage:
            told = had.complete if had else False
            had = self._doing[moved.scene] = _Doing(moved.stage, now, now, moved.done, told)
            for old in list(self._doing)[:-SCENES]:
                del self._doing[old]
        elif moved.done < moved.total and now - had.last < SECONDS_BETWEEN_LINES:
            return
        had.last = now
        had.complete = had.complete or complete
        self._say(self._line(moved, now - had.began, had.at_start))

    @staticmethod
    def _line(moved: Moved, seconds: float, at_start: int) -> str:
        share = 100 * moved.done / moved.total if moved.total else 100.0
        line = f"{_name(moved)}: {_of_megapixels(moved)} ({share:.0f} %)"
        rate = (moved.done - at_start) / seconds if seconds > 0 else 0.0
        if rate > 0:
            left = (moved.total - moved.done) / rate
            line += f", {rate / 1e6:.2f} megapixels/s, " + (f"{duration(left)} left" if left else duration(seconds))
        return line + _failed(moved)


@contextmanager
def _bar() -> Iterator[Callable[[Moved], None]]:
    from rich.console import Console  # noqa: PLC0415  # only a terminal needs it
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        planning = progress.add_task("planning", total=None, said="")
        shown: dict[str, tuple[Any, str]] = {}  # by scene: its bar, and what that is called

        def moved(step: Moved) -> None:
            name = _name(step)
            progress.update(planning, visible=False)
            task, called = shown.get(step.scene, (None, ""))
            if called != name:
                if task is not None:
                    progress.remove_task(task)
                task = progress.add_task(name, total=step.total, completed=step.done, said="")
                shown[step.scene] = task, name
            for old in list(shown)[:-SCENES]:
                progress.remove_task(shown.pop(old)[0])
            speed = progress.tasks[progress.task_ids.index(task)].speed or 0.0
            said = f"{_of_megapixels(step)}, {speed / 1e6:.2f}/s{_failed(step)}"
            progress.update(task, completed=step.done, total=step.total, said=said)

        yield moved


def _name(moved: Moved) -> str:
    """The scene, and the stage where it is not the main one."""
    return moved.scene if moved.stage == "blocks" else f"{moved.scene}, {moved.stage}"


def _of_megapixels(moved: Moved) -> str:
    places = 1 if moved.total >= 1e6 else 3
    return f"{moved.done / 1e6:.{places}f} of {moved.total / 1e6:.{places}f} megapixels"


def _failed(moved: Moved) -> str:
    return f", {counted(moved.failed, 'block')} failed" if moved.failed else ""


def counted(number: int, what: str) -> str:
    """A number of things: 1 block, 2 blocks."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print a table of two columns: what, and how much. Nested mappings are flattened."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in _flat(facts):
        table.add_row(key.replace("_", " "), told(key, value))
    _print(table)


def show_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table with one line per mapping; the columns are the keys of the first that hold single values."""
    from rich.table import Table  # noqa: PLC0415

    if not rows:
        _print(f"{title}: none.")
        return
    keys = [key for key, value in rows[0].items() if not isinstance(value, Mapping)]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for key in keys:
        table.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(told(key, row.get(key)) for key in keys))
    _print(table)


def told(key: str, value: object) -> str:
    """A value in words; the unit is told from its key."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _measured(key, value)
    if isinstance(value, Mapping):
        return " ".join(told(inner, part) for inner, part in value.items() if part is not None)
    if isinstance(value, (list, tuple, set, frozenset)):
        shown = [told("", item) for item in list(value)[:8]]
        return ", ".join(shown) + (f" and {len(value) - 8} more" if len(value) > 8 else "") if shown else "–"
    return masked(str(value))


def _measured(key: str, value: float) -> str:
    words = re.split(r"[._ ]", key)
    if _BYTES & set(words) and words[-1] != "workers":
        return size(value)
    if "seconds" in words:
        return duration(value)
    if "pixels" in words and value >= 1e6:
        return f"{value / 1e6:,.1f} million"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def size(count: float) -> str:
    """Bytes in the largest binary unit that leaves at least one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in facts.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        else:
            yield name, value


def _print(what: object) -> None:
    from rich.console import Console  # noqa: PLC0415

    # ^ A pipe has no width: 80 columns would cut paths in two.
    Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False).print(what)
