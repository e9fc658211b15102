"""Whether an image touches an area of interest, found out before the image is looked at any closer."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import MaskmillError
from pipeline.raster.access import environment, open_file
from pipeline.raster.area import find_area, open_area
from pipeline.raster.complaints import GDAL_ERRORS
from pipeline.raster.facts import transform_of
from pipeline.raster.footprint import WGS84
from pipeline.raster.ground import Transform
from pipeline.raster.source import Scene
from pipeline.settings import AreaEntry

_SIDE = 1024  # px of what stands for an image of which only its box is known


def touches(uri: str, box: Sequence[float] | None, entry: AreaEntry, allow: Sequence[str] = ()) -> bool | None:
    """Whether a pixel of an image may be inside an area; None where nobody can say where the image lies.

    `box`, [west, south, east, north] in degrees, spares opening the image; one whose west is east of its east crosses
    the antimeridian. Raises SettingsError where the file is no area.
    """
    area = find_area(entry)
    try:
        parts = _boxes(uri, box) if box else [_opened(uri, allow)]
        return any(open_area(area, part).touches(part.rect) for part in parts)
    except (*GDAL_ERRORS, MaskmillError):  # who plans it tells of it
        return None


def _boxes(uri: str, box: Sequence[float]) -> list[Scene]:
    half = len(box) // 2  # a box may have heights
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    spans = [(west, east)] if west < east else [(west, 180.0), (-180.0, east)]
    crs = WGS84.to_wkt(version="WKT2_2019")
    return [
        _stand_in(uri, crs, ((b - a) / _SIDE, 0.0, a, 0.0, (south - north) / _SIDE, north), _SIDE, _SIDE)
        for a, b in spans
        if b > a and north > south
    ]


def _opened(uri: str, allow: Sequence[str]) -> Scene:
    with environment(uri), open_file(uri, allow) as dataset:
        crs = dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else None
        return _stand_in(uri, crs, transform_of(dataset), dataset.height, dataset.width)


def _stand_in(uri: str, crs: str | None, transform: Transform | None, height: int, width: int) -> Scene:
    """An image of which no more is known than where it lies."""
    return Scene(
        name="unnamed",
        uri=uri,
        height=height,
        width=width,
        bands=(1,),
        dtype="uint8",
        crs=crs,
        transform=transform,
        nodata=(None,),
        alpha=None,
        masks=(),
        tile=(1, 1),
        tile_bytes=1,
        driver="",
        fingerprint="",
    )
