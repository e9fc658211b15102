"""Scenes in a folder and below it: image files, and the folders that are one scene each.

A folder is one scene where it is a delivery (Sentinel-2's SAFE, Landsat with its MTL file), a Zarr, a DICOM slide (one
in a folder), or where the job's `bands` name files in it. Nothing is opened: names and times of change say it all. What
lies in the job's `out`, and results of other jobs, are no scenes.
"""
# ruff: noqa: PTH112, PTH110, PTH116, PTH118, PTH122, PTH208
# ^ a Path for each of a million files would cost more than all the rest, and some raise for long names

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from flows.sources.listed import LeftOut, Listed, Stamp
from flows.sources.names import name_of
from flows.sources.patterns import Pattern
from pipeline.errors import SceneError
from pipeline.raster.address import ZARR_MARKS
from pipeline.raster.naming import DELIVERED
from pipeline.settings import Job, SceneEntry

_MTL = re.compile(r"(.+)_MTL\.(txt|json|xml)", re.IGNORECASE)
OF_LANDSAT = re.compile(
    r"L[A-Z]\d\d_.+_(B\d\d?|SR_\w+|ST_\w+|QA_\w+|BQA|[SV][AZ]A|thumb\w*|refl|TIR|QB)(_VCID_\d)?\.(tif|jpe?g|png)",
    re.IGNORECASE,
)  # its MTL file stands for them, and may come last
_DICOM = ".dcm"
_OF_SLIDES = {".vms": ".jpg", ".vmu": ".jpg"}  # whose pixels lie in files of their own
_RESULT = frozenset({"ledger", "mask.zarr"})


@dataclass(frozen=True, slots=True)
class Walk:
    """A folder that is listed: which scenes of it, how they are called, and what is told of what cannot be read.

    Parameters
    ----------
    root
        The folder; "" for the one that one is in.
    pattern
        Which of it.
    before
        What stands before the names.
    left
        Takes a sentence for each folder that cannot be read.
    out
        The folder of the job's results, with links followed.
    files
        Patterns of the job's `bands`: a folder with such files is a scene, and a file is none.

    """

    root: str
    pattern: Pattern
    before: str | None
    left: LeftOut
    out: str = ""
    files: tuple[str, ...] = ()
    _above: set[tuple[int, int]] = field(default_factory=set)  # folders that one is in: links may lead back

    @classmethod
    def of(cls, job: Job, root: str, pattern: Pattern, before: str | None, left: LeftOut) -> Walk:
        """A walk for a job's source. Raises SceneError where there is no such folder."""
        demand_folder(root)
        return cls(root, pattern, before, left, os.path.realpath(job.out), files_of(job))

    def scenes(self) -> Iterator[Listed]:
        """The scenes, by name within each folder; no more is held than the names in the folders that one is in."""
        yield from self._below("", os.path.realpath(self.root or "."))

    def _below(self, path: str, real: str) -> Iterator[Listed]:
        """The scenes of one folder, which is `path` below the root."""
        said = os.stat(self._at(path) or ".")
        if (key := (said.st_dev, said.st_ino)) in self._above:
            return
        self._above.add(key)
        names = self._names(path)
        units = _metadata(names)
        for name in names:
            below = f"{path}/{name}" if path else name
            try:
                said = os.stat(self._at(below))
                if stat.S_ISDIR(said.st_mode):
                    yield from self._folder(below, os.path.join(real, name))
                elif stat.S_ISREG(said.st_mode) and not self.files and self._is_image(below, name, names, units):
                    yield self._listed(below, below, Stamp(said.st_size, said.st_mtime))
            except FileNotFoundError:  # gone since, or a link to nothing
                continue
            except OSError as error:
                self.left.refuse(f"{self._at(below)} cannot be listed: {error.strerror}.")
        self._above.discard(key)

    def _folder(self, path: str, real: str) -> Iterator[Listed]:
        """The scene that a folder is, or those below it."""
        meant, entered = self.pattern.fits(path), self.pattern.enters(path)
        if real == self.out or not (meant or entered):
            return
        names = self._names(path)
        scene = scene_in(path, names, self.files) if meant else None
        if scene is not None:
            # ^ of a DICOM slide the scene is a file, and the folder has the name
            yield self._listed(path, f"{path}/{scene}" if scene else path, newest(self._at(path)))
        elif entered and (self.pattern.parts or not set(names) >= _RESULT):
            yield from self._below(path, real)

    def _is_image(self, path: str, name: str, names: Sequence[str], units: set[str]) -> bool:
        if name in units:
            return self.pattern.fits(path)
        if self.pattern.says_ending or not self.pattern.takes(path):
            return self.pattern.takes(path)
        stem, ending = os.path.splitext(name)
        parts = (slide for slide, part in _OF_SLIDES.items() if part == ending.lower())
        return not (OF_LANDSAT.fullmatch(name) or any(_is_part(stem, names, slide) for slide in parts))

    def _listed(self, path: str, place: str, stamp: Stamp) -> Listed:
        name = name_of(path, self.pattern.says_ending, self.before)
        return Listed(SceneEntry(name=name, uri=self._at(place)), stamp)

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path) if path else self.root

    def _names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._at(path) or "."))
        except OSError as error:
            self.left.refuse(f"The folder {self._at(path)} cannot be listed: {error.strerror}.")
            return []


