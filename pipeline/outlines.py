"""The outlines of a finished mask as GeoJSON that QuPath and GIS read: every region of every class, with holes.

The mask is looked at in squares of a fixed side, row by row. A region that ends within its square is written at once;
what meets a seam is kept until the row is done, joined with its neighbours, and written when nothing below can meet it.
So memory holds one square of pixels and the outlines that are still open, and no block decides a vertex.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry.polygon import orient

from pipeline.cog import rgb
from pipeline.grid import Rect
from pipeline.network.legend import MaskClass
from pipeline.raster.source import Scene
from pipeline.store.georef import Georef
from pipeline.store.sink import Sink

NAME = "outlines.geojson"
SIDE = 2048  # px: of the squares
_MASK = "mask"

Tick = Callable[[int], None]


def write(sink: Sink, scene: Scene, georef: Georef, classes: Sequence[MaskClass], folder: Path, tick: Tick) -> Path:
    """Write `outlines.geojson` into a folder: every region of the mask as a polygon, in the scene's coordinates.

    A slide's are pixels, as QuPath counts. Regions are connected by pixels' sides: two that meet in a corner are two.
    Statuses have no outline. The CRS is named as GDAL reads it (GeoJSON 2008), where it has a code. `tick` is told of
    the pixels done.
    """
    place = Affine(*georef.transform) if georef.transform and not georef.slide else Affine.identity()
    look = {one.value: {"name": one.name, "color": list(rgb(one.colour))} for one in classes}
    target = folder / NAME
    with target.open("w", encoding="utf-8") as file:
        file.write(_head(georef))
        between = "\n"
        for value, region in regions(sink, scene.rect, sorted(look), tick):
            file.write(between)
            _write_feature(file, _placed(region, place), look[value])
            between = ",\n"
        file.write("\n]}\n")
    return target


def regions(sink: Sink, scene: Rect, values: Sequence[int], tick: Tick) -> Iterator[tuple[int, shapely.Polygon]]:
    """(class, polygon in pixels (col, row)) of each region of these classes; a vertex lies where a side turns."""
    pending: dict[int, list[shapely.Polygon]] = {value: [] for value in values}
    for top in range(0, scene.height, SIDE):
        for left in range(0, scene.width, SIDE):
            square = Rect(top, left, top + SIDE, left + SIDE).intersect(scene)
            for value, region in _within(sink.read(_MASK, square), square, values):
                if _meets_a_seam(region, square, scene):
                    pending[value].append(region)
                else:
                    yield value, _straightened(region)
            tick(square.area)
        bottom = min(top + SIDE, scene.height)
        for value in values:
            joined = shapely.get_parts(shapely.unary_union(pending[value])).tolist() if pending[value] else []
            pending[value] = []
            for region in joined:
                if region.bounds[3] >= bottom < scene.height:
                    pending[value].append(region)
                else:
                    yield value, _straightened(region)


def _within(mask: NDArray[Any], square: Rect, values: Sequence[int]) -> Iterator[tuple[int, shapely.Polygon]]:
    """The regions of a square by themselves."""
    place = Affine.translation(square.left, square.top)
    for shape, value in shapes(mask, mask=np.isin(mask, values), connectivity=4, transform=place):
        rings = shape["coordinates"]
        yield int(value), shapely.Polygon(rings[0], rings[1:])


def _meets_a_seam(region: shapely.Polygon, square: Rect, scene: Rect) -> bool:
    left, top, right, bottom = region.bounds
    return bool(
        (top == square.top > scene.top)
        or (left == square.left > scene.left)
        or (bottom == square.bottom < scene.bottom)
        or (right == square.right < scene.right)
    )


def _straightened(region: shapely.Polygon) -> shapely.Polygon:
    """Without the vertices that a seam left on a straight side."""
    return shapely.normalize(shapely.Polygon(_turns(region.exterior), [_turns(ring) for ring in region.interiors]))


def _turns(ring: shapely.LinearRing) -> NDArray[np.float64]:
    """(n, 2): where a ring of level and upright sides turns."""
    points = shapely.get_coordinates(ring)[:-1]
    back, on = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turning: NDArray[np.float64] = points[back[:, 0] * on[:, 1] != back[:, 1] * on[:, 0]]
    return turning


def _placed(region: shapely.Polygon, place: Affine) -> shapely.Polygon:
    def to_map(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        return np.stack([place.a * x + place.b * y + place.c, place.d * x + place.e * y + place.f], axis=1)

    moved = region if place.is_identity else shapely.transform(region, to_map)
    return orient(moved)


def _head(georef: Georef) -> str:
    crs = ""
    if georef.code:
        authority, number = georef.code.split(":")
        crs = f'"crs": {{"type": "name", "properties": {{"name": "urn:ogc:def:crs:{authority}::{number}"}}}}, '
    return f'{{"type": "FeatureCollection", {crs}"features": ['


def _write_feature(file: TextIO, region: shapely.Polygon, classification: dict[str, Any]) -> None:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [_plain(ring) for ring in (region.exterior, *region.interiors)]},
        "properties": {"objectType": "annotation", "classification": classification},
    }
    json.dump(feature, file, ensure_ascii=False)


def _plain(ring: shapely.LinearRing) -> list[list[float]]:
    points: list[list[float]] = shapely.get_coordinates(ring).tolist()
    return [[int(number) if number.is_integer() else number for number in point] for point in points]
