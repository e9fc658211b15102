"""Whole slides, read by OpenSlide: what a slide is, and the pixels of any rectangle of any of its levels.

OpenSlide is an extra of its own and is imported when the first slide is opened. It takes places in pixels of level 0
and interpolates where such a place falls between two pixels of a coarser level, so that a pixel would depend on the
rectangle it was read with. Here a level is read in pieces that lie on a grid of their own: a pixel is always the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster.levels import Level, believed

if TYPE_CHECKING:
    import openslide

DRIVER = "OpenSlide"
"""What stands where a scene names GDAL's driver."""

CACHE_BYTES = 64 << 20
"""What the decoded tiles of all slides may hold in a process: as much as GDAL's cache, which slides do not use."""

PIECE = 1024  # px of a level: what is read at once
_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm", ".vms", ".vmu", ".svslide", ".czi"})
_TILE = 256  # px, where the file does not say
_WHITE = "FFFFFF"
_LARGEST_MPP = 1000.0  # micrometres; beyond a millimetre, what a file calls that is something else
_NAMED = re.compile(
    r"^\s*(?:FILE_\d+|INDEXFILE|ImageFile[\w(), ]*|MapFile|OptimisationFile)\s*=\s*(.+?)\s*$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a slide says of itself.

    Parameters
    ----------
    path
        The file, or the one of its files that names the others.
    vendor
        OpenSlide's name of the format.
    levels
        Those that are believed, finest first.
    notes
        A sentence for each that is not, and for what the slide leaves unsaid.
    mpp
        Micrometres in a pixel of level 0, (down, across); None where the slide does not say.
    tile
        (rows, cols) that are decoded at once on level 0.
    files
        All files that decide pixels.

    """

    path: Path
    vendor: str
    levels: tuple[Level, ...]
    notes: tuple[str, ...]
    mpp: tuple[float, float] | None
    tile: tuple[int, int]
    files: tuple[Path, ...]


def is_slide(path: Path) -> bool:
    """Whether a file is a slide by its name's ending; a TIFF of another name is an image like others."""
    return path.suffix.lower() in _SUFFIXES


def look_at(path: Path) -> Said:
    """Open a slide, look at everything about it but its pixels, and close it.

    Raises SceneError where OpenSlide is not installed, knows no such slide, or where it names files elsewhere.
    """
    library = _openslide(path)
    files = _files(path)
    try:
        vendor = library.OpenSlide.detect_format(path)
        if vendor is None:
            raise SceneError(f"The file {path} is no slide that OpenSlide can read: it may be damaged or cut short.")
        with library.OpenSlide(path) as opened:
            shapes = [(rows, cols) for cols, rows in opened.level_dimensions]
            said = dict(opened.properties)
    except (library.OpenSlideError, OSError) as error:
        raise SceneError(f"The slide {path} cannot be opened, it may be cut short: {_reason(error)}.") from None
    levels, notes = believed(shapes)
    mpp = _mpp(said)
    if mpp is None:
        notes = (*notes, f"The slide {path.name} does not say how many micrometres a pixel has: it has no resolution.")
    tile = tuple(_whole(said.get(f"openslide.level[0].tile-{side}")) or _TILE for side in ("height", "width"))
    return Said(path, vendor, levels, notes, mpp, (tile[0], tile[1]), files)


class Slide:
    """One level of an open slide. It belongs to the thread that opened it, and is never pickled.

    Raises SceneError where the slide cannot be opened, or is not what `look_at` saw.
    """

    def __init__(self, path: Path, level: Level) -> None:
        library = _openslide(path)
        self._failures = (library.OpenSlideError, OSError, ValueError)
        try:
            self._slide = library.OpenSlide(path)
            self._slide.set_cache(_cache(library))
            shapes = [(rows, cols) for cols, rows in self._slide.level_dimensions]
            downsamples = self._slide.level_downsamples
            self._background = _background(self._slide.properties)
        except self._failures as error:
            raise SceneError(f"The slide {path} cannot be opened, it may be cut short: {_reason(error)}.") from None
        self._path, self._number = path, level.number
        if shapes[level.number : level.number + 1] != [(level.height, level.width)]:
            self.close()
            raise SceneError(f"The slide {path} is not what it was when the run was planned: plan anew.")
        self._downsample = float(downsamples[level.number])

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def read(self, rect: Rect) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(red, green and blue (3, row, col), validity (row, col)) of a rectangle inside the level, in its pixels.

        What was not scanned is invalid and has the slide's background colour; so have, in part, the rims of what was.
        Raises SceneError where it cannot be read; after that the slide answers no more and must be closed.
        """
        pixels = np.empty((3, *rect.shape), np.uint8)
        valid = np.empty(rect.shape, np.bool_)
        for piece in self._pieces(rect):
            part = piece.intersect(rect)
            rgba = self._read(Rect(piece.top, piece.left, part.bottom, part.right))
            rgba = rgba[part.slices(piece)]
            colours, alpha = rgba[..., :3], rgba[..., 3:].astype(np.uint16)
            if alpha.min() < 255:
                colours = (colours * alpha + self._background * (255 - alpha) + 127) // 255
            pixels[:, *part.slices(rect)] = colours.transpose(2, 0, 1)
            valid[part.slices(rect)] = rgba[..., 3] > 0
        return pixels, valid

    def _pieces(self, rect: Rect) -> Iterator[Rect]:
        """The pieces of a level that a rectangle touches; where any place can be named exactly, its own parts."""
        exact = self._downsample.is_integer()
        top, left = (rect.top, rect.left) if exact else (rect.top // PIECE * PIECE, rect.left // PIECE * PIECE)
        for row, col in product(range(top, rect.bottom, PIECE), range(left, rect.right, PIECE)):
            yield Rect(row, col, row + PIECE, col + PIECE)

    def _read(self, rect: Rect) -> NDArray[np.uint8]:
        """(row, col, RGBA) of a rectangle whose corner decides how it is interpolated; not premultiplied."""
        times = self._downsample
        place = round(rect.left * times), round(rect.top * times)
        try:
            return np.asarray(self._slide.read_region(place, self._number, (rect.width, rect.height)))
        except self._failures as error:
            raise SceneError(f"The slide {self._path} cannot be read there: {_reason(error)}.") from None


def _openslide(path: Path) -> ModuleType:
    try:
        import openslide  # noqa: PLC0415  # an extra, for slides alone
    except ImportError as error:
        raise SceneError(
            f"The image {path} is a whole slide, and what reads slides is not installed ({error}): "
            'pip install "maskmill[wsi]".'
        ) from None
    return openslide


_caches: list[openslide.OpenSlideCache] = []  # one for the process, made with its first slide


def _cache(library: ModuleType) -> openslide.OpenSlideCache:
    if not _caches:
        _caches.append(library.OpenSlideCache(CACHE_BYTES))
    return _caches[0]


def _files(path: Path) -> tuple[Path, ...]:
    """The files that decide a slide's pixels. Raises SceneError where it names one that lies elsewhere."""
    suffix = path.suffix.lower()
    if suffix == ".dcm":  # a level or a focal plane is a file: those of the same series lie in one folder
        return tuple(sorted(file for file in path.parent.iterdir() if file.suffix.lower() == ".dcm"))
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        index = folder / "Slidedat.ini"
    elif suffix in {".vms", ".vmu"}:
        folder, index = path.parent, path
    else:
        return (path,)
    try:
        text = index.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise SceneError(f"The slide {path} lacks its file {index}: {error.strerror}.") from None
    names = sorted(set(_NAMED.findall(text)))
    for name in names:
        if "/" in name or "\\" in name or name in {"", ".", ".."}:
            raise SceneError(f"The slide {path} names a file in another folder, {name!r}: put its files together.")
    found = [folder / name for name in names if (folder / name).is_file()]
    return tuple(dict.fromkeys([path, index, *found]))


def _mpp(said: Mapping[str, str]) -> tuple[float, float] | None:
    found = [_positive(said.get(f"openslide.mpp-{axis}")) for axis in ("y", "x")]
    return (found[0], found[1]) if found[0] and found[1] else None


def _background(said: Mapping[str, str]) -> NDArray[np.uint8]:
    """(red, green, blue) of what was not scanned; white where the slide does not say."""
    colour = said.get("openslide.background-color", "")
    return np.frombuffer(bytes.fromhex(colour if re.fullmatch("[0-9A-Fa-f]{6}", colour) else _WHITE), np.uint8)


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 < number < _LARGEST_MPP else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and 0 < int(text) < 1 << 16 else None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
