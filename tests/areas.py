"""Real vector files for the tests of areas, written by pyogrio, and what is inside by an oracle of its own."""

from __future__ import annotations

import numpy as np
import pyogrio
import shapely
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.warp import transform

PLACE = Affine(*(10, 0, 500_000), *(0, -10, 5_000_000))  # that of `save_scene`, EPSG:32632


def write_area(path, polygons, crs="EPSG:32632", driver=None, layer="area", append=False):
    """Write polygons as a layer; they are given in EPSG:32632, or in none where `crs` is None."""
    drivers = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".gml": "GML"}
    wkb = np.array(shapely.to_wkb(polygons), object)
    kind = {one.geom_type for one in polygons}
    pyogrio.raw.write(
        str(path),
        wkb,
        [],
        [],
        driver=driver or {**drivers, ".kml": "KML"}[path.suffix],
        geometry_type=kind.pop() if len(kind) == 1 else "Unknown",
        crs=crs,
        layer=None if path.suffix == ".shp" else layer,
        append=append,
    )
    return path


def star(random, place, radius, points):
    """A polygon with no two edges that cross, about a point."""
    angles = np.sort(random.uniform(0, 2 * np.pi, points))
    far = random.uniform(0.3, 1, points) * radius
    return shapely.Polygon(np.c_[place[0] + far * np.cos(angles), place[1] + far * np.sin(angles)])


def on_map(polygons, affine=PLACE):
    """Polygons of pixels (col, row) as polygons of the map."""
    a, b, c, d, e, f = affine[:6]
    return shapely.transform(polygons, lambda points: points @ [[a, d], [b, e]] + [c, f])


def projected(polygons, crs, finely=5.0):
    """Polygons of EPSG:32632 in another CRS, their edges cut finely."""
    cut = shapely.segmentize(polygons, finely)
    return shapely.transform(cut, lambda points: np.array(transform("EPSG:32632", crs, *points.T)).T)


def burnt(polygons, shape):
    """Which pixels' centres are in polygons of pixels (col, row), by GDAL."""
    return rasterize(list(polygons), out_shape=shape).astype(bool)


def on_an_edge(polygons, shape, within):
    """Which pixels' centres are so near to an edge, in pixels, that rounding may decide."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.distance(shapely.points(cols, rows), shapely.union_all([one.boundary for one in polygons])) < within
