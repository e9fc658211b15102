"""Pixels and their validity, on the scene's grid, for any rectangle: inside the scene, across its edge or beyond it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import BlockError, SceneError
from pipeline.grid import Rect, reflected
from pipeline.raster.access import environment, open_file
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.layer import Layer
from pipeline.raster.resample import resampled
from pipeline.raster.slide import Slide
from pipeline.raster.source import Scene

Pixels = NDArray[Any]  # (band, row, col) in the scene's dtype
Valid = NDArray[np.bool_]  # (row, col)
_MOST = float(np.finfo(np.float32).max)  # networks eat float32: to them, float64 beyond it is infinity


class Reader:
    """Reads a scene. One reader serves many threads: each has its own handle, opened when it first reads.

    A pickled or forked reader opens anew. Nothing is held open after `close`, and reading opens again.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._decoded = threading.local()
        # By process and thread. A number is given to a new thread only when the old one is dead, and so is its handle's
        # use: no more handles than threads at once.
        self._handles: dict[tuple[int, int], DatasetReader] = {}
        self._slides: dict[tuple[int, int], Slide] = {}
        self._parts = [Reader(layer.part) for layer in scene.layers]

    def __reduce__(self) -> tuple[type[Self], tuple[Scene]]:
        return type(self), (self.scene,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the tiles that were decoded for this thread so far.

        Over the bytes of pixels asked for, it is the amplification.
        """
        return getattr(self._decoded, "bytes", 0) + sum(part.bytes_read for part in self._parts)

    def close(self) -> None:
        """Close every handle; no other thread may be reading."""
        for part in self._parts:
            part.close()
        while self._handles:
            _, handle = self._handles.popitem()
            handle.close()
        while self._slides:
            _, slide = self._slides.popitem()
            slide.close()

    def read(self, rect: Rect) -> tuple[Pixels, Valid]:
        """Return (pixels, valid) of a rectangle, which may reach beyond the scene: there it is reflected.

        `pixels` is (band, row, col), C-contiguous, in the scene's dtype; NaN and infinity are replaced by 0.
        `valid` is (row, col): false where any band is NaN, infinite or masked, or all bands that declare a nodata value
        have it. Raises BlockError where the file cannot be read, ValueError for an empty rectangle.
        """
        rows, cols, clip = _mirrored(self.scene, rect)
        if self._parts:
            raw, valid = self._layered(clip)
        else:
            raw, valid = self._scanned(clip) if self.scene.levels else self._read(clip)
            self._decoded.bytes = getattr(self._decoded, "bytes", 0) + tiles_touched(self.scene, clip)
        if clip == rect:
            return raw, valid
        rows, cols = rows - clip.top, cols - clip.left
        pixels = np.empty((len(raw), *rect.shape), raw.dtype)
        for band, whole in zip(pixels, raw, strict=True):  # band by band: less in between
            band[:] = whole.take(rows, axis=0).take(cols, axis=1)
        return pixels, valid.take(rows, axis=0).take(cols, axis=1)

    def _layered(self, clip: Rect) -> tuple[Pixels, Valid]:
        """Put a rectangle of the scene together from its layers; valid is what is valid in all of them."""
        pixels = np.empty((len(self.scene.bands), *clip.shape), self.scene.dtype)
        valid = np.ones(clip.shape, np.bool_)
        for layer, part in zip(self.scene.layers, self._parts, strict=True):
            bands, inside = _of_layer(layer, part, clip)
            for place, band in zip(layer.places, bands, strict=True):
                pixels[place] = band
            valid &= inside
        return pixels, valid

    def _scanned(self, clip: Rect) -> tuple[Pixels, Valid]:
        """Read a rectangle of the level of a slide that the scene is."""
        key, scene = (os.getpid(), threading.get_ident()), self.scene
        try:
            if key not in self._slides:
                self._slides[key] = Slide(Path(scene.uri), scene.levels[0])
            pixels, valid = self._slides[key].read(clip)
        except SceneError as error:
            if key in self._slides:
                self._slides.pop(key).close()  # one that failed answers no more
            raise BlockError(error.message) from None
        return pixels[[band - 1 for band in scene.bands]], valid

    def _read(self, clip: Rect) -> tuple[Pixels, Valid]:
        scene = self.scene
        window = Window(clip.left, clip.top, clip.width, clip.height)
        bands = [*scene.bands, scene.alpha] if scene.alpha else list(scene.bands)
        try:
            with environment(scene.uri):
                dataset = self._dataset()
                raw = np.empty((len(bands), *clip.shape), scene.dtype)
                if len({dataset.dtypes[band - 1] for band in bands}) == 1:
                    dataset.read(bands, window=window, out=raw)
                else:  # rasterio reads bands of several types one by one only
                    for band, into in zip(bands, raw, strict=True):
                        dataset.read(band, window=window, out=into)
                masks = [dataset.read_masks(band, window=window) for band in scene.masks]
        except SceneError as error:
            raise BlockError(error.message) from None
        except GDAL_ERRORS as error:
            raise BlockError(
                f"Rows {clip.top} to {clip.bottom} and columns {clip.left} to {clip.right} of {scene.shown} "
                f"cannot be read: {reason(error)}."
            ) from None
        return judged(scene, raw, masks)

    def _dataset(self) -> DatasetReader:
        key = os.getpid(), threading.get_ident()
        if key not in self._handles:
            handle = open_file(self.scene.uri, self.scene.allow)
            scene = self.scene
            if handle.shape != (scene.height, scene.width) or handle.count < max(*scene.bands, scene.alpha or 0):
                handle.close()
                raise SceneError(f"The image {scene.shown} is not what it was when the run was planned: plan anew.")
            self._handles[key] = handle
        return self._handles[key]


def _of_layer(layer: Layer, part: Reader, clip: Rect) -> tuple[Pixels, Valid]:
    """A layer's bands of a rectangle of the scene, and where they are valid; beyond the layer nothing is."""
    if not layer.aligned:
        return resampled(part.read, clip, layer.scale, layer.offset, layer.part.rect.shape)
    inside = layer.reaches(clip)
    down, across = (int(shift) for shift in layer.offset)
    asked = Rect(clip.top + down, clip.left + across, clip.bottom + down, clip.right + across)
    if inside == asked:
        return part.read(asked)
    pixels = np.zeros((len(layer.places), *clip.shape), layer.part.dtype)
    valid = np.zeros(clip.shape, np.bool_)
    if inside.area:
        pixels[:, *inside.slices(asked)], valid[inside.slices(asked)] = part.read(inside)
    return pixels, valid


def tiles_touched(scene: Scene, rect: Rect) -> int:
    """Bytes of the tiles that reading a rectangle decodes; the part beyond the scene is read within it."""
    _, _, clip = _mirrored(scene, rect)
    if scene.layers:
        reached = ((layer.part, layer.reaches(clip)) for layer in scene.layers)
        return sum(tiles_touched(part, rect) for part, rect in reached if rect.area)
    rows, cols = scene.tile
    down = -(-clip.bottom // rows) - clip.top // rows
    across = -(-clip.right // cols) - clip.left // cols
    return down * across * scene.tile_bytes


def _mirrored(scene: Scene, rect: Rect) -> tuple[NDArray[np.intp], NDArray[np.intp], Rect]:
    """(rows, columns, the smallest rectangle of the scene that holds them)."""
    if not rect.area:
        raise ValueError(f"there are no pixels in {rect}")
    rows = reflected(rect.top, rect.bottom, scene.height)
    cols = reflected(rect.left, rect.right, scene.width)
    return rows, cols, Rect(int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1)


def judged(scene: Scene, raw: Pixels, masks: list[Pixels]) -> tuple[Pixels, Valid]:
    """Tell valid pixels from others, drop the alpha band, the last of `raw`, and replace NaN and infinity by 0."""
    pixels = raw[: len(scene.bands)]
    valid = np.ones(raw.shape[1:], np.bool_)
    if scene.always_valid:
        return pixels, valid
    if scene.alpha:
        valid &= raw[-1] > 0
    for mask in masks:
        valid &= mask > 0
    declared = [(band, value) for band, value in zip(pixels, scene.nodata, strict=True) if value is not None]
    if declared:
        empty = np.ones_like(valid)
        for band, value in declared:
            empty &= band == pixels.dtype.type(value)
        valid &= ~empty
    if pixels.dtype.kind == "f":
        for band in pixels:
            missing = ~(np.abs(band) <= _MOST)
            valid &= ~missing
            band[missing] = 0
    return pixels, valid
