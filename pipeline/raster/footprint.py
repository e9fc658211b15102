"""Where a raster lies on the Earth, in longitude and latitude: a GeoJSON geometry and its box, as RFC 7946 wants them.

The raster's edge is followed in points, since a straight edge on a map is none on the globe. What crosses the
antimeridian is cut there, and its box has its west above its east; what holds a pole is closed along it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as reprojected
from shapely import Polygon, box, make_valid, set_precision, unary_union
from shapely.affinity import translate
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from pipeline.raster.complaints import GDAL_ERRORS
from pipeline.raster.ground import Transform, units

WGS84 = CRS.from_epsg(4326)
POINTS = 32  # along each side
STRAIGHT = 1e-4  # of the longer side: how far a point may lie beside a line that leaves it out
DIGITS = 7  # of degrees: a centimetre


class Footprint(NamedTuple):
    """A GeoJSON Polygon or MultiPolygon, and [west, south, east, north] in degrees."""

    geometry: dict[str, Any]
    bbox: list[float]


@lru_cache(maxsize=64)
def footprint(crs: str | None, transform: Transform | None, height: int, width: int) -> Footprint | None:
    """The outline of a raster of (height, width) pixels; None where it lies nowhere on the Earth that can be said."""
    if crs is None or transform is None or units(crs) is None:
        return None
    try:
        return _cut(_edge(CRS.from_wkt(crs), transform, height, width))
    except GDAL_ERRORS:
        return None


class _Edge(NamedTuple):
    """A raster's edge: longitudes without a jump, latitudes, and which pole lies inside (90, -90), if any."""

    longitudes: NDArray[np.float64]
    latitudes: NDArray[np.float64]
    poles: list[float]


def _edge(crs: CRS, transform: Transform, height: int, width: int) -> _Edge | None:
    """Follow the edge once around; None where it leaves the Earth, as that of a satellite's whole disk does."""
    part = np.arange(POINTS) / POINTS
    cols = np.concatenate([width * part, np.full(POINTS, width), width * (1 - part), np.zeros(POINTS), [0.0]])
    rows = np.concatenate([np.zeros(POINTS), height * part, np.full(POINTS, height), height * (1 - part), [0.0]])
    a, b, c, d, e, f = transform
    xs, ys = a * cols + b * rows + c, d * cols + e * rows + f
    longitudes, latitudes = (np.asarray(each) for each in reprojected(crs, WGS84, xs.tolist(), ys.tolist()))
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()):
        return None
    steps = np.diff(longitudes)
    longitudes = longitudes[0] + np.concatenate([[0.0], np.cumsum(steps - 360 * np.round(steps / 360))])
    longitudes[-1] = longitudes[0] + 360 * np.round((longitudes[-1] - longitudes[0]) / 360)  # it ends where it began
    inside = (
        [] if crs.is_geographic else [pole for pole in (90.0, -90.0) if _holds(crs, transform, height, width, pole)]
    )
    return _Edge(longitudes, np.clip(latitudes, -90, 90), inside)


def _holds(crs: CRS, transform: Transform, height: int, width: int, pole: float) -> bool:
    """Whether a pole is one of the raster's points."""
    (x,), (y,) = reprojected(WGS84, crs, [0.0], [pole])
    if not (math.isfinite(x) and math.isfinite(y)):
        return False
    a, b, c, d, e, f = transform
    area = a * e - b * d
    col, row = (e * (x - c) - b * (y - f)) / area, (a * (y - f) - d * (x - c)) / area
    return bool(0 < col < width and 0 < row < height)


def _cut(edge: _Edge | None) -> Footprint | None:
    """Bring an edge between -180 and 180 degrees, in one part for each turn of the Earth that it reaches into."""
    if edge is None:
        return None
    ring = list(zip(edge.longitudes.tolist(), edge.latitudes.tolist(), strict=True))
    winds = abs(edge.longitudes[-1] - edge.longitudes[0]) > 180
    if len(edge.poles) == 2 or winds != bool(edge.poles):
        return _told(_cap(edge), -180.0, 180.0)
    if winds:
        ring += [(ring[-1][0], edge.poles[0]), (ring[0][0], edge.poles[0])]
    whole = _simple(make_valid(Polygon(ring)))
    west, _, east, _ = whole.bounds
    first, last = math.floor((west + 180) / 360), math.ceil((east - 180) / 360)
    turns = {turn: box(-180 + 360 * turn, -90, 180 + 360 * turn, 90) for turn in range(first, last + 1)}
    parts = [translate(whole.intersection(turn), -360 * at) for at, turn in turns.items()]
    united = unary_union([set_precision(part, 10**-DIGITS) for part in parts])
    if winds or east - west >= 360:
        return _told(united, -180.0, 180.0)
    return _told(united, west - 360 * first, east - 360 * last)


def _cap(edge: _Edge) -> BaseGeometry:
    """All longitudes, for an edge that passes so close to a pole that it does not say on which side; or has both."""
    south, north = float(edge.latitudes.min()), float(edge.latitudes.max())
    both = len(edge.poles) == 2
    return box(-180, -90 if both or north < 0 else south, 180, 90 if both or south > 0 else north)


def _simple(whole: BaseGeometry) -> BaseGeometry:
    """Without the points that say nothing: a side that is nearly straight needs two."""
    west, south, east, north = whole.bounds
    return whole.simplify(STRAIGHT * max(east - west, north - south))


def _told(geometry: BaseGeometry, west: float, east: float) -> Footprint | None:
    """Say it in GeoJSON: outer rings against the clock, coordinates rounded."""
    parts = [part for part in getattr(geometry, "geoms", [geometry]) if isinstance(part, Polygon) and part.area > 0]
    if not parts:
        return None
    rings = [_ring(orient(part)) for part in sorted(parts, key=lambda part: part.bounds)]
    _, south, _, north = geometry.bounds
    said = {"type": "Polygon", "coordinates": rings[0]}
    if len(rings) > 1:
        said = {"type": "MultiPolygon", "coordinates": rings}
    return Footprint(said, [round(number, DIGITS) + 0.0 for number in (west, south, east, north)])


def _ring(part: Polygon) -> list[list[list[float]]]:
    rings = mapping(part)["coordinates"]
    return [[[round(x, DIGITS) + 0.0, round(y, DIGITS) + 0.0] for x, y in ring] for ring in rings]
