"""Where a raster lies on the Earth: each of its pixels lies in the outline, and what lies in the outline is a pixel."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform as reprojected
from shapely import MultiPolygon, Point, Polygon
from shapely.geometry import shape

from pipeline.raster.footprint import STRAIGHT, WGS84, footprint

PLACES = {  # a CRS, and where in it a raster may begin
    "geographic": (4326, (-180, 200), (-80, 90), 0.05),
    "utm": (32633, (200_000, 700_000), (100_000, 9_000_000), 300.0),
    "utm at the antimeridian": (32660, (200_000, 900_000), (100_000, 9_000_000), 300.0),
    "utm south": (32701, (100_000, 700_000), (1_100_000, 9_900_000), 300.0),
    "arctic": (3413, (-3e6, 3e6), (-3e6, 3e6), 5000.0),
    "antarctic": (3031, (-3e6, 3e6), (-3e6, 3e6), 5000.0),
    "europe": (3035, (2.5e6, 6e6), (1.5e6, 5e6), 2000.0),
}


def wkt(code):
    return CRS.from_epsg(code).to_wkt(version="WKT2_2019")


def in_degrees(code, transform, cols, rows):
    a, b, c, d, e, f = transform
    xs, ys = a * cols + b * rows + c, d * cols + e * rows + f
    longitudes, latitudes = (np.array(each) for each in reprojected(CRS.from_epsg(code), WGS84, list(xs), list(ys)))
    return (longitudes + 180) % 360 - 180, latitudes


def in_box(bbox, longitude, latitude, slack):
    west, south, east, north = bbox
    across = west - slack <= longitude <= east + slack
    if west > east:
        across = longitude >= west - slack or longitude <= east + slack
    return across and south - slack <= latitude <= north + slack


@st.composite
def rasters(draw):
    code, xs, ys, pixel = PLACES[draw(st.sampled_from(sorted(PLACES)))]
    height, width = draw(st.integers(1, 600)), draw(st.integers(1, 600))
    angle = draw(st.sampled_from([0.0, 0.0, 0.4, 2.5]))
    side = pixel * draw(st.floats(0.02, 1))
    a, b, d, e = (side * number for number in (np.cos(angle), np.sin(angle), np.sin(angle), -np.cos(angle)))
    return code, (a, b, draw(st.floats(*xs)), d, e, draw(st.floats(*ys))), height, width


@settings(max_examples=150, deadline=None)
@given(rasters(), st.integers(0, 99))
@example((3031, (10000, 0, -3e6, 0, -10000, 3e6), 600, 600), 0)
@example((32660, (1000, 0, 7e5, 0, -1000, 5e6), 200, 300), 0)
@example((4326, (0.1, 0, 0, 0, -0.1, 90), 1800, 3600), 0)
def test_pixels_and_outline_are_the_same_place(raster, seed):
    code, transform, height, width = raster
    a, b, c, d, e, f = transform
    found = footprint(wkt(code), transform, height, width)
    random = np.random.default_rng(seed)
    cols, rows = random.random(40) * width, random.random(40) * height
    if code == 4326:
        assume(np.abs(f + d * cols + e * rows).max() <= 90)
    if code in {3413, 3031}:  # the pole, at 0, 0, may be so near to the edge that all longitudes are told
        col, row = (b * f - e * c) / (a * e - b * d) / width, (d * c - a * f) / (a * e - b * d) / height
        assume(min(abs(each - end) for each in (col, row) for end in (0, 1)) > 0.1)
    assert found is not None
    where = shape(found.geometry)
    assert where.is_valid
    assert {type(where)} <= {Polygon, MultiPolygon}
    slack = 3 * STRAIGHT * max(np.ptp([x for x, _ in _points(where)]), np.ptp([y for _, y in _points(where)])) + 1e-6
    wide = where.buffer(slack)
    for longitude, latitude in zip(*in_degrees(code, transform, cols, rows), strict=True):
        assert wide.covers(Point(longitude, latitude)) or abs(longitude) > 180 - slack
        assert in_box(found.bbox, longitude, latitude, slack)
    inner = where.buffer(-slack)
    if inner.is_empty:
        return
    point = inner.representative_point()
    (x,), (y,) = reprojected(WGS84, CRS.from_epsg(code), [point.x], [point.y])
    turns = (-360, 0, 360) if code == 4326 else (0,)
    cols = [(e * (x + turn - c) - b * (y - f)) / (a * e - b * d) for turn in turns]
    rows = [(a * (y - f) - d * (x + turn - c)) / (a * e - b * d) for turn in turns]
    assert any(0 <= col <= width and 0 <= row <= height for col, row in zip(cols, rows, strict=True))


def _points(where):
    return [point for part in getattr(where, "geoms", [where]) for point in part.exterior.coords]


def test_outer_rings_run_against_the_clock_and_parts_end_at_the_antimeridian():
    found = footprint(wkt(32660), (1000, 0, 7e5, 0, -1000, 5e6), 200, 300)
    parts = shape(found.geometry).geoms
    assert len(parts) == 2
    assert all(part.exterior.is_ccw for part in parts)
    assert found.bbox[0] > 0 > found.bbox[2], "west of the box is east of its east, as RFC 7946 has it"
    assert {part.bounds[0] for part in parts} | {part.bounds[2] for part in parts} >= {-180.0, 180.0}


def test_a_plain_scene_has_four_corners():
    found = footprint(wkt(32633), (10, 0, 5e5, 0, -10, 5e6), 500, 500)
    assert len(found.geometry["coordinates"][0]) == 5


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, (1, 0, 0, 0, -1, 0)),
        (wkt(32633), None),
        (
            'ENGCRS["here",EDATUM["here"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
            (1, 0, 0, 0, 1, 0),
        ),
        ("no CRS at all", (1, 0, 0, 0, 1, 0)),
        (wkt(32633), (1e9, 0, 0, 0, -1e9, 0)),
    ],
)
def test_what_lies_nowhere_has_no_outline(crs, transform):
    assert footprint(crs, transform, 100, 100) is None
