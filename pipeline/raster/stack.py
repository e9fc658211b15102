"""Bands that lie in files of their own, put together as one scene on the grid of one of them.

All files have one CRS and pixels with parallel edges; where one grid lies on another is a fraction of small numbers, to
a hundredth of a pixel over the whole scene. The scene is what the grid's own file covers; where another file has no
pixel, the scene's pixel is invalid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from pipeline.errors import SceneError
from pipeline.raster.delivery import BandFile
from pipeline.raster.facts import DTYPES
from pipeline.raster.ground import Transform
from pipeline.raster.layer import Layer, Pair
from pipeline.raster.source import Scene, open_scene

FINEST, COARSEST = "finest", "coarsest"
DRIVER = "layers"
TOLERANCE = 0.01  # of a pixel
_DENOMINATORS = (1, 2, 3, 4, 6, 8, 12, 16, 64)  # of scale and offset; beyond, two grids have nothing to do with another

Part = tuple[Scene, tuple[int, ...]]  # a file's scene, and the places of its bands among those wanted


def stacked(uri: str, name: str, bands: Sequence[tuple[str, BandFile]], grid: str, allow: Sequence[str] = ()) -> Scene:
    """Put bands together, in the order given, each with its name.

    `grid` is "finest", "coarsest" or one of the names. Raises SceneError where a file cannot be opened, where the grids
    do not fit, or where there is no such band.
    """
    parts = _parts(bands, name, allow)
    base = _base(parts, [one for one, _ in bands], grid, uri)
    layers = tuple(Layer(part, places, *_placed(base, part)) for part, places in parts)
    gain, offset = _calibration(bands, parts)
    dtype = np.result_type(*(part.dtype for part, _ in parts)).name
    if dtype not in DTYPES:
        kinds = ", ".join(sorted({part.dtype for part, _ in parts}))
        raise SceneError(f"The bands of {uri} are {kinds}, which have no common dtype here.")
    return Scene(
        name=name,
        uri=uri,
        height=base.height,
        width=base.width,
        bands=tuple(range(1, len(bands) + 1)),
        dtype=dtype,
        crs=base.crs,
        transform=base.transform,
        nodata=(None,) * len(bands),
        alpha=None,
        masks=(),
        tile=base.tile,
        tile_bytes=sum(part.tile_bytes for part, _ in parts),
        driver=DRIVER,
        fingerprint=_fingerprint(layers, gain, offset),
        ties=base.ties,
        allow=tuple(allow),
        notes=tuple(dict.fromkeys(note for part, _ in parts for note in part.notes)),
        layers=layers,
        taken=next((one.part.taken for one in layers if one.part.taken), None),
        gain=gain,
        offset=offset,
    )


def _parts(bands: Sequence[tuple[str, BandFile]], name: str, allow: Sequence[str]) -> list[Part]:
    """One scene for each file, in the order of their first bands."""
    places: dict[Path | str, list[int]] = {}
    for place, (_, file) in enumerate(bands):
        places.setdefault(file.path, []).append(place)
    found = []
    for path, at in places.items():
        part = open_scene(str(path), [bands[place][1].band for place in at], name, allow)
        nodata = [bands[place][1].nodata for place in at]
        if part.always_valid and all(value is not None for value in nodata):
            part = replace(part, nodata=tuple(nodata))
        found.append((part, tuple(at)))
    return found


def _base(parts: Sequence[Part], names: Sequence[str], grid: str, uri: str) -> Scene:
    """The file whose grid is the scene's; of several alike the first."""
    if grid not in {FINEST, COARSEST}:
        if grid not in names:
            raise SceneError(f"`grid` cannot be {grid!r} for {uri}: say finest, coarsest or one of {', '.join(names)}.")
        return next(part for part, places in parts if names.index(grid) in places)
    sign = 1 if grid == FINEST else -1
    return min((part for part, _ in parts), key=lambda part: sign * _pixel(part))


def _pixel(part: Scene) -> float:
    """A pixel's area in units of the CRS; without a transform, its part of the picture."""
    if part.transform is None:
        return 1 / part.rect.area
    a, b, _, d, e, _ = part.transform
    return abs(a * e - b * d)


def _placed(base: Scene, part: Scene) -> tuple[Pair, Pair]:
    """(scale, offset) that lead from the base's pixels to the part's. Raises SceneError where they do not fit."""
    if (base.crs is None) != (part.crs is None) or (
        base.crs and part.crs and base.crs != part.crs and CRS.from_wkt(base.crs) != CRS.from_wkt(part.crs)
    ):
        raise SceneError(f"{part.uri} and {base.uri} have different CRS: bring them to one (gdalwarp).")
    if base.transform is None or part.transform is None:
        if base.transform != part.transform or base.rect != part.rect:
            raise SceneError(
                f"{part.uri} has {part.height} × {part.width} pixels and {base.uri} {base.height} × {base.width}, and "
                "no transform says how they lie on each other."
            )
        return (Fraction(1), Fraction(1)), (Fraction(0), Fraction(0))
    (a, b, c), (d, e, f) = np.linalg.solve(_matrix(part.transform), _matrix(base.transform))[:2].tolist()
    scale = _fraction(e, base.height), _fraction(a, base.width)
    offset = _fraction(f, 1), _fraction(c, 1)
    skewed = max(abs(b) * base.height, abs(d) * base.width) > TOLERANCE
    if skewed or scale[0] is None or scale[1] is None or offset[0] is None or offset[1] is None or min(a, e) <= 0:
        raise SceneError(
            f"The grids of {part.uri} and {base.uri} do not lie on each other: a pixel of the second is {e:.6g} × "
            f"{a:.6g} of the first, beginning at row {f:.6g}, column {c:.6g}, turned by {d:.6g} and {b:.6g}. Bring "
            "them to one grid (gdalwarp -tap), or name another `grid`."
        )
    return (scale[0], scale[1]), (offset[0], offset[1])


def _matrix(transform: Transform) -> NDArray[np.float64]:
    return np.array([transform[:3], transform[3:], (0, 0, 1)], np.float64)


def _fraction(number: float, span: int) -> Fraction | None:
    """The simplest fraction within a hundredth of a pixel over `span` pixels; None where there is none."""
    for most in _DENOMINATORS:
        found = Fraction(number).limit_denominator(most)
        if abs(float(found) - number) * span <= TOLERANCE:
            return found
    return None


def _calibration(
    bands: Sequence[tuple[str, BandFile]], parts: Sequence[Part]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """(gain, offset), one number for each band: as they are named, else as its file says; None unless all have them."""
    said = [(file.gain, file.offset or 0.0) for _, file in bands]
    for part, places in parts:
        for at, place in enumerate(places):
            if said[place][0] is None and part.gain and part.offset:
                said[place] = part.gain[at], part.offset[at]
    gains = tuple(gain for gain, _ in said if gain is not None)
    return (gains, tuple(offset for _, offset in said)) if len(gains) == len(bands) else (None, None)


def _fingerprint(layers: Sequence[Layer], *calibration: tuple[float, ...] | None) -> str:
    """Digest of all that decides pixels: the files, their bands, and how they lie on the grid."""
    parts = [
        [layer.part.fingerprint, layer.part.bands, layer.part.nodata, layer.places, str(layer.scale), str(layer.offset)]
        for layer in layers
    ]
    said = json.dumps([parts, calibration])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
