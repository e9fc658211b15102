"""A rectangle of an image at the size of a picture: read through overviews where the file has some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import BlockError
from pipeline.grid import Rect
from pipeline.raster.access import PUBLISH_CACHE_BYTES, environment, open_file
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.layer import Layer
from pipeline.raster.overview import overview
from pipeline.raster.reader import judged
from pipeline.raster.source import Scene

PART_BYTES = PUBLISH_CACHE_BYTES // 2  # of a row of tiles, which has to stay in the cache beside what else is in it

Size = tuple[int, int]  # (rows, cols) of a picture
Seen = tuple[NDArray[np.float64], NDArray[np.bool_]]  # bands (band, row, col), validity (row, col)


def glimpse(scene: Scene, places: Sequence[int], view: Rect, size: Size, within: Rect | None = None) -> Seen:
    """Bands of a rectangle of a scene, by their places in `scene.bands`, and where they are valid, at another size.

    A file is read at the picture's size: from its overviews where it has some, else from every tile that the rectangle
    meets, of which each pixel takes one. A slide is read from the coarsest level that is fine enough. What lies beyond
    `within` is invalid and not read, unless it is a slide. Raises BlockError where the image cannot be read, SceneError
    where it is no longer one.
    """
    pixels = np.zeros((len(places), *size))
    valid = np.ones(size, np.bool_)
    for layer in scene.layers or (Layer(scene, tuple(range(len(scene.bands)))),):
        taken = {to: layer.places.index(place) for to, place in enumerate(places) if place in layer.places}
        if taken:
            part = _with_bands(layer.part, tuple(taken.values()))
            lens = _Lens(replace(layer, part=part, places=tuple(range(len(taken)))), view, size)
            seen, inside = _slide(part, view, size) if part.levels else _file(lens, lens.frame(within or view))
            pixels[list(taken)] = seen
            valid &= inside
    return pixels, valid & np.isfinite(pixels).all(axis=0)


def _with_bands(part: Scene, places: Sequence[int]) -> Scene:
    """The same raster, with fewer of its bands."""
    return replace(
        part,
        bands=tuple(part.bands[place] for place in places),
        nodata=tuple(part.nodata[place] for place in places),
    )


@dataclass(frozen=True, slots=True)
class _Lens:
    """How a picture of a rectangle of the scene lies over a layer of it. Axis 0 is down, 1 across."""

    layer: Layer
    view: Rect
    size: Size

    def in_layer(self, axis: int, edge: int) -> float:
        """Where an edge between the picture's pixels lies in the layer, the nearest place where that is beyond it."""
        start, side = ((self.view.top, self.view.height), (self.view.left, self.view.width))[axis]
        at = (start + Fraction(edge * side, self.size[axis])) * self.layer.scale[axis] + self.layer.offset[axis]
        return float(min(max(at, Fraction(0)), Fraction(self.layer.part.rect.shape[axis])))

    def in_picture(self, axis: int, place: Fraction) -> Fraction:
        """Where a place of the scene lies in the picture."""
        start, side = ((self.view.top, self.view.height), (self.view.left, self.view.width))[axis]
        return (place - start) * self.size[axis] / side

    def frame(self, within: Rect) -> Rect:
        """The picture's pixels that show a rectangle of the scene, as far as the layer reaches."""
        begin, end, first, last = [], [], (within.top, within.left), (within.bottom, within.right)
        for axis, (side, scale, to) in enumerate(
            zip(self.layer.part.rect.shape, self.layer.scale, self.layer.offset, strict=True)
        ):
            reach = [round(self.in_picture(axis, (edge - to) / scale)) for edge in (0, side)]
            begin.append(max(0, reach[0], floor(self.in_picture(axis, Fraction(first[axis])))))
            end.append(min(self.size[axis], reach[1], ceil(self.in_picture(axis, Fraction(last[axis])))))
        return Rect(*begin, *end)

    def upright_parts(self, frame: Rect) -> Iterator[tuple[Rect, Window]]:
        """(pixels of the picture, the window of the file that they show) of a frame of it, from left to right.

        GDAL reads a smaller picture line by line. A part is so narrow that its row of tiles stays in the cache
        meanwhile, or each tile would be decoded once for every line that it holds.
        """
        top, bottom = (self.in_layer(0, edge) for edge in (frame.top, frame.bottom))
        start, end = (self.in_layer(1, edge) for edge in (frame.left, frame.right))
        across = ceil((end - start) / self.layer.part.tile[1])
        count = max(1, min(across, frame.width, -(-across * self.layer.part.tile_bytes // PART_BYTES)))
        edges = [frame.left + frame.width * number // count for number in range(count + 1)]
        for left, right in pairwise(edges):
            start, end = self.in_layer(1, left), self.in_layer(1, right)
            yield Rect(frame.top, left, frame.bottom, right), Window(start, top, end - start, bottom - top)


def _file(lens: _Lens, frame: Rect) -> Seen:
    """The bands of a layer that is a file; nothing beyond the frame."""
    part = lens.layer.part
    seen = np.zeros((len(part.bands), *lens.size))
    inside = np.zeros(lens.size, np.bool_)
    try:
        with environment(part.uri), open_file(part.uri, part.allow) as file:
            for place, window in lens.upright_parts(frame) if frame.area else ():
                seen[:, *place.slices()], inside[place.slices()] = _read(file, part, window, place.shape)
    except GDAL_ERRORS as error:
        raise BlockError(f"The image {part.shown} cannot be read: {reason(error)}.") from None
    return seen, inside


def _read(file: DatasetReader, part: Scene, window: Window, size: Size) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Bands (band, row, col) and validity (row, col) of a window at another size."""
    bands = [*part.bands, part.alpha] if part.alpha else list(part.bands)
    # rasterio reads bands of several types one by one only
    alike = len({file.dtypes[band - 1] for band in bands}) == 1
    together = [bands] if alike else [[band] for band in bands]
    how: dict[str, Any] = {"window": window, "resampling": Resampling.nearest}
    raw = np.concatenate([file.read(some, out_shape=(len(some), *size), **how) for some in together])
    return judged(part, raw, [file.read_masks(band, out_shape=size, **how) for band in part.masks])


def _slide(slide: Scene, view: Rect, size: Size) -> Seen:
    """The bands of a slide, each pixel the mean of what it covers."""
    factor = min(Fraction(1), max(Fraction(count, side) for count, side in zip(size, view.shape, strict=True)))
    first, last = (floor(view.top * factor), floor(view.left * factor)), (view.bottom * factor, view.right * factor)
    rect = Rect(*first, *(ceil(edge) for edge in last))
    seen, inside = overview(slide, factor, rect)
    rows, cols = (np.arange(count) * side // count for count, side in zip(size, rect.shape, strict=True))
    return seen[:, rows][:, :, cols].astype(np.float64), inside[rows][:, cols]
