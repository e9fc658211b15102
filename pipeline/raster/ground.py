"""What a pixel measures on the ground: units of a CRS, areas of pixels on its ellipsoid.

A CRS is its WKT, a transform the six numbers (a, b, c, d, e, f) of x = a·col + b·row + c, y = d·col + e·row + f.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as transformed

from pipeline.grid import Rect
from pipeline.raster.complaints import GDAL_ERRORS

Transform = tuple[float, float, float, float, float, float]

_NUMBER = r"\s*([-+.\deE]+)\s*"
_ELLIPSOID = re.compile(
    rf'(?:ELLIPSOID|SPHEROID)\["(?:[^"]|"")*",{_NUMBER},{_NUMBER}(?:,\s*LENGTHUNIT\["(?:[^"]|"")*",{_NUMBER})?'
)
_WGS84 = 6378137.0, math.sqrt((2 - 1 / 298.257223563) / 298.257223563)  # semi-major axis in metres, eccentricity


@lru_cache(maxsize=64)
def units(crs: str) -> tuple[bool, float] | None:
    """(whether geographic, radians or metres in one unit of the CRS); None for CRS that are neither, or local."""
    try:
        parsed = CRS.from_wkt(crs)
        if not (parsed.is_geographic or parsed.is_projected):
            return None
        return bool(parsed.is_geographic), float(parsed.units_factor[1])
    except CRSError:
        return None


def pixel_area(crs: str | None, transform: Transform | None) -> float | None:
    """Area of a pixel on the map of a projected CRS, in m²; None in any other."""
    known = units(crs) if crs else None
    if known is None or known[0] or transform is None:
        return None
    a, b, _, d, e, _ = transform
    return abs(a * e - b * d) * known[1] ** 2


def row_areas(crs: str | None, transform: Transform | None, top: int, bottom: int) -> NDArray[np.float64] | None:
    """Area on the ellipsoid of one pixel of each row from `top` to `bottom` − 1, in m²; beyond a pole it is 0.

    The zone between two parallels over one radian of longitude has a²/2 · |q₂ − q₁|, q from Snyder, "Map Projections:
    A Working Manual" (1987), equation 3-12. None where the CRS is not geographic or the image is rotated.
    """
    known = units(crs) if crs else None
    shape = _ellipsoid(crs) if crs else None
    if known is None or not known[0] or shape is None or transform is None or transform[1] or transform[3]:
        return None
    step, _, _, _, down, start = (number * known[1] for number in transform)
    edges = np.clip(start + down * np.arange(top, bottom + 1, dtype=np.float64), -math.pi / 2, math.pi / 2)
    axis, eccentricity = shape
    areas: NDArray[np.float64] = abs(step) * axis**2 / 2 * np.abs(np.diff(_q(edges, eccentricity)))
    return areas


def scaled(transform: Transform | None, down: Fraction, across: Fraction) -> Transform | None:
    """The transform of the same raster with so many pixels, (down, across), to one of its own; None stays None."""
    if transform is None:
        return None
    a, b, c, d, e, f = transform
    return a / float(across), b / float(down), c, d / float(across), e / float(down), f


def bounds(transform: Transform | None, rect: Rect) -> list[float] | None:
    """[least x, least y, greatest x, greatest y] of a rectangle of pixels; None without a transform."""
    if transform is None:
        return None
    a, b, c, d, e, f = transform
    corners = [(row, col) for row in (rect.top, rect.bottom) for col in (rect.left, rect.right)]
    xs = [a * col + b * row + c for row, col in corners]
    ys = [d * col + e * row + f for row, col in corners]
    return [min(xs), min(ys), max(xs), max(ys)]


def resolution(crs: str | None, transform: Transform | None, height: int) -> float | None:
    """Side of a square pixel of the same area in metres, in the middle of the image; None where nobody can say."""
    area = pixel_area(crs, transform)
    if area is None:
        areas = row_areas(crs, transform, height // 2, height // 2 + 1)
        area = float(areas[0]) if areas is not None else None
    return math.sqrt(area) if area else None


def step(crs: str | None, transform: Transform | None, row: float, col: float) -> float | None:
    """Metres on the ground from one pixel to the next of its row, at a place of the image; None where nobody can say.

    On an ellipsoid it is √((N cos φ Δλ)² + (M Δφ)²), N and M the radii of curvature in the prime vertical and in the
    meridian (Snyder, "Map Projections: A Working Manual", 1987, equations 4-18 to 4-20). The place of a projected CRS
    is found on WGS 84, so that a map's own distortion, as that of Web Mercator, is no part of it; of one that has no
    way there, not being of the Earth, it is the map's unit.
    """
    known = units(crs) if crs else None
    if crs is None or known is None or transform is None:
        return None
    a, b, c, d, e, f = transform
    xs, ys = ([at * col + by * row + zero + half for half in (0.0, at)] for at, by, zero in ((a, b, c), (d, e, f)))
    if known[0]:
        degree, shape = known[1], _ellipsoid(crs)
    else:
        xs, ys = _geographic(crs, xs, ys)
        degree, shape = math.pi / 180, _WGS84
        if not np.isfinite([*xs, *ys]).all():
            return math.hypot(a, d) * known[1]
    if shape is None:
        return None
    axis, eccentricity = shape
    latitude = math.radians(90) if abs(ys[0] * degree) > math.pi / 2 else ys[0] * degree
    squared = 1 - (eccentricity * math.sin(latitude)) ** 2
    across = axis / math.sqrt(squared) * math.cos(latitude) * (xs[1] - xs[0]) * degree
    along = axis * (1 - eccentricity**2) / squared**1.5 * (ys[1] - ys[0]) * degree
    return math.hypot(across, along) or None


def _geographic(crs: str, xs: list[float], ys: list[float]) -> tuple[list[float], list[float]]:
    """Longitudes and latitudes on WGS 84, in degrees; infinite where there is no way there."""
    try:
        longitudes, latitudes = transformed(CRS.from_wkt(crs), CRS.from_epsg(4326), xs, ys)
    except GDAL_ERRORS:
        return [math.inf], [math.inf]
    return list(longitudes), list(latitudes)


def _q(latitude: NDArray[np.float64], eccentricity: float) -> NDArray[np.float64]:
    sine = np.sin(latitude)
    if eccentricity == 0:  # a sphere: the limit of what follows
        return 2 * sine
    squared = eccentricity**2
    part = sine / (1 - squared * sine**2)
    log = np.log((1 - eccentricity * sine) / (1 + eccentricity * sine)) / (2 * eccentricity)
    q: NDArray[np.float64] = (1 - squared) * (part - log)
    return q


def _ellipsoid(crs: str) -> tuple[float, float] | None:
    """(semi-major axis in metres, eccentricity) out of a WKT."""
    found = _ELLIPSOID.search(crs)
    if found is None:
        return None
    axis, inverse = float(found[1]) * float(found[3] or 1), float(found[2])
    flattening = 1 / inverse if inverse else 0.0
    return axis, math.sqrt(flattening * (2 - flattening))
