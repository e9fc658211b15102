"""The scenes of a job, one after the other, from wherever it names them; nothing is opened and nothing is held.

A scene counts when it has not changed for `settle` minutes, by the clock of where it lies. A name is given once: of two
scenes that would have one name, the later is left out, with a sentence.
"""
# ruff: noqa: PTH100, PTH112, PTH113, PTH110, PTH118, PTH119, PTH208
# ^ Path's own tests raise for names that are too long

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from flows.sources.bucket import Prefix
from flows.sources.folder import Walk, files_of, scene_in, stamp_of
from flows.sources.listed import LeftOut, Listed
from flows.sources.mosaic import mosaic
from flows.sources.names import Taken, name_of
from flows.sources.patterns import Pattern, split
from flows.sources.stac import items
from flows.sources.table import is_list, rows
from pipeline.errors import SceneError, SettingsError
from pipeline.origin import SETTLE_MINUTES, BucketOrigin, FolderOrigin, ListOrigin, MosaicOrigin, Origin, StacOrigin
from pipeline.raster.address import is_zarr, shown
from pipeline.raster.naming import scene_name
from pipeline.settings import Job, SceneEntry

_IN_BUCKET = re.compile(r"(?P<prefix>(?:s3|gs|az)://[^*?#]+/)(?P<pattern>[^*?#]*\*[^?#]*)?")
_CATALOGUE = re.compile(r"(?<!_MTL)\.json$", re.IGNORECASE)
_WRONG = 86400.0  # seconds: a time of change further in the future says nothing


@dataclass(frozen=True, slots=True)
class _Source:
    """The scenes of one entry of `scenes`, the minutes they are given unasked, and the time there, since 1970."""

    scenes: Iterable[Listed]
    minutes: float = 0.0
    now: Callable[[], float] = time.time
    settled: bool = False  # it looks itself at what may be half an upload


def listed(job: Job, left: LeftOut | None = None) -> Iterator[Listed]:
    """The job's scenes, in its order and by name within each source; `left` takes what is left out, and why.

    Raises SettingsError where two scenes that are named one by one have one name, and SceneError where a source cannot
    be listed, or a string stands for no scene.
    """
    left = LeftOut() if left is None else left
    meant = [_meant(said, job) for said in job.scenes]
    by_hand = _by_hand(one for one in meant if isinstance(one, SceneEntry))
    taken = Taken()
    for said, one in zip(job.scenes, meant, strict=True):
        source, empty, told = _source(one, job, left), True, (len(left.problems), left.waiting)
        for scene in source.scenes:
            empty = False
            if _is_free(taken, scene, by_hand, left) and not _waits(scene, source, job, left):
                yield scene
        if not empty or (len(left.problems), left.waiting) != told:
            continue
        if isinstance(said, str):
            raise SceneError(_nothing(said, one))
        left.remark(f"There is no scene in {_place(one)}.")


def _meant(said: str | SceneEntry | Origin, job: Job) -> SceneEntry | Origin:
    """What an entry of `scenes` is; a string is told by what lies there."""
    if not isinstance(said, str):
        return said
    if match := _IN_BUCKET.fullmatch(said):
        return BucketOrigin(prefix=match["prefix"], pattern=match["pattern"] or None)
    if _CATALOGUE.search(said) and ("://" in said or os.path.isfile(said)):
        return StacOrigin(stac=said)
    return SceneEntry(name=scene_name(said), uri=said) if "://" in said else _here(said, job)


def _here(said: str, job: Job) -> SceneEntry | Origin:
    if is_list(said):
        return ListOrigin(list=said)
    if os.path.isdir(said) and not is_zarr(said):
        return _folder(said, job)
    if glob.has_magic(said) and not os.path.exists(said):
        root, pattern = split(said)
        return FolderOrigin(folder=root or ".", pattern="/".join(pattern.parts))
    return SceneEntry(name=scene_name(said), uri=said)


