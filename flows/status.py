"""How far the scenes in a folder are, from their ledgers alone: it works while a run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SceneError
from pipeline.folder import LEDGER, Folder
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State


@dataclass(frozen=True, slots=True)
class SceneStatus:
    """How far one scene is, by blocks, as its ledger says."""

    scene: str
    done: int
    pending: int
    failed: int
    nodata: int
    outside: int
    percent: float
    published: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def status_of(out: Path) -> list[SceneStatus]:
    """The scenes in a folder, from their ledgers alone. Raises SceneError where there is none."""
    found = [_status(ledger.parent) for ledger in sorted(_ledgers(out))]
    if not found:
        raise SceneError(f"There is no ledger in {out} or its folders: name the folder that --out named.")
    return found


def _ledgers(out: Path) -> Iterator[Path]:
    there = os.path.isdir(out)  # noqa: PTH112  # Path.is_dir raises for a name that is too long
    for folder in (out, *sorted(out.iterdir())) if there else ():
        if (folder / LEDGER / "journal.jsonl").is_file():
            yield folder / LEDGER


def _status(folder: Path) -> SceneStatus:
    _, fold = read_ledger(folder / LEDGER)
    tally = fold.tally()
    return SceneStatus(
        scene=folder.name,
        done=tally[State.DONE],
        pending=tally[State.PENDING],
        failed=tally[State.FAILED],
        nodata=tally[State.NODATA],
        outside=tally[State.OUTSIDE],
        percent=100.0 * (len(fold) - tally[State.PENDING]) / len(fold),
        published=(folder / "report.json").is_file() and not Folder(folder.parent, folder.name).building.exists(),
    )
