"""Whether what is due will fit on the disk of the results, told before any of it is begun.

A night may have a million scenes, and no image is opened to find out: what earlier results took, for the size of their
images, is what these are taken to need. An estimate refuses nothing that may well fit: only where not even its lower
end does; where its middle does not, that is one sentence. What a scene may take at most is asked of the disk when its
turn comes.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from flows.archive import Due, Selection, Why
from flows.screen import counted, size
from pipeline.budget import free_on
from pipeline.errors import RoomError
from pipeline.folder import Folder
from pipeline.settings import Job

SAMPLED = 64  # results that are weighed
FILES = 50_000  # that are looked at for it, at most
ENOUGH = 4  # results that say how far they are apart

LEAST = 16 * 2**10  # bytes that the smallest result takes: metadata, ledger, report
_log = logging.getLogger("maskmill")


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier results took of the disk: bytes each, for each byte of their images, and for each megapixel.

    A low number is what the emptiest quarter of them stays below; 0 where there are too few to say.
    """

    results: int
    each: tuple[float, float]  # (low, mean)
    per_byte: tuple[float, float] | None  # None where the sizes of images are not known
    per_megapixel: tuple[float, float] | None

    @classmethod
    def of(cls, out: Path) -> Past | None:
        """Weigh some of the results in a folder; None where there are none. Raises what `read_index` raises."""
        weighed, left = [], FILES
        for said in _sample(out):
            took, files = _weight(Folder(out, said["id"]).path, left)
            left -= files
            if took and left > 0:
                weighed.append((took, _source(said), said["maskmill:megapixels"] or 0.0))
        if not weighed:
            return None
        each = _spread([(took, 1.0) for took, _, _ in weighed])
        per_byte = _spread([(took, source) for took, source, _ in weighed if source])
        return cls(
            len(weighed), each or (0.0, 0.0), per_byte, _spread([(took, area) for took, _, area in weighed if area])
        )

    def of_scene(self, due: Due) -> tuple[float, float]:
        """(low, mean) of the bytes that a scene's result takes."""
        if self.per_byte is None or due.size is None:
            return self.each
        low, mean = self.per_byte
        return low * due.size, mean * due.size


@dataclass(frozen=True, slots=True)
class Room:
    """What a run needs on the disk of its results, in bytes, and what is free there.

    `least` is the lower end of the estimate, `likely` its middle, None where no results are there to go by.
    """

    out: Path = field(repr=False)
    scenes: int
    sources: int  # bytes of the images, as far as they are known
    free: int
    least: float
    likely: float | None
    past: int  # results that the estimate comes from
    ends: bool  # whether the run ends by the clock, perhaps before it has done all

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        likely = None if self.likely is None else round(self.likely)
        return {
            "scenes": self.scenes,
            "free_bytes": self.free,
            "least_bytes": round(self.least),
            "likely_bytes": likely,
            "from_results": self.past,
            "fits": "no" if self.refusal else "perhaps" if self.warning else "most likely" if likely else "unknown",
        }

    @property
    def sentence(self) -> str | None:
        """Why the run is not to begin, or else what one should know of it, if anything."""
        return self.refusal or self.warning

    @property
    def refusal(self) -> str | None:
        """Why the run is not to begin; None where it may."""
        if self.least <= self.free or self.ends:
            return None
        return (
            f"What is due does not fit on the disk of {self.out}: {self._need} even at the lower end of the estimate "
            f"({self._source}), and {size(self.free)} is free. Nothing is begun: free some, take another `out`, or let "
            f"a run begin fewer scenes: {self._fewer(self.least)}."
        )

    @property
    def warning(self) -> str | None:
        """What one should know of a run that may begin; None where all will most likely fit."""
        if self.refusal:
            return None
        if self.likely is None and self.sources > self.free:
            return (
                f"Whether the disk of {self.out} will hold what is due is not known, as no result is there to go by: "
                f"{self._images} of {size(self.sources)}, and {size(self.free)} is free."
            )
        if self.least <= self.free and (self.likely is None or self.likely <= self.free):
            return None
        need = self.least if self.likely is None else self.likely
        return (
            f"What is due may not fit on the disk of {self.out}: {counted(self.scenes, 'scene')} may need about "
            f"{size(need)} (estimated {self._source}), and {size(self.free)} is free; `{self._fewer(need)}` may fit."
        )

    @property
    def _images(self) -> str:
        return f"{counted(self.scenes, 'scene')} {'has an image' if self.scenes == 1 else 'have images'}"

    @property
    def _need(self) -> str:
        return f"{counted(self.scenes, 'scene')} need{'s' if self.scenes == 1 else ''} {size(self.least)}"

    @property
    def _source(self) -> str:
        if not self.past:
            return "from what the smallest results take"
        return f"from {counted(self.past, 'result')} there, by the size of their images"

    def _fewer(self, need: float) -> str:
        return f"max_scenes: {max(1, int(self.scenes * self.free / need))}"


