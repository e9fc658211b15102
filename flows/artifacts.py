"""What a flow run's page in Prefect shows: progress, the table of scenes, pictures and the report. All only to look at.

What the server refuses of it is a warning: the masks are what counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.masking import masked
from flows.screen import Moved

SECONDS_BETWEEN_UPDATES = 2.0  # each is a call to the server
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Meter:
    """The flow run's progress: one artifact, at most an update every two seconds. It never fails the job."""

    def __init__(self, scenes: int) -> None:
        self._scenes = max(1, scenes)
        self._seen: dict[str, float] = {}
        self._last = time.monotonic()
        self._artifact = tried(_new_artifact)

    def moved(self, step: Moved) -> None:
        """Take note of how far one scene is."""
        if step.stage == "blocks":
            self._seen[step.scene] = step.done / step.total if step.total else 1.0
        if time.monotonic() - self._last >= SECONDS_BETWEEN_UPDATES:
            self._say(100.0 * min(1.0, sum(self._seen.values()) / self._scenes))

    def finish(self) -> None:
        """Say that all was tried."""
        self._say(100.0)

    def _say(self, percent: float) -> None:
        self._last = time.monotonic()
        if (artifact := self._artifact) is not None:
            tried(lambda: update_progress_artifact(artifact, percent))


def _new_artifact() -> UUID:
    made = create_progress_artifact(0.0, key="progress", description="pixels done, all scenes")
    return cast("UUID", made)  # a coroutine in async code only


def show(report: Mapping[str, Any], out: Path) -> None:
    """Put the table, the pictures and the report on the flow run's page."""
    from flows.shown import pictures_of, rows_of, words_of, worst_first  # noqa: PLC0415  # Pillow

    scenes = worst_first(report)
    said = f"{len(scenes)} scenes, the worst first"
    tried(lambda: create_table_artifact(rows_of(scenes, report["left"]), key="scenes", description=said))
    if pictures := tried(lambda: pictures_of(scenes)):
        tried(lambda: create_markdown_artifact(pictures, key="quicklooks"))
    tried(lambda: create_markdown_artifact(words_of(report, out), key="report"))


def tried(call: Callable[[], T]) -> T | None:
    """Call the server for something that is only for looking at; None, and a warning, if that fails."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # whatever the server says, the masks are what counts
        _log.warning("the artifact could not be written: %s", masked(str(error)))
        return None
