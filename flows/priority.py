"""In which order scenes are done: what a job's `priority` says, and where that leaves two equal, as they are listed."""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from flows.sources.listed import Listed
from pipeline.child import Child, Ended
from pipeline.priority import AreaFirst, FieldFirst
from pipeline.settings import AreaEntry, Job

_SECONDS = 60.0  # that an image may take to say where it lies
_LAST = (1, 0, 0.0, ())  # of whom nothing is known
Rank = tuple[int, int, float, tuple[int, ...]]  # whether it is unknown, whether it is text, the number, the text


class Ranking:
    """Ranks scenes; the lowest is done first. Images are looked at in a process of its own, where an area asks for it.

    Attributes
    ----------
    known
        For each part of `priority`, of how many scenes it could say anything.

    """

    def __init__(self, job: Job) -> None:
        self.known = [0] * len(job.priority)
        self._job, self._stack = job, ExitStack()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def rank(self, scene: Listed) -> tuple[Rank, ...]:
        """A scene's rank. Raises SettingsError where the area is none."""
        ranks = []
        for part, one in enumerate(self._job.priority):
            if isinstance(one, FieldFirst):
                rank = _of_value(scene.fields.get(one.name), downward=one.first == "highest")
            elif isinstance(one, AreaFirst):
                rank = self._by_area(one, scene)
            else:
                when = scene.taken.timestamp() if scene.taken else scene.stamp.modified
                rank = _of_value(when, downward=one == "newest")
            self.known[part] += rank is not _LAST
            ranks.append(rank)
        return tuple(ranks)

    def notes(self) -> list[str]:
        """What the job may not have meant."""
        return [
            f"`priority` by {_called(one)} changes nothing: no scene that is due says it."
            for one, known in zip(self._job.priority, self.known, strict=True)
            if not known
        ]

    def _by_area(self, one: AreaFirst, scene: Listed) -> Rank:
        from pipeline.raster.touching import touches  # noqa: PLC0415  # rasterio's import is for an area alone

        self._child = self._child or self._stack.enter_context(Child())
        allow = [str(folder.resolve()) for folder in self._job.allowed]
        entry = AreaEntry(file=one.file, layer=one.layer)
        try:
            on = self._child.ask(touches, scene.entry.uri, scene.box, entry, allow, seconds=_SECONDS)
        except Ended:  # the run says why, when it is this scene's turn
            return _LAST
        return _LAST if on is None else (0, 0, float(not on), ())


def _of_value(value: object, *, downward: bool) -> Rank:
    """Numbers, also as text, before other text; nothing, and what is no number, last."""
    if value is None or value == "":
        return _LAST
    try:
        number = float(str(value))
    except ValueError:
        text = tuple(map(ord, str(value)))
        return 0, 1, 0.0, (*(-one for one in text), 1) if downward else text  # 1: what goes on comes before, here
    return _LAST if math.isnan(number) else (0, 0, -number if downward else number, ())


def _called(one: object) -> str:
    if isinstance(one, FieldFirst):
        return f"the field {one.name}"
    return "its area" if isinstance(one, AreaFirst) else str(one)
