"""An area said by a raster mask on any grid: a pixel of the scene is inside where the mask's pixel under its centre is.

Inside is what is valid in the mask and not 0; what lies beyond the mask is outside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import BlockError, SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.raster.access import environment, open_file
from pipeline.raster.area import Area, Form
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.laid import MOST, Laid
from pipeline.raster.placing import Placing, placed
from pipeline.raster.source import Scene, open_scene


class MaskFence:
    """A raster mask over a scene's pixels; see `pipeline.raster.area.Fence`. Without a placing it has the same grid."""

    def __init__(self, scene: Scene, mask: Scene, placing: Placing | None) -> None:
        said = placing.note if placing else f"The area {mask.uri} is laid pixel by pixel: it has the image's size."
        self.notes = (said,) if said else ()
        self.held = MOST * 4
        self._scene, self._mask = scene, mask
        self._laid = Laid(scene, mask, placing)
        self.extent = self._laid.extent

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
                self._laid.look_up(rect, lambda place: (_said(file, place),), (found,))
        except SceneError as error:
            raise BlockError(error.message) from None
        except GDAL_ERRORS as error:
            raise BlockError(f"The area {self._mask.uri} cannot be read: {reason(error)}.") from None
        return found if found.any() and not found.all() else bool(found[0, 0])


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
