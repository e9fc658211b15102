"""What earlier nights made: a line for each night, and for each scene its last results' pixels and area by class.

    OUT/.history/nights.jsonl           a checksummed line for each night, the last `NIGHTS` of them
    OUT/.history/scenes/<scene>.json    the scene's last `RESULTS` results that differ, on one checksummed line

It is for looking at: a line that cannot be read is as if it were not there, and no mask depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.store.objects import put_unsynced, put_whole
from pipeline.store.record import from_line, to_line

FOLDER = ".history"
FORMAT = 1  # of its lines
NIGHTS, RESULTS = 400, 10


@dataclass(frozen=True, slots=True)
class Result:
    """What one result was: when (UTC, ISO 8601), of which identity and model, and by class (pixels, m² or None).

    `predicted` are the pixels that the network has told of.
    """

    when: str
    identity: str
    model: str
    predicted: int
    classes: Mapping[str, tuple[int, float | None]]

    @property
    def shares(self) -> dict[str, float]:
        """Each class's part of the pixels that the network has told of."""
        return {name: pixels / self.predicted for name, (pixels, _) in self.classes.items()} if self.predicted else {}

    def same(self, other: Result) -> bool:
        """Whether another says the same, whenever it was made."""
        mine, its = ({name: tuple(part) for name, part in one.classes.items()} for one in (self, other))
        return self.identity == other.identity and self.predicted == other.predicted and mine == its

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Result:
        """The result that a line says. Raises KeyError, TypeError or ValueError where it says none."""
        classes = {str(name): (int(pixels), area) for name, (pixels, area) in said["classes"].items()}
        return cls(str(said["when"]), str(said["identity"]), str(said["model"]), int(said["predicted"]), classes)


def results_of(out: Path, scene: str) -> list[Result]:
    """A scene's earlier results, the oldest first."""
    for said in _lines(_scene(out, scene)):
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            return [Result.of(one) for one in said["results"]]
    return []


def remember(out: Path, scene: str, results: list[Result]) -> None:
    """Keep a scene's last results. Raises like `put_whole`."""
    said = {"format": FORMAT, "results": [asdict(one) for one in results[-RESULTS:]]}
    put_unsynced(_scene(out, scene), to_line(said), out)


def nights_of(out: Path) -> list[dict[str, Any]]:
    """What is known of earlier nights, the oldest first."""
    return _lines(out / FOLDER / "nights.jsonl")


def add_night(out: Path, earlier: list[dict[str, Any]], night: Mapping[str, Any]) -> None:
    """Add a night to those that `nights_of` gave, as dicts; the oldest is forgotten. Raises like `put_whole`."""
    lines = [to_line(one) for one in [*earlier, {"format": FORMAT, **night}][-NIGHTS:]]
    put_whole(out / FOLDER / "nights.jsonl", b"".join(lines), root=out)


def _scene(out: Path, scene: str) -> Path:
    return out / FOLDER / "scenes" / f"{scene}.json"


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are as they were written, in this version's format.

    Raises SettingsError where a later version has written one: its history would be lost.
    """
    found = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError):
            said = from_line(line)
            if said.get("format") != FORMAT:
                raise SettingsError(
                    f"{path} is of format {said.get('format')!r} and this version reads {FORMAT}: "
                    "use the version that wrote it, or remove the file."
                )
            found.append(said)
    return found