def demand_folder(root: str) -> None:
    """Raise SceneError where there is no such folder; "" is the one that one is in."""
    if not os.path.isdir(root or "."):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise SceneError(f"The folder {root} {what}: check the path.")


def files_of(job: Job) -> tuple[str, ...]:
    """The patterns of the files that a job's bands lie in, one file for each band."""
    return tuple(one.file for one in job.bands.values()) if isinstance(job.bands, dict) else ()


def scene_in(path: str, names: Sequence[str], files: Sequence[str] = ()) -> str | None:
    """Whether a folder is one scene: "" where it is itself, the name of a file in it that stands for it, or None."""
    delivered = path.upper().endswith(".SAFE") or not DELIVERED.isdisjoint(names)
    if delivered or len(_metadata(names)) == 1 or any(mark in names for mark in ZARR_MARKS):
        return ""
    if any(fnmatchcase(name, file.partition("/")[0]) for file in files for name in names):
        return ""
    return min((name for name in names if name.lower().endswith(_DICOM)), default=None)


def newest(folder: str) -> Stamp:
    """Size and last change of all files of a scene that is a folder. Raises OSError."""
    size, modified = 0, 0.0
    for place, _, files in os.walk(folder):
        modified = max(modified, os.stat(place).st_mtime)
        for name in files:
            try:
                said = os.stat(os.path.join(place, name))
            except FileNotFoundError:  # a link to nothing, or somebody is at work: then its folder has just changed
                continue
            size, modified = size + said.st_size, max(modified, said.st_mtime)
    return Stamp(size, modified)


def _metadata(names: Sequence[str]) -> set[str]:
    """One metadata file for each Landsat scene among the names, as it is chosen by who opens them."""
    found: dict[str, str] = {}
    for ending in (".txt", ".json", ".xml"):
        for name in names:
            if name.lower().endswith(ending) and (match := _MTL.fullmatch(name)):
                found.setdefault(match[1], name)
    return set(found.values())


def _is_part(stem: str, names: Sequence[str], ending: str) -> bool:
    """Whether a file belongs to a slide with such an ending, with whose name its own begins."""
    return any(name.lower().endswith(ending) and stem.startswith(name[: -len(ending)]) for name in names)


def stamp_of(uri: str) -> Stamp:
    """What is known of an image by its name: of a file or a folder that is here, else nothing."""
    if "://" in uri:
        return Stamp()
    try:
        said = os.stat(uri)
        return newest(uri) if stat.S_ISDIR(said.st_mode) else Stamp(said.st_size, said.st_mtime)
    except (OSError, ValueError):  # it is opened and told of later
        return Stamp()
