"""From the coordinates of an area's file to a scene's pixels, by one of three ways that the two files leave open.

Both say a CRS: by projection. Neither does: by the same local coordinates, or as pixels, x = col and y = row counted
from the scene's upper left corner. Anything else is a guess, and is made only where it is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform, transform_bounds

from pipeline.errors import SceneError
from pipeline.raster.access import environment
from pipeline.raster.complaints import GDAL_ERRORS
from pipeline.raster.source import Scene

Points = NDArray[np.float64]  # (point, 2): x and y
Bounds = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True, slots=True)
class Placing:
    """How coordinates of a file and pixels of a scene belong together; made by `placed`.

    `there` and `here` are the two CRS, where points have to be projected; None where they are the same. `affine` leads
    from (col, row) of the scene to its coordinates.
    """

    affine: Affine
    there: CRS | None
    here: CRS | None
    note: str | None

    def to_pixels(self, points: Points) -> Points:
        """(col, row) of points of the file, the scene's corner being (0, 0). Raises SceneError where there are none."""
        return _moved(~self.affine, _projected(self.there, self.here, points))

    def from_pixels(self, points: Points) -> Points:
        """The file's coordinates of points (col, row) of the scene. Raises SceneError where there are none."""
        return _projected(self.here, self.there, _moved(self.affine, points))

    def boxes(self, width: int, height: int) -> list[Bounds]:
        """Where the scene lies in the file's coordinates, with a rim; two boxes where it crosses the antimeridian."""
        corners = _moved(self.affine, np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64))
        box = _grown((*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()))
        if self.here is None or self.there is None:
            return [box]
        try:
            with environment():
                left, bottom, right, top = transform_bounds(self.here, self.there, *box, densify_pts=101)
        except GDAL_ERRORS:
            return [(-np.inf, -np.inf, np.inf, np.inf)]
        if not np.isfinite([left, bottom, right, top]).all():
            return [(-np.inf, -np.inf, np.inf, np.inf)]
        if left > right:
            return [(left, bottom, 180.0, top), (-180.0, bottom, right, top)]
        return [(left, bottom, right, top)]


def placed(file: str, crs: str | None, scene: Scene, *, by_default: bool = False) -> Placing:
    """How a file's coordinates lie on a scene. `by_default`: the CRS is the format's, and the file says none.

    Raises SceneError where one of the two has a CRS and the other has no place in it.
    """
    local = Affine(*scene.transform) if scene.transform else Affine.identity()
    if scene.crs is None or scene.transform is None:
        if crs is not None and not by_default:
            raise SceneError(
                f"The area {file} is in {_called(crs)} and the image {scene.shown} has no georeference to lay it by: "
                "give the area in pixels (x = column, y = row), in a file that names no CRS."
            )
        what = "coordinates of the image's transform" if scene.transform else "pixels: x = column, y = row from the top"
        return Placing(local, None, None, f"The area {file} is taken in {what}, since neither names a CRS.")
    if crs is None:
        return Placing(local, None, None, f"The area {file} names no CRS: it is taken in that of the image.")
    try:
        there, here = CRS.from_user_input(crs), CRS.from_wkt(scene.crs)
    except CRSError as error:
        raise SceneError(f"The CRS of the area {file} cannot be understood: {error}.") from None
    return Placing(local, None, None, None) if there == here else Placing(local, there, here, None)


def _called(crs: str) -> str:
    """A CRS in a few words."""
    return crs if len(crs) <= 40 else f"{crs[:40]}…"


def _grown(box: Bounds) -> Bounds:
    """A box with a twentieth of its longer side around it, so that what is cut off lies outside the scene."""
    rim = max(box[2] - box[0], box[3] - box[1]) / 20
    return box[0] - rim, box[1] - rim, box[2] + rim, box[3] + rim


def _moved(affine: Affine, points: Points) -> Points:
    x, y = points[:, 0], points[:, 1]
    return np.stack([affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f], axis=1)


def _projected(source: CRS | None, target: CRS | None, points: Points) -> Points:
    if source is None or target is None or not len(points):
        return points
    project: Callable[..., tuple[list[float], list[float]]] = transform
    try:
        with environment():
            found = np.array(project(source, target, points[:, 0], points[:, 1]), np.float64).T
    except GDAL_ERRORS as error:
        raise SceneError(f"The area and the image have no place in common: {error}.") from None
    if not np.isfinite(found).all():
        raise SceneError("The area and the image have no place in common: a point of one has none in the other's CRS.")
    return found
