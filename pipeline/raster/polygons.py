"""An area said by polygons: vector files, read by pyogrio, brought to a scene's pixels once and then looked up.

The format is told by the file's first bytes; of what such a file may name elsewhere nothing is followed. Edges that
have to be projected are first cut so finely that no part of one is off by more than 1/32 of a pixel; vertices are then
put on the lattice of `winding`.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from pipeline.errors import SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.raster.area import Area, Form
from pipeline.raster.fingerprint import fingerprint
from pipeline.raster.placing import Bounds, Placing, Points, placed
from pipeline.raster.source import Scene
from pipeline.raster.winding import Edges, base_of, disturbed, edges_of, filled

DEVIATION = 1 / 32  # px: by how much a straight line may miss the projected one
ROUNDS = 16  # of halving edges; each makes the deviation four times smaller
READABLE = "GeoPackage, GeoJSON, Shapefile, FlatGeobuf, KML and GML"

_SIDECARS = {"ESRI Shapefile": (".shx", ".dbf", ".prj")}
_DRIVERS = {
    "GeoJSON": {"GeoJSON", "GeoJSONSeq", "ESRIJSON", "TopoJSON"},
    "KML": {"KML", "LIBKML"},
}
# What GDAL would follow to other files or hosts; none of these words stands in a file of polygons.
_FOLLOWED = re.compile(
    rb"gdal_streamed_alg|<!DOCTYPE|<!ENTITY|<OGR\w*DataSource|<VRTDataset|_Capabilities|<OGCAPI", re.IGNORECASE
)
_CRS_MEMBER = re.compile(rb'"crs"\s*:')
_ERRORS = (RuntimeError, ValueError, OSError)  # those of pyogrio and of shapely are among them

# Nothing is fetched, whatever a file names.
pyogrio.set_gdal_config_options(
    {"CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none", "GML_DOWNLOAD_SCHEMA": False, "GML_SKIP_RESOLVE_ELEMS": "ALL"}
)


class PolygonFence:
    """Polygons over a scene's pixels; see `pipeline.raster.area.Fence`."""

    def __init__(self, scene: Rect, edges: Edges, whereabouts: str, notes: tuple[str, ...]) -> None:
        self.notes = notes
        self.whereabouts = whereabouts
        self.held = len(edges) * len(Edges.__slots__) * 8
        self.extent = _extent(edges).intersect(scene)
        self._edges = edges
        self._stripe: tuple[tuple[int, int], Edges] | None = None

    def touches(self, rect: Rect) -> bool:
        """Whether an edge passes the rectangle, or all of it is inside."""
        edges = self._in_rows(rect)
        return bool(disturbed(edges, rect).any() or (base_of(edges, rect) > 0).any())

    def inside(self, rect: Rect) -> NDArray[np.bool_] | bool:
        """Which pixels of a rectangle are inside, (row, col); True or False where all or none are."""
        edges = self._in_rows(rect)
        if not disturbed(edges, rect).any():
            rows = base_of(edges, rect) > 0
            if rows.all() or not rows.any():
                return bool(rows[0])
        found = filled(edges, rect)
        return found if found.any() and not found.all() else bool(found[0, 0])

    def _in_rows(self, rect: Rect) -> Edges:
        """The edges that meet a rectangle's rows; blocks beside each other share them."""
        rows = rect.top, rect.bottom
        if self._stripe is None or self._stripe[0] != rows:
            edges = self._edges
            self._stripe = rows, edges.where((edges.first < rect.bottom) & (edges.last > rect.top))
        return self._stripe[1]


def _extent(edges: Edges) -> Rect:
    if not len(edges):
        return Rect(0, 0, 0, 0)
    return Rect(int(edges.first.min()), int(edges.left.min()), int(edges.last.max()), int(edges.right.max()))


