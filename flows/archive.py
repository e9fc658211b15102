"""What one run does of an archive: what has no finished result, as much as the run may begin, until its time is over.

A job is about an archive where it names a folder, a pattern, a prefix, a list or a catalogue. What is known of a scene
comes from the index of results, which comes from the ledgers; no image is opened to find out what is to be done.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from flows.bucketed import archived, bring_index
from flows.listing import listed
from flows.priority import Rank, Ranking
from flows.quarantine import Left, left_alone, note_nights
from flows.sources.listed import LeftOut, Listed, Stamp
from pipeline.errors import CarriedOverError, MaskmillError, SettingsError
from pipeline.result import Standing
from pipeline.settings import Job, SceneEntry

if TYPE_CHECKING:
    from pipeline.index import Entry, Index, Source

_log = logging.getLogger("maskmill")
NAMED = 100  # scenes that are named of those that are left alone
_SLACK = 1000  # scenes that are ranked at once
_CLOSE = 1e-3  # seconds: a time of change that went through a float


class Why(StrEnum):
    """Why a scene is done, or is not."""

    NAMED = "named"  # one by one: whatever there is already
    NEW = "new"
    CHANGED = "changed"
    UNFINISHED = "unfinished"
    FAILED = "failed before"
    AGAIN = "asked for again"
    DONE = "done"
    QUARANTINED = "quarantined"

    @property
    def is_due(self) -> bool:
        """Whether the scene is to be done."""
        return self not in {Why.DONE, Why.QUARANTINED}


@dataclass(frozen=True, slots=True)
class Due:
    """A scene that is to be done, and why; `size` is the bytes of its images, where the listing says that."""

    entry: SceneEntry
    why: Why
    size: int | None = None


@dataclass(slots=True)
class Selection:
    """What a run does, in order; how many scenes it leaves as they are, and how many to the next run."""

    due: list[Due] = field(default_factory=list)
    left_alone: Counter[Why] = field(default_factory=Counter)
    carried_over: int = 0
    of_archive: bool = False
    quarantined: list[Left] = field(default_factory=list)  # the first of them, with why
    order: list[str] = field(default_factory=list)  # what one should know of the order

    def quarantine(self, known: Left | None) -> Why:
        """Leave a scene alone, or try it again where nothing is known against it any more."""
        if known is None:
            return Why.FAILED
        if len(self.quarantined) < NAMED:
            self.quarantined.append(known)
        return Why.QUARANTINED

    def shortage(self, job: Job) -> str | None:
        """What is wrong where fewer scenes are due than must be; None where as many are."""
        due = len(self.due) + self.carried_over
        if job.expect_min is None or due >= job.expect_min:
            return None
        return (
            f"{due} scenes are due, and `expect_min: {job.expect_min}` asks for more: look whether images still come."
        )

    def notes(self) -> list[str]:
        """What one should know of what is not done."""
        done, kept = self.left_alone[Why.DONE], self.left_alone[Why.QUARANTINED]
        said = [*self.order]
        if done:
            said.append(
                f"{done} {'scene has its result' if done == 1 else 'scenes have their results'} already; "
                "`reprocess: all` does again what is of another model or setting."
            )
        if kept:
            said.append(f"{kept} {'scene is' if kept == 1 else 'scenes are'} quarantined.")
        return said


def select(job: Job, left: LeftOut) -> Selection:
    """Find out which of a job's scenes are to be done; `left` takes what is left out, and why.

    Of more than `max_scenes` the first are chosen, by the job's `priority`. Raises what `listed`, `read_index` and
    `Ranking.rank` raise.
    """
    found, index = Selection(), None
    with Ranking(job) as ranking:
        queue = _Queue(job.max_scenes)
        for scene in listed(job, left):
            if scene.by_hand:
                why = Why.NAMED
            else:
                index = index or _index_of(job)
                found.of_archive = True
                why = _why(job, scene, index.get(scene.entry.name))
                if why is Why.QUARANTINED:
                    why = found.quarantine(left_alone(job.out, scene.entry.name))
            if why.is_due:
                queue.put(ranking.rank(scene), Due(scene.entry, why, scene.stamp.size))
            else:
                found.left_alone[why] += 1
        found.due, found.carried_over = queue.ended()
        found.order = ranking.notes() if found.due else []
    return found


class _Queue:
    """Scenes that are due, by their rank, and how many more there are than may be begun: those are not held."""

    def __init__(self, most: int | None) -> None:
        self._most, self._over = most, 0
        self._ranked: list[tuple[tuple[Rank, ...], Due]] = []

    def put(self, rank: tuple[Rank, ...], due: Due) -> None:
        """Take one in; of equal ones the first stays first."""
        self._ranked.append((rank, due))
        if self._most is not None and len(self._ranked) >= 2 * self._most + _SLACK:
            self._cut()

    def ended(self) -> tuple[list[Due], int]:
        """Those that may be begun, in order, and the number of the others."""
        self._cut()
        return [due for _, due in self._ranked], self._over

    def _cut(self) -> None:
        self._ranked.sort(key=itemgetter(0))
        if self._most is not None:
            self._over += len(self._ranked[self._most :])
            del self._ranked[self._most :]


class _Nothing:
    """The index of a folder that holds no results."""

    @staticmethod
    def get(_name: str) -> Entry | None:
        return None


def _index_of(job: Job) -> Index | _Nothing:
    """The index of the job's results; made from the ledgers where it is not there or cannot be read."""
    from pipeline.catalog import update  # noqa: PLC0415  # Arrow's import is long for a job without an archive
    from pipeline.index import read_index  # noqa: PLC0415  # as above

    bring_index(job)
    index = read_index(job.out)
    if index is None and job.out.is_dir():
        update(job.out, None)
        index = read_index(job.out)
    return index or _Nothing()


