"""An area said by a raster mask on any grid: a pixel of the scene is inside where the mask's pixel under its centre is.

Inside is what is valid in the mask and not 0. Every centre is brought to the mask by itself, so that no rectangle asked
for changes an answer; what lies beyond the mask is outside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import BlockError, SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.raster.access import environment, open_file
from pipeline.raster.area import Area, Form
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.placing import Placing, placed
from pipeline.raster.source import Scene, open_scene

AT_ONCE = 1 << 18  # centres in hand
MOST = 1 << 24  # pixels of the mask that are read at once
FINEST = 4096  # steps to a pixel of the mask, below which a difference is rounding


class MaskFence:
    """A raster mask over a scene's pixels; see `pipeline.raster.area.Fence`. Without a placing it has the same grid."""

    def __init__(self, scene: Scene, mask: Scene, placing: Placing | None) -> None:
        said = placing.note if placing else f"The area {mask.uri} is laid pixel by pixel: it has the image's size."
        self.notes = (said,) if said else ()
        self.held = MOST * 4
        self._scene, self._mask, self._placing = scene, mask, placing
        self._grid = Placing(Affine(*(mask.transform or Affine.identity()[:6])), None, None, None)
        self.extent = self._footprint(placing) if placing else scene.rect

    @property
    def whereabouts(self) -> str:
        """Where the mask lies, for a sentence."""
        seen = self.extent
        where = f"rows {seen.top} to {seen.bottom}, columns {seen.left} to {seen.right}" if seen.area else "nothing"
        return (
            f"the mask's {self._mask.height} × {self._mask.width} px cover {where} of the image's "
            f"{self._scene.height} × {self._scene.width}"
        )

    def touches(self, rect: Rect) -> bool:
        """Whether the mask's frame meets the rectangle."""
        return bool(self.extent.intersect(rect).area)

    def inside(self, rect: Rect) -> NDArray[np.bool_] | bool:
        """Which pixels of a rectangle are inside, (row, col); True or False where all or none are."""
        if not self.touches(rect):
            return False
        found = np.zeros(rect.shape, np.bool_)
        try:
            with environment(), open_file(Path(self._mask.uri)) as file:
                self._fill(file, rect, found)
        except SceneError as error:
            raise BlockError(error.message) from None
        except GDAL_ERRORS as error:
            raise BlockError(f"The area {self._mask.uri} cannot be read: {reason(error)}.") from None
        return found if found.any() and not found.all() else bool(found[0, 0])

    def _fill(self, file: DatasetReader, rect: Rect, found: NDArray[np.bool_]) -> None:
        """Look up a rectangle's centres, in parts whose place in the mask is small enough to be read."""
        parts = [rect]
        while parts:
            part = parts.pop()
            if part.area > AT_ONCE:
                parts += _halves(part)
                continue
            row, col = self._under(part)
            there = (row >= 0) & (row < self._mask.height) & (col >= 0) & (col < self._mask.width)
            if not there.any():
                continue
            row, col = row[there], col[there]
            place = Rect(int(row.min()), int(col.min()), int(row.max()) + 1, int(col.max()) + 1)
            if place.area > MOST and part.area > 1:
                parts += _halves(part)
                continue
            said = _said(file, place)
            found[part.slices(rect)][there] = said[row - place.top, col - place.left]

    def _under(self, rect: Rect) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, col) of the mask's pixels under the centres of a rectangle's."""
        rows, cols = np.mgrid[rect.top : rect.bottom, rect.left : rect.right]
        if self._placing is None:
            return rows, cols
        centres = np.stack([cols.reshape(-1) + 0.5, rows.reshape(-1) + 0.5], axis=1)
        places = self._grid.to_pixels(self._placing.from_pixels(centres))
        # A centre on the border of two pixels of the mask is given to the right or lower one, whatever was rounded.
        x, y = np.floor(np.rint(places * FINEST) / FINEST).astype(np.int64).T
        return y.reshape(rect.shape), x.reshape(rect.shape)

    def _footprint(self, placing: Placing) -> Rect:
        """A rectangle of the scene that holds all that lies under the mask."""
        scene, mask = self._scene.rect, self._mask
        steps = np.linspace(0, 1, 65)
        rim = [(t, s) for t in steps for s in (0, 1)] + [(s, t) for t in steps for s in (0, 1)]
        frame = np.array(rim) * (mask.width, mask.height)
        try:
            seen = placing.to_pixels(self._grid.from_pixels(frame))
        except SceneError:
            return scene
        low, high = np.floor(seen.min(axis=0)), np.ceil(seen.max(axis=0))
        slack = np.maximum(2, (high - low) / 20) if placing.there is not None else np.ones(2)
        limits = np.array([scene.width, scene.height])
        left, top = np.clip(low - slack, 0, limits).astype(int).tolist()
        right, bottom = np.clip(high + slack, 0, limits).astype(int).tolist()
        return Rect(top, left, bottom, right)


def _halves(rect: Rect) -> tuple[Rect, Rect]:
    if rect.height >= rect.width:
        middle = (rect.top + rect.bottom) // 2
        return Rect(rect.top, rect.left, middle, rect.right), Rect(middle, rect.left, rect.bottom, rect.right)
    middle = (rect.left + rect.right) // 2
    return Rect(rect.top, rect.left, rect.bottom, middle), Rect(rect.top, middle, rect.bottom, rect.right)


def _said(file: DatasetReader, place: Rect) -> NDArray[np.bool_]:
    """Which pixels of the mask's first band are valid and not 0."""
    window = Window(place.left, place.top, place.width, place.height)
    pixels = file.read(1, window=window)
    inside: NDArray[np.bool_] = (pixels != 0) & (file.read_masks(1, window=window) > 0)
    return inside & ~np.isnan(pixels) if pixels.dtype.kind == "f" else inside


def find(path: Path) -> Area:
    """Look at a raster mask. Raises SettingsError."""
    try:
        mask = open_scene(str(path), None, "area")
        with open_file(path) as file:
            bands = sum(what != ColorInterp.alpha for what in file.colorinterp)
    except SceneError as error:
        raise SettingsError(
            f"The area {path} is neither polygons nor a mask that is read here. {error.message}"
        ) from None
    if bands != 1:
        raise SettingsError(f"The area {path} has {bands} bands; a mask has one, in which 0 is outside.")
    return Area(str(path), Form.RASTER, None, mask.fingerprint)


def lay(area: Area, scene: Scene) -> MaskFence:
    """Lay a mask over a scene. Raises SceneError."""
    mask = open_scene(area.path, None, "area")
    if (mask.transform is None or scene.transform is None) and mask.rect != scene.rect:
        raise SceneError(
            f"The area {area.path} and the image {scene.shown} have no georeference in common, and differ in size: "
            f"{mask.height} × {mask.width} and {scene.height} × {scene.width} px. Give a mask of the image's size."
        )
    known = mask.transform is not None and scene.transform is not None
    return MaskFence(scene, mask, placed(mask.uri, mask.crs, scene) if known else None)