def format_of(path: Path) -> str | None:
    """GDAL's name of a vector format, told by the first bytes; None where it is none that is read here.

    Raises SettingsError where the file cannot be read, or names what would be followed elsewhere.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        found = _by_head(head)
        if found in {"GeoJSON", "KML", "GML"} and (word := _FOLLOWED.search(path.read_bytes())):
            raise SettingsError(
                f"The area {path} holds {word[0].decode()!r}, which leads out of the file: write it out as GeoPackage."
            )
    except OSError as error:
        raise SettingsError(f"The area {path} cannot be read: {error.strerror}.") from None
    return found


def _by_head(head: bytes) -> str | None:
    if head.startswith(b"SQLite format 3\0") and head[68:72] in {b"GPKG", b"GP10", b"GP11"}:
        return "GPKG"
    if head.startswith(b"fgb"):
        return "FlatGeobuf"
    if head.startswith(b"\0\0\x27\x0a"):
        return "ESRI Shapefile"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\x1e")
    if text.startswith(b"{"):
        return "GeoJSON"
    if text.startswith(b"<") and re.search(rb"<(\w+:)?kml\b", text):
        return "KML"
    return "GML" if text.startswith(b"<") and b"opengis.net/gml" in text else None


def _source(path: Path, kind: str) -> str | bytes:
    """What pyogrio is given: GML as its bytes, so that no schema beside it is followed, and none is written there."""
    return path.read_bytes() if kind == "GML" else str(path)


def find(path: Path, layer: str | None) -> Area:
    """Look at a vector file without reading its geometry. Raises SettingsError."""
    kind = format_of(path) or ""
    found = _layers(path, kind)
    chosen = _chosen(path, found, layer)
    what = found[chosen]
    if what and not re.search("Polygon|Surface|Unknown|Collection", what):
        raise SettingsError(f"The layer {chosen} of the area {path} holds {what}s; an area is made of polygons.")
    info = _told(path, kind, chosen)
    if info["driver"] not in _DRIVERS.get(kind, {kind}):
        raise SettingsError(f"The area {path} is read as {info['driver']}, which is none of {READABLE}.")
    if info["features"] == 0 or not np.isfinite(info["total_bounds"] or np.nan).all():
        raise SettingsError(f"The layer {chosen} of the area {path} has no polygon: there is nothing inside.")
    sidecars = [path.with_suffix(suffix) for suffix in _SIDECARS.get(kind, ())]
    try:
        digest = fingerprint(path, [path, *(one for one in sidecars if one.is_file())])
    except SceneError as error:
        raise SettingsError(error.message) from None
    return Area(str(path), Form.VECTOR, chosen, digest)


def _layers(path: Path, kind: str) -> dict[str, str | None]:
    """The layers that may hold geometry, and of which type."""
    try:
        with warnings.catch_warnings(action="ignore"):
            rows = pyogrio.list_layers(_source(path, kind))
    except _ERRORS as error:
        raise SettingsError(f"The area {path} cannot be opened as {kind}: {' '.join(str(error).split())}.") from None
    return {str(name): what and str(what) for name, what in rows if what is not None}


def _chosen(path: Path, layers: dict[str, str | None], asked: str | None) -> str:
    names = ", ".join(layers)
    if not layers:
        raise SettingsError(f"The area {path} has no layer with geometry.")
    if asked is not None and asked not in layers:
        raise SettingsError(f"The area {path} has no layer `{asked}`: it has {names}.")
    if asked is None and len(layers) > 1:
        raise SettingsError(
            f"The area {path} has {len(layers)} layers ({names}): choose one, "
            f"as in --aoi {path.name}:{next(iter(layers))}."
        )
    return asked or next(iter(layers))


def _told(path: Path, kind: str, layer: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):
            found: dict[str, Any] = pyogrio.read_info(
                _source(path, kind), layer=layer, force_feature_count=True, force_total_bounds=True
            )
    except _ERRORS as error:
        raise SettingsError(f"The area {path} cannot be read: {' '.join(str(error).split())}.") from None
    return found


def lay(area: Area, scene: Scene) -> PolygonFence:
    """Bring an area's polygons to a scene's pixels. Raises SettingsError and SceneError."""
    path, layer = Path(area.path), area.layer or ""
    kind = format_of(path) or ""
    info = _told(path, kind, layer)
    by_default = kind == "KML" or (kind == "GeoJSON" and not _CRS_MEMBER.search(path.read_bytes()))
    placing = placed(area.path, info["crs"], scene, by_default=by_default)
    boxes = placing.boxes(scene.width, scene.height)
    polygons = [_read(path, kind, layer, box) for box in boxes]
    edges = _edges(np.concatenate(polygons), placing, boxes[0], area.path)
    told = f"it covers {_words(info['total_bounds'])} and the image {' and '.join(map(_words, boxes))}"
    if info["crs"] and scene.crs:
        told += " in the area's CRS, with a rim"
    return PolygonFence(scene.rect, edges, told, (placing.note,) if placing.note else ())


def _words(box: Bounds) -> str:
    return f"x {box[0]:.10g} to {box[2]:.10g}, y {box[1]:.10g} to {box[3]:.10g}"


def _read(path: Path, kind: str, layer: str, box: Bounds) -> NDArray[np.object_]:
    """The valid polygons of a layer, cut off at a box. Raises SettingsError for what is no polygon."""
    finite = bool(np.isfinite(box).all())
    options: dict[str, Any] = {"bbox": box} if finite else {}
    try:
        with warnings.catch_warnings(action="ignore"):
            source = _source(path, kind)
            _, _, wkb, _ = pyogrio.raw.read(source, layer=layer, columns=[], force_2d=True, **options)
        shapes = shapely.from_wkb(wkb)
        shapes = shapely.get_parts(shapely.get_parts(shapes[~shapely.is_missing(shapes)]))  # collections of collections
        shapes = shapes[~shapely.is_empty(shapes)]
        if wrong := {one.geom_type for one in shapes if one.geom_type not in {"Polygon", "MultiPolygon"}}:
            raise SettingsError(
                f"The layer {layer} of the area {path} holds {', '.join(sorted(wrong))} among its geometries; an area "
                "is made of polygons: take the others out."
            )
        shapes = shapely.make_valid(shapes)
        if finite:
            shapes = shapely.intersection(shapes, shapely.box(*box))
        parts = shapely.get_parts(shapely.get_parts(shapes))
    except _ERRORS as error:
        raise SettingsError(f"The area {path} cannot be read: {' '.join(str(error).split())}.") from None
    kept: NDArray[np.object_] = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return kept


def _edges(polygons: NDArray[np.object_], placing: Placing, box: Bounds, path: str) -> Edges:
    """The edges of polygons, in the scene's pixels."""
    if placing.there is not None and np.isfinite(box).all():
        polygons = shapely.segmentize(polygons, max(box[2] - box[0], box[3] - box[1]) / 32)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    hole = np.r_[False, owner[1:] == owner[:-1]] if len(owner) else np.zeros(0, np.bool_)  # the shell comes first
    pixels, ring = bent(points, ring, placing)
    try:
        return edges_of(pixels, ring, hole)
    except ValueError as error:
        raise SceneError(f"The area {path} cannot be laid over the image: {error}.") from None


def bent(points: Points, ring: NDArray[np.int64], placing: Placing) -> tuple[Points, NDArray[np.int64]]:
    """(col, row) of rings of points, with points between them wherever a straight edge would miss the projected one."""
    pixels = placing.to_pixels(points)
    look = np.flatnonzero(ring[1:] == ring[:-1]) if placing.there is not None else np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        if not len(look):
            break
        middle = (points[look] + points[look + 1]) / 2
        found = placing.to_pixels(middle)
        off = np.hypot(*(found - (pixels[look] + pixels[look + 1]) / 2).T) > DEVIATION
        at = look[off] + 1
        points, pixels = np.insert(points, at, middle[off], axis=0), np.insert(pixels, at, found[off], axis=0)
        ring = np.insert(ring, at, ring[look[off]])
        new = at + np.arange(len(at))  # where the new points lie now
        look = np.sort(np.r_[new - 1, new])
    return pixels, ring