def _folder(said: str, job: Job) -> SceneEntry | Origin:
    names, files = os.listdir(said), files_of(job)
    scene = scene_in(said, names, files)
    if scene:
        return SceneEntry(name=name_of(os.path.basename(os.path.abspath(said))), uri=os.path.join(said, scene))
    if scene == "" or (files and not any(os.path.isdir(os.path.join(said, name)) for name in names)):
        return SceneEntry(name=scene_name(said), uri=said)
    return FolderOrigin(folder=said)


def _source(one: SceneEntry | Origin, job: Job, left: LeftOut) -> _Source:
    if isinstance(one, FolderOrigin):
        root = "" if one.folder == "." else one.folder
        return _Source(Walk.of(job, root, Pattern.of(one.pattern), one.name, left).scenes(), SETTLE_MINUTES)
    if isinstance(one, ListOrigin):
        return _Source(rows(one, left, job.fields))
    if isinstance(one, BucketOrigin):
        prefix = Prefix.of(one)
        return _Source(prefix.scenes(one, left), SETTLE_MINUTES, prefix.clock())
    if isinstance(one, StacOrigin):
        return _Source(items(one, left))
    if isinstance(one, MosaicOrigin):
        return _Source(mosaic(one, job, left), settled=True)
    if isinstance(one, SceneEntry):
        return _Source([Listed(one, stamp_of(one.uri), by_hand=True)])
    raise TypeError(f"{type(one).__name__} has no listing")


def _nothing(said: str, one: SceneEntry | Origin) -> str:
    """What is told where a string, which may be mistyped, stands for no scene at all; a mapping may be empty."""
    if isinstance(one, FolderOrigin) and one.pattern:
        return f"No file matches {said}; put the pattern in quotes if the shell should leave it alone."
    return f"There is no scene in {shown(said)}: check it, or say it in a job file as a mapping if it may be empty."


def _place(one: SceneEntry | Origin) -> str:
    """Where a source is, for a sentence."""
    said = next(iter(one.model_dump(exclude={"name"}, exclude_none=True).values()))
    return shown(str(said))


def _by_hand(entries: Iterable[SceneEntry]) -> dict[str, str]:
    """Where the scenes lie that are named one by one, links followed, by name. Raises SettingsError."""
    named: dict[str, SceneEntry] = {}
    for entry in entries:
        other = named.setdefault(entry.name, entry)
        if other.uri != entry.uri and os.path.realpath(other.uri) != os.path.realpath(entry.uri):
            raise SettingsError(
                f"Two scenes would be called {entry.name}: {shown(other.uri)} and {shown(entry.uri)}; give them "
                "names in a job file, such as `scenes: [{name: north, uri: a/image.tif}, {name: south, uri: "
                "b/image.tif}]`."
            )
    return {name: entry.uri for name, entry in named.items()}


def _is_free(taken: Taken, scene: Listed, by_hand: dict[str, str], left: LeftOut) -> bool:
    """Whether a scene's name is its own; where another has it, that is said, unless it is the same scene again."""
    name, uri = scene.entry.name, scene.entry.uri
    free = taken.give(name, uri if "://" in uri else os.path.abspath(uri))
    if free is False and not (name in by_hand and os.path.realpath(by_hand[name]) == os.path.realpath(uri)):
        left.refuse(
            f"{shown(uri)} is left out: another scene is called {name} already. Give a name to the one, or to its "
            "folder, prefix, list or catalogue: such as `{folder: north, name: north}`."
        )
    return free is True


def _waits(scene: Listed, source: _Source, job: Job, left: LeftOut) -> bool:
    """Whether a scene has changed a moment ago, so that it may not be whole; that is said."""
    minutes = source.minutes if job.settle is None else job.settle
    changed = scene.stamp.modified
    if source.settled or not minutes or changed is None:
        return False
    now = source.now()
    if not now - 60 * minutes < changed < now + _WRONG:
        return False
    left.wait(scene.entry.name, changed + 60 * minutes)
    return True