def room_for(job: Job, found: Selection) -> Room | None:
    """What a job needs for what is due; None for less than two scenes, whose plans say it. Raises as `read_index`."""
    if len(found.due) < 2:
        return None
    past = Past.of(job.out)
    least, likely = _needed(job, found, past)
    return Room(
        out=job.out,
        scenes=len(found.due),
        sources=sum(due.size or 0 for due in found.due),
        free=free_on(job.out),
        least=least,
        likely=likely if past else None,
        past=past.results if past else 0,
        ends=bool(job.until or job.stop_at or job.max_hours),
    )


def demand_room(job: Job, found: Selection) -> None:
    """Say what one should know of the disk before the first scene, if anything.

    Raises RoomError where what is due will not fit on it, and what `read_index` raises.
    """
    room = room_for(job, found)
    if room and (refusal := room.refusal):
        raise RoomError(refusal)
    if room and (warning := room.warning):
        _log.warning("%s", warning)


def _needed(job: Job, found: Selection, past: Past | None) -> tuple[float, float]:
    """(least, likely) bytes by which the disk will be fuller.

    A result that is done again takes the place of the old one, which stays until then: one of these is there twice.
    """
    least = likely = twice = 0.0
    for due in found.due:
        low, mean = past.of_scene(due) if past else (0.0, 0.0)
        if _is_replaced(job, due):
            twice = max(twice, mean)
            continue
        likely += max(mean, LEAST)
        least += 0.0 if due.why is Why.UNFINISHED else max(low, LEAST)
    if past and past.per_megapixel and job.max_megapixels is not None:
        low, mean = past.per_megapixel
        least, likely = min(least, low * job.max_megapixels), min(likely, mean * job.max_megapixels)
    return least, likely + twice


def _is_replaced(job: Job, due: Due) -> bool:
    """Whether a result lies where a scene's is to be."""
    if due.why is Why.NEW:
        return False
    return os.path.isfile(job.out / due.entry.name / "report.json")  # noqa: PTH113  # raises for no name


def _sample(out: Path) -> list[dict[str, Any]]:
    """Some finished results, evenly from all that the index of a folder has."""
    if not (out / "scenes.parquet").exists():
        return []
    from pipeline.index import read_index  # noqa: PLC0415  # Arrow's import is long for a folder without results

    index = read_index(out, ("id", *(f"maskmill:{key}" for key in ("state", "sources", "megapixels"))))
    return index.finished(SAMPLED) if index else []


def _weight(folder: Path, most: int) -> tuple[int, int]:
    """(bytes that a folder takes of the disk, files in it), of at most so many files."""
    took = files = 0
    for place, _, names in os.walk(folder):
        took += _blocks(place)
        for name in names:
            took += _blocks(f"{place}/{name}")
            files += 1
            if files >= most:
                return 0, files
    return took, files


def _blocks(path: str) -> int:
    """What a file or a folder takes of its disk."""
    try:
        said = os.lstat(path)
    except OSError:  # it goes while it is looked at
        return 0
    return said.st_blocks * 512 if hasattr(said, "st_blocks") else said.st_size * stat.S_ISREG(said.st_mode)


def _source(said: Mapping[str, Any]) -> int:
    """The bytes of a result's images; 0 where they are not all known."""
    sizes = [one["size"] for one in said["maskmill:sources"] or ()]
    return 0 if None in sizes else sum(sizes)


def _spread(weighed: list[tuple[float, float]]) -> tuple[float, float] | None:
    """(lower quartile, mean) of bytes for each unit; the quartile is 0 where too few say it, None where none does."""
    if not weighed:
        return None
    mean = sum(took for took, _ in weighed) / sum(units for _, units in weighed)
    if len(weighed) < ENOUGH:
        return 0.0, mean
    return min(mean, quantiles((took / units for took, units in weighed), n=4)[0]), mean
