"""One result as its ledger tells it: how far it is, what it holds, what of it is published. Nothing else is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline import about
from pipeline.document import MISSHAPEN
from pipeline.errors import IdentityError
from pipeline.folder import LEDGER, Folder
from pipeline.nights import Nights, read_nights
from pipeline.settings import statuses
from pipeline.store.fold import Fold
from pipeline.store.ledger import JOURNAL, read_ledger
from pipeline.store.record import State


class Standing(StrEnum):
    """How far a scene is."""

    COMPLETE = "complete"
    HOLES = "holes"  # published, with blocks that failed
    UNFINISHED = "unfinished"  # blocks are pending, or not published yet
    REFUSED = "refused"  # there is no result
    QUARANTINED = "quarantined"  # left alone, after nights in vain


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a scene.

    Parameters
    ----------
    name
        What it is called.
    standing
        How far it is.
    reason
        Why it is not complete, in a sentence; None where it is, or nobody said.
    nights
        How many nights tried it in vain.
    about
        What `pipeline.about` noted; None where a run has not come so far.
    identity
        The digest of what makes the result what it is.
    plan
        What plan.json says: identity, choices, and what was asked.
    blocks, failed, pending
        How many there are, in all and in two states.
    classes
        Pixels, and square metres where they are known, by value and name; statuses where they occur.
    files
        (bytes, SHA-256) of each published file, by its name; empty where nothing is published.
    made
        When it was published, ISO 8601 in UTC; None where it is not.

    """

    name: str
    standing: Standing
    reason: str | None = None
    nights: int = 0
    about: Mapping[str, Any] | None = None
    identity: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    blocks: int = 0
    failed: int = 0
    pending: int = 0
    classes: tuple[Mapping[str, Any], ...] = ()
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    made: str | None = None

    @property
    def published(self) -> bool:
        """Whether users find a mask."""
        return self.made is not None


def read_result(out: Path, name: str) -> Result | None:
    """What is known of the scene of this name in a folder of results; None where nothing is.

    A ledger that cannot be read makes it unfinished, and the reason says so.
    """
    nights, folder = read_nights(out, name), Folder(out, name)
    if not (folder.ledger / JOURNAL).is_file():
        return _without_ledger(name, nights)
    try:
        plan = json.loads((folder.ledger / "plan.json").read_bytes())
        header, fold = read_ledger(folder.ledger)
        return _told(folder, plan, header, fold, nights)
    except (OSError, IdentityError, *MISSHAPEN) as error:
        why = error.message if isinstance(error, IdentityError) else f"{folder.ledger} cannot be read ({error})."
        return Result(name, _left_alone(nights) or Standing.UNFINISHED, why, nights.count if nights else 0)


def result_names(out: Path) -> set[str]:
    """The scenes that have a result in a folder, begun or finished. Looks at each folder once."""
    entries = (entry for entry in out.iterdir() if not entry.name.startswith(".")) if out.is_dir() else ()
    return {entry.name for entry in entries if (entry / LEDGER / JOURNAL).is_file()}


def _without_ledger(name: str, nights: Nights | None) -> Result | None:
    if nights is None:
        return None
    return Result(name, _left_alone(nights) or Standing.REFUSED, nights.reason, nights.count)


def _left_alone(nights: Nights | None) -> Standing | None:
    return Standing.QUARANTINED if nights and nights.retry_on else None


def _told(
    folder: Folder, plan: Mapping[str, Any], header: Mapping[str, Any], fold: Fold, nights: Nights | None
) -> Result:
    said = about.read(folder.ledger)
    published = [event for event in fold.events if event.name == "published"]
    there = bool(published) and (folder.path / "report.json").is_file()
    tally = fold.tally()
    standing = Standing.HOLES if tally[State.FAILED] else Standing.COMPLETE
    if tally[State.PENDING] or not there:
        standing = Standing.UNFINISHED
    reason = next(iter(fold.reasons.values()), None) if standing is not Standing.COMPLETE else None
    if standing is not Standing.COMPLETE and nights:
        standing, reason = _left_alone(nights) or standing, nights.reason
    files = published[-1].data.get("sha256", {}) if there else {}
    return Result(
        name=folder.name,
        standing=standing,
        reason=reason,
        nights=nights.count if nights else 0,
        about=said,
        identity=header["identity"],
        plan=plan,
        blocks=len(fold),
        failed=tally[State.FAILED],
        pending=tally[State.PENDING],
        classes=_classes(said, fold) if said else (),
        files={file: (int(size), str(digest)) for file, (size, digest) in files.items()},
        made=published[-1].time.replace("+00:00", "Z") if there else None,
    )


def _classes(said: Mapping[str, Any], fold: Fold) -> tuple[dict[str, Any], ...]:
    """Pixels and area by value, as the report has them."""
    pixel_area, counts, areas = said["scene"]["pixel_area"], fold.counts, fold.area
    named = {one["value"]: one["name"] for one in said["model"]["legend"]}
    named |= {value: name for value, name in statuses(said["products"][0]["dtype"]).named().items() if value in counts}
    return tuple(
        {
            "value": value,
            "name": name,
            "pixels": counts.get(value, 0),
            "area": areas.get(value, 0.0) if areas else pixel_area and counts.get(value, 0) * pixel_area,
        }
        for value, name in named.items()
    )
