"""Where pixels lie, said in the three forms that readers of Zarr look for, for every level of a pyramid.

- CF: a scalar variable `spatial_ref` with `crs_wkt` and `GeoTransform`, and pixel centres in `x` and `y` (xarray,
  rioxarray, GDAL at a group). Rotated scenes and scenes without a transform have no `x` and `y`.
- `_CRS` on every array (GDAL at an array).
- The Zarr conventions `proj:`, `spatial:` and `multiscales` (GDAL from 3.13, GeoZarr readers), tags v0.1: `proj:` takes
  one of code and WKT; a group with a `multiscales` layout has its transforms in the layout and not beside it.

Transforms are (a, b, c, d, e, f): x = a·col + b·row + c, y = d·col + e·row + f, at pixels' top left corners. A scene
without one is placed in its own pixels. Everything here is a plain function of its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.store.ome import UNIT

Attributes: TypeAlias = dict[str, Any]
Transform: TypeAlias = tuple[float, float, float, float, float, float]

GRID_MAPPING = "spatial_ref"
_IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_SITE = "zarr-conventions"
# The first keyword that is not a wrapper (COMPOUNDCRS, BOUNDCRS) is the horizontal part; BASEGEOGCRS has no boundary.
_HORIZONTAL = re.compile(
    r"\b(GEOGCRS|GEOGRAPHICCRS|GEOGCS|GEODCRS|PROJCRS|PROJECTEDCRS|PROJCS|DERIVEDPROJCRS|ENGCRS)\["
)
_CODE = re.compile(r'ID\["([A-Za-z_]+)",\s*"?(\d+)"?\](?:,\s*REMARK\["[^"]*"\])?\]$')
_AXIS_UNIT = re.compile(r'CS\[\s*Cartesian.*?LENGTHUNIT\["([^"]+)"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Georef:
    """A scene's place: its CRS as WKT2, its transform, attributes of what else ties it to the ground; all optional.

    `slide` is set for a whole slide, which lies nowhere on the Earth: its transform gives micrometres.
    """

    crs: str | None = None
    transform: Transform | None = None
    ties: Attributes | None = None
    slide: bool = False

    @property
    def code(self) -> str | None:
        """The CRS's own identifier, such as "EPSG:32632"; None where it has none (its parts' do not count)."""
        found = _CODE.search(self.crs.strip()) if self.crs else None
        return f"{found[1].upper()}:{found[2]}" if found else None

    @property
    def geographic(self) -> bool:
        """Whether coordinates are longitudes and latitudes."""
        found = _HORIZONTAL.search(self.crs) if self.crs else None
        return bool(found) and found[1].startswith("GEO")  # type: ignore[index]

    @property
    def upright(self) -> bool:
        """Whether rows and columns run along the axes, so that one `x` for each column and one `y` for each row do."""
        return self.transform is not None and self.transform[1] == 0 == self.transform[3]

    def at(self, level: int) -> Transform:
        """The transform of a level whose pixels are 2^level times as long; pixels of level 0 where there is none."""
        a, b, c, d, e, f = self.transform or _IDENTITY
        times = 2**level
        return a * times, b * times, c, d * times, e * times, f


def array_attributes(georef: Georef, level: int, shape: tuple[int, int]) -> Attributes:
    """Attributes of a (…, y, x) array at a level of shape (rows, columns)."""
    attributes: Attributes = {
        "zarr_conventions": _conventions("proj", "spatial") if georef.crs else _conventions("spatial"),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(shape),
        "spatial:transform": list(georef.at(level)),
        "spatial:bbox": _bbox(georef.at(level), shape),
        "spatial:registration": "pixel",
    }
    if georef.crs:
        attributes |= _proj(georef) | {"_CRS": _crs(georef)}
    if georef.crs or georef.transform or (georef.ties and level == 0):
        # xarray takes for coordinates what this attribute names, and rioxarray looks for the CRS among the coordinates.
        attributes |= {"grid_mapping": GRID_MAPPING, "coordinates": GRID_MAPPING}
    return attributes


def group_attributes(georef: Georef, levels: Sequence[tuple[int, int]], assets: Mapping[str, str]) -> Attributes:
    """Attributes of the root group: where the whole scene lies, and which arrays are its levels.

    Parameters
    ----------
    georef
        The scene's place.
    levels
        (rows, columns) of each level, the finest first.
    assets
        The arrays that have these levels, with the method each was made coarser by, such as {"mask": "mode"}. Level 0
        of an array is `name`, level k is `k/name`.

    """
    names = ("multiscales", "proj", "spatial") if georef.crs else ("multiscales", "spatial")
    return {
        "Conventions": "CF-1.11",
        "zarr_conventions": _conventions(*names),
        "multiscales": {
            "layout": [
                _layout(georef, name, method, level, shape)
                for name, method in assets.items()
                for level, shape in enumerate(levels)
            ]
        },
        **(_proj(georef) if georef.crs else {}),
        "spatial:dimensions": ["y", "x"],
        "spatial:bbox": _bbox(georef.at(0), levels[0]),
        "spatial:registration": "pixel",
    }


def grid_mapping(georef: Georef, level: int) -> Attributes | None:
    """Attributes of the scalar variable `spatial_ref` at a level, its ties at level 0; None where nothing is known."""
    attributes: Attributes = dict(georef.ties or {}) if level == 0 else {}
    if not (georef.crs or georef.transform or attributes):
        return None
    if georef.crs:
        attributes |= {"crs_wkt": georef.crs, "spatial_ref": georef.crs}
        if georef.geographic:
            attributes["grid_mapping_name"] = "latitude_longitude"
    if georef.transform:
        a, b, c, d, e, f = georef.at(level)
        attributes["GeoTransform"] = " ".join(repr(float(term)) for term in (c, a, b, f, d, e))
    return attributes


def coordinates(
    georef: Georef, level: int, shape: tuple[int, int]
) -> dict[str, tuple[NDArray[np.float64], Attributes]] | None:
    """The pixel centres of a level, as {"x": (values, attributes), "y": …}; None unless the scene is upright."""
    if not georef.upright:
        return None
    a, _, c, _, e, f = georef.at(level)
    rows, cols = shape
    x, y = c + a * (np.arange(cols, dtype=np.float64) + 0.5), f + e * (np.arange(rows, dtype=np.float64) + 0.5)
    return {"x": (x, _axis(georef, "x")), "y": (y, _axis(georef, "y"))}


def _axis(georef: Georef, axis: str) -> Attributes:
    attributes: Attributes = {"axis": axis.upper()}
    if georef.slide:
        return attributes | {"units": UNIT}
    if georef.crs is None:
        return attributes
    if georef.geographic:
        name, units = ("longitude", "degrees_east") if axis == "x" else ("latitude", "degrees_north")
        return attributes | {"standard_name": name, "units": units}
    unit = _AXIS_UNIT.search(georef.crs)
    attributes["standard_name"] = f"projection_{axis}_coordinate"
    return attributes | ({"units": unit[1]} if unit else {})


def _layout(georef: Georef, name: str, method: str, level: int, shape: tuple[int, int]) -> Attributes:
    """One entry of a multiscales layout; its scale is relative to the level that it was made from."""
    entry: Attributes = {"asset": f"{level}/{name}" if level else name}
    if level:
        entry["derived_from"] = f"{level - 1}/{name}" if level > 1 else name
        entry["resampling_method"] = method
    scale = 2.0 if level else 1.0
    entry["transform"] = {"scale": [scale, scale], "translation": [0.0, 0.0]}
    return entry | {"spatial:shape": list(shape), "spatial:transform": list(georef.at(level))}


def _proj(georef: Georef) -> Attributes:
    return {"proj:code": georef.code} if georef.code else {"proj:wkt2": georef.crs}


def _crs(georef: Georef) -> Attributes:
    if georef.code is None:
        return {"wkt": georef.crs}
    authority, number = georef.code.split(":")
    return {"wkt": georef.crs, "url": f"http://www.opengis.net/def/crs/{authority}/0/{number}"}


def _bbox(transform: Transform, shape: tuple[int, int]) -> list[float]:
    """[xmin, ymin, xmax, ymax] around the four corners."""
    a, b, c, d, e, f = transform
    corners = [(row, col) for row in (0, shape[0]) for col in (0, shape[1])]
    xs = [a * col + b * row + c for row, col in corners]
    ys = [d * col + e * row + f for row, col in corners]
    return [min(xs), min(ys), max(xs), max(ys)]


_CONVENTIONS = {
    "multiscales": ("d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
    "proj": ("f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information for geospatial data"),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
}


def _conventions(*names: str) -> list[Attributes]:
    return [
        {
            "schema_url": f"https://raw.githubusercontent.com/{_SITE}/{name}/refs/tags/v0.1/schema.json",
            "spec_url": f"https://github.com/{_SITE}/{name}/blob/v0.1/README.md",
            "uuid": _CONVENTIONS[name][0],
            "name": name,
            "description": _CONVENTIONS[name][1],
        }
        for name in names
    ]