def _why(job: Job, scene: Listed, had: Entry | None) -> Why:
    if had is None:
        return Why.NEW
    if had.state is Standing.QUARANTINED:
        return Why.QUARANTINED
    if had.state in {Standing.REFUSED, Standing.HOLES}:
        return Why.FAILED
    if had.state is Standing.UNFINISHED:
        return Why.UNFINISHED
    if _has_changed(scene.stamp, had):
        return Why.CHANGED
    again = job.overwrite is True or job.reprocess == "all"
    since = job.since is not None and _day(scene) >= job.since
    return Why.AGAIN if again or since else Why.DONE


def _has_changed(stamp: Stamp, had: Entry) -> bool:
    """Whether a listing says that a scene is another than the one that was done; what it does not say has not."""
    if len(had.sources) == 1 and (told := _differs(stamp, had.sources[0])) is not None:
        return told
    return stamp.modified is not None and had.made is not None and stamp.modified > had.made.timestamp()


def _differs(stamp: Stamp, source: Source) -> bool | None:
    """The same of a scene that is one file; None where neither its tag nor its time can be compared."""
    if stamp.size is not None and source.size is not None and stamp.size != source.size:
        return True
    if stamp.modified is not None and source.version.isdecimal():
        return abs(stamp.modified - int(source.version) / 1e9) > _CLOSE
    if stamp.etag is not None and source.version.strip('"') and not source.version.isdecimal():
        return stamp.etag.strip('"') != source.version.strip('"')
    return None


def _day(scene: Listed) -> date:
    """When a scene was taken, or else changed; the last day there is where nobody knows, so that it is done."""
    if scene.taken:
        return scene.taken.astimezone(UTC).date()
    modified = scene.stamp.modified
    return date.max if modified is None else datetime.fromtimestamp(modified, UTC).date()


@dataclass(slots=True)
class Rations:
    """How much a run has begun of what it may."""

    job: Job
    _begun: dict[str, float] = field(default_factory=dict)  # megapixels, by the scenes' names
    _megapixels: float = 0.0  # all of them

    def demand(self, name: str, pixels: int) -> None:
        """Raise CarriedOverError where a scene of so many pixels is for the next run, SettingsError where for none.

        A scene that is tried again counts once.
        """
        most, own = self.job.max_megapixels, self._begun.get(name, 0.0)
        if most is not None and pixels / 1e6 > most:
            raise SettingsError(
                f"{name} has {pixels / 1e6:.1f} megapixels, and `max_megapixels: {most:g}` lets no run begin it."
            )
        others = len(self._begun) - (name in self._begun)
        if self.job.is_over or (self.job.max_scenes is not None and others >= self.job.max_scenes):
            raise CarriedOverError(f"{name} is left to the next run.")
        if most is not None and self._megapixels - own + pixels / 1e6 > most:
            raise CarriedOverError(f"{name} is left to the next run: `max_megapixels: {most:g}` is reached.")

    def take(self, name: str, pixels: int) -> None:
        """Note what is begun."""
        had, new = self._begun.get(name, 0.0), max(pixels / 1e6, self._begun.get(name, 0.0))
        self._megapixels += new - had
        self._begun[name] = new


def catalogued(job: Job, rows: list[dict[str, Any]]) -> None:
    """Note how the scenes of these lines fared, and bring catalogue and index up to date.

    What keeps them from it is told, and is no failure: they can be rebuilt.
    """
    from pipeline.catalog import update  # noqa: PLC0415  # as above

    out = job.out
    try:
        if rows and out.is_dir():
            with archived(job):
                note_nights(out, rows, job.retry_after)
                update(out, [row["scene"] for row in rows])
    except MaskmillError as error:
        _log.warning("The catalogue is as it was: %s `maskmill catalogue %s` makes it anew.", error.message, out)
