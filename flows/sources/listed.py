"""What a listing says of a scene without opening it, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.settings import SceneEntry

_NAMED = 5  # scenes in a sentence
_KEPT = 100  # sentences


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a scene from the same one changed.

    Parameters
    ----------
    size
        Bytes, of all its files; None where the listing does not say.
    modified
        Seconds since 1970 of the last change of any of its files, by the clock of where it lies; None as above.
    etag
        What a store calls this version of it; None as above.

    """

    size: int | None = None
    modified: float | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A scene, what its source says of its files, and when it was taken if the source says that.

    `by_hand`: the job names it by itself, and no source of several. `fields`: what else the source says of it, by name.
    `box`: where it lies, [west, south, east, north] in degrees, if the source says that.
    """

    entry: SceneEntry
    stamp: Stamp = Stamp()
    taken: datetime | None = None
    by_hand: bool = False
    fields: Mapping[str, object] = field(default_factory=dict)
    box: Sequence[float] | None = None


@dataclass(slots=True)
class LeftOut:
    """What a listing left out: scenes that may still change, and a sentence for each thing that is wrong."""

    waiting: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    counts_at: float = 0.0  # seconds since 1970: when the last of those that wait counts
    _unsaid: int = 0
    _names: list[str] = field(default_factory=list)

    def wait(self, name: str, until: float) -> None:
        """Leave a scene for another run, since it has changed a moment ago."""
        self.waiting += 1
        self.counts_at = max(self.counts_at, until)
        if len(self._names) < _NAMED:
            self._names.append(name)

    def refuse(self, sentence: str) -> None:
        """Leave something out for good. Beyond a hundred sentences their number is kept."""
        if len(self.problems) < _KEPT:
            self.problems.append(sentence)
            return
        self._unsaid += 1
        more = f"{self._unsaid} more could not be listed."
        self.problems[_KEPT:] = [more]

    def remark(self, sentence: str) -> None:
        """Say what is not wrong, and may not be meant."""
        self.remarks.append(sentence)

    def notes(self) -> list[str]:
        """What one should know and is not wrong: which scenes wait, which sources hold none."""
        return [*self.remarks, *([self._waiting()] if self.waiting else [])]

    def _waiting(self) -> str:
        names = ", ".join(self._names) + (" …" if self.waiting > len(self._names) else "")
        scenes = "1 scene has" if self.waiting == 1 else f"{self.waiting} scenes have"
        when = datetime.fromtimestamp(self.counts_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"{scenes} changed a moment ago, may not be whole yet, and will be done by a run after {when}: {names}. "
            "`settle: 0` takes them now."
        )
