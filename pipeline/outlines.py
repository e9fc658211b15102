"""The outlines of a finished mask as GeoJSON that QuPath and GIS read: every region of every class, with holes.

The mask is looked at in squares of a fixed side, row by row. A region that ends within its square is written at once;
what meets a seam is kept until the row is done, joined with its neighbours, and written when nothing below can meet it.
So memory holds one square of pixels and the outlines that are still open, and no block decides a vertex.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from pipeline.store.objects import sentences
from pipeline.store.sink import Sink

NAME = "outlines.geojson"
SIDE = 2048  # px: of the squares
_MASK = "mask"

Tick = Callable[[int], None]
Side = tuple[float, float, int]  # (start, stop, number of the piece) along a seam


def write(sink: Sink, scene: Scene, georef: Georef, classes: Sequence[MaskClass], folder: Path, tick: Tick) -> Path:
    """Write `outlines.geojson` into a folder: every region of the mask as a polygon, in the scene's coordinates.

    A slide's are pixels, as QuPath counts. Regions are connected by pixels' sides: two that meet in a corner are two.
    Statuses have no outline. The CRS is named as GDAL reads it (GeoJSON 2008), where it has a code. `tick` is told of
    the pixels done. Raises RoomError where the disk is full, SettingsError for other refusals.
    """
    place = Affine(*georef.transform) if georef.transform and not georef.slide else Affine.identity()
    look = {one.value: {"name": one.name, "color": list(rgb(one.colour))} for one in classes}
    target = folder / NAME
    with sentences(target), target.open("w", encoding="utf-8") as file:
        file.write(_head(georef))
        between = "\n"
        for value, region in regions(sink, scene.rect, list(look), tick):
            file.write(between)
            _write_feature(file, _placed(region, place), look[value])
            between = ",\n"
        file.write("\n]}\n")
    return target


def regions(sink: Sink, scene: Rect, values: Sequence[int], tick: Tick) -> Iterator[tuple[int, shapely.Polygon]]:
    """(class, polygon in pixels (col, row)) of each region of these classes; a vertex lies where a side turns."""
    pending = {value: _Pieces() for value in values}
    for top in range(0, scene.height, SIDE):
        for left in range(0, scene.width, SIDE):
            square = Rect(top, left, top + SIDE, left + SIDE).intersect(scene)
            cut: dict[int, list[shapely.Polygon]] = {value: [] for value in values}
            for value, region in _within(sink.read(_MASK, square), square, values):
                if _meets_a_seam(region, square, scene):
                    cut[value].append(region)
                else:
                    yield value, _straightened(region)
            for value, pieces in cut.items():
                pending[value].add(pieces, square)
            tick(square.area)
        for value, pieces_of_class in pending.items():
            for region in pieces_of_class.whole(last=top + SIDE >= scene.height):
                yield value, _straightened(region)


class _Pieces:
    """The regions of one class that are still in pieces: which belong together, and what the next squares can meet.

    Pieces belong together where they share part of a side. Each region is joined once, when all its pieces are there.
    """

    def __init__(self) -> None:
        self._groups: dict[int, list[shapely.Polygon]] = {}  # by the number of the first piece
        self._parents: dict[int, int] = {}
        self._next = 0
        self._above: list[Side] = []  # lower sides of the row above
        self._lower: list[Side] = []  # of this row
        self._right: list[Side] = []  # right sides of the square to the left

    def add(self, pieces: Sequence[shapely.Polygon], square: Rect) -> None:
        """Take the pieces of a square; squares come row by row, from the left."""
        numbers = range(self._next, self._next + len(pieces))
        self._next += len(pieces)
        for number, piece in zip(numbers, pieces, strict=True):
            self._groups[number], self._parents[number] = [piece], number
        if square.left:
            self._join(self._right, _sides(pieces, numbers, 0, square.left))
        near = [side for side in self._above if side[0] < square.right and side[1] > square.left]
        self._join(near, _sides(pieces, numbers, 1, square.top))
        self._right = _sides(pieces, numbers, 0, square.right)
        self._lower += _sides(pieces, numbers, 1, square.bottom)

    def whole(self, last: bool) -> Iterator[shapely.Polygon]:
        """At the end of a row: the regions that nothing below can meet. They are kept no longer."""
        below = [] if last else [(start, stop, self._first(number)) for start, stop, number in self._lower]
        still = {number for _, _, number in below}
        for number in [number for number in self._groups if number not in still]:
            yield shapely.unary_union(self._groups.pop(number))
        self._above, self._lower, self._right = below, [], []
        self._parents = {number: number for number in self._groups}

    def _join(self, some: Sequence[Side], others: Sequence[Side]) -> None:
        """Put together what shares part of a seam. Both are in order, and within each nothing overlaps."""
        at = 0
        for start, stop, number in others:
            while at < len(some) and some[at][1] <= start:
                at += 1
            for further in range(at, len(some)):
                if some[further][0] >= stop:
                    break
                self._unite(self._first(number), self._first(some[further][2]))

    def _unite(self, one: int, other: int) -> None:
        if one != other:
            more, less = (one, other) if len(self._groups[one]) >= len(self._groups[other]) else (other, one)
            self._groups[more] += self._groups.pop(less)
            self._parents[less] = more

    def _first(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number


def _sides(pieces: Sequence[shapely.Polygon], numbers: Sequence[int], axis: int, at: int) -> list[Side]:
    """The parts of a seam that pieces lie along, in order: where coordinate `axis` is `at`. No hole reaches a seam."""
    found = []
    for number, piece in zip(numbers, pieces, strict=True):
        if at in (piece.bounds[axis], piece.bounds[axis + 2]):
            points = shapely.get_coordinates(piece.exterior)
            along = (points[:-1, axis] == at) & (points[1:, axis] == at)
            ends = np.stack([points[:-1, 1 - axis], points[1:, 1 - axis]])[:, along]
            found += [(start, stop, number) for start, stop in np.sort(ends, axis=0).T.tolist()]
    return sorted(found)


def _within(mask: NDArray[Any], square: Rect, values: Sequence[int]) -> Iterator[tuple[int, shapely.Polygon]]:
    """The regions of a square by themselves; of a band for each class, those of the last classes."""
    place = Affine.translation(square.left, square.top)
    if mask.ndim == 3:
        for value, band in zip(values[-len(mask) :], mask, strict=True):
            for shape, _ in shapes(band, mask=band == 1, connectivity=4, transform=place):
                yield value, _polygon(shape)
        return
    for shape, value in shapes(mask, mask=np.isin(mask, values), connectivity=4, transform=place):
        yield int(value), _polygon(shape)


def _polygon(shape: Mapping[str, Any]) -> shapely.Polygon:
    rings = shape["coordinates"]
    return shapely.Polygon(rings[0], rings[1:])


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
