"""What ties an image to the ground without a transform: control points and rational polynomials: kept, never used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rasterio.enums import WktVersion
from rasterio.io import DatasetReader


@dataclass(frozen=True, slots=True)
class Ties:
    """An image's ground control points and RPCs, as its file has them.

    Parameters
    ----------
    points
        (row, col, x, y, z) of each ground control point; rows and columns are fractions of a pixel from the corner.
    crs
        The points' own CRS as WKT2, or None.
    rpcs
        (key, value) of GDAL's metadata domain RPC.

    """

    points: tuple[tuple[float, float, float, float, float], ...] = ()
    crs: str | None = None
    rpcs: tuple[tuple[str, str], ...] = ()

    def attributes(self) -> dict[str, Any]:
        """The same as attributes of a Zarr's `spatial_ref`: the points as GeoJSON, which rioxarray reads."""
        said: dict[str, Any] = {"rpcs": dict(self.rpcs)} if self.rpcs else {}
        if self.points:
            said["gcps"] = json.dumps(
                {"type": "FeatureCollection", "features": [_feature(*one) for one in self.points]}
            )
        if self.points and self.crs:
            said |= {"crs_wkt": self.crs, "spatial_ref": self.crs}
        return said


def ties_of(dataset: DatasetReader) -> Ties | None:
    """What a file says; control points count only where it has no transform. None where it says nothing."""
    points, crs = dataset.gcps if dataset.transform.is_identity else ([], None)
    rpcs = tuple(sorted((str(key), str(value)) for key, value in dataset.tags(ns="RPC").items()))
    if not points and not rpcs:
        return None
    placed = tuple((float(at.row), float(at.col), float(at.x), float(at.y), float(at.z or 0.0)) for at in points)
    return Ties(placed, str(crs.to_wkt(version=WktVersion.WKT2_2019)) if points and crs else None, rpcs)


def place_note(ties: Ties | None, crs: str | None, transform: tuple[float, ...] | None) -> str | None:
    """The sentence on how an image lies on the ground, where that is not plainly by a transform along the axes."""
    if ties is not None:
        what = f"{len(ties.points)} ground control points" if ties.points else "rational polynomials (RPCs)"
        left = "areas are not known" if transform is None else "its transform counts"
        return f"The image has {what}{' and no transform' * (transform is None)}; the result keeps them, and {left}."
    if transform is None:
        return f"The image has no {'transform' if crs else 'georeference'}; the result has none either."
    if transform[1] or transform[3]:
        return "The image is rotated against the axes of its map; the result is rotated as it is."
    return None


def _feature(row: float, col: float, x: float, y: float, z: float) -> dict[str, Any]:
    place = {"type": "Point", "coordinates": [x, y, z]}
    return {"type": "Feature", "properties": {"id": "", "info": "", "row": row, "col": col}, "geometry": place}
