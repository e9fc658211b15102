"""Scenes that are bad night after night: left alone for some nights with their reason, and then tried again.

A night in vain counts against a scene where the scene itself is refused or ends with holes; not where the disk is full,
the cluster is away or time is up. What counts as one night is one day, however often the job runs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, SceneError
from pipeline.nights import Nights, put_nights, read_nights

IN_VAIN = 2  # nights after which a scene is left alone: one may be the network's, or the disk's


@dataclass(frozen=True, slots=True)
class Left:
    """A scene that a run does not begin, what that is called, and why."""

    scene: str
    what: str
    why: str

    def as_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return {"scene": self.scene, "what": self.what, "why": self.why}


def refusal(name: str, error: InputError) -> dict[str, Any]:
    """The line of a scene that was refused."""
    return {"scene": name, "state": "refused", "out": None, "error": type(error).__name__, "reason": error.message}


def note_nights(out: Path, rows: Iterable[Mapping[str, Any]], retry_after: int) -> None:
    """Note how the scenes of an archive fared, by the lines of a report. Raises what `put_nights` raises."""
    for row in rows:
        if (reason := _in_vain(row)) is not None:
            put_nights(out, row["scene"], _one_more(read_nights(out, row["scene"]), reason, retry_after))
        elif row["state"] in {"complete", "complete already"}:
            put_nights(out, row["scene"], None)


def left_alone(out: Path, name: str) -> Left | None:
    """Why a scene is not tried; None where it is, since nobody knows anything against it or its time has come."""
    nights = read_nights(out, name)
    if nights is None or nights.retry_on is None or date.fromisoformat(nights.retry_on) <= _today():
        return None
    why = f"{nights.reason} It was tried on {nights.count} nights, and will be again from {nights.retry_on} on."
    return Left(name, "quarantined", why)


def _in_vain(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a scene; None where nothing is, or it is not the scene's fault."""
    if row["state"] == "refused":
        return str(row["reason"]) if row["error"] == SceneError.__name__ else None
    return f"{row['failed']} of its blocks failed." if row["state"] in {"holes", "holes already"} else None


def _one_more(had: Nights | None, reason: str, retry_after: int) -> Nights:
    today = _today()
    if had is not None and had.last == today.isoformat():
        return had
    count = had.count + 1 if had else 1
    retry_on = (today + timedelta(days=retry_after + 1)).isoformat() if count >= IN_VAIN and retry_after else None
    return Nights(count, reason, today.isoformat(), retry_on)


def _today() -> date:
    return datetime.now(UTC).date()
