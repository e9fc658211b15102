"""What a pixel measures: against the surface of the ellipsoid, an integral, and units of the map."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from pipeline.raster.ground import pixel_area, resolution, row_areas, units

WGS84 = CRS.from_epsg(4326).to_wkt(version="WKT2_2019")
A, F = 6_378_137.0, 1 / 298.257223563


def _integral(south, north, step):
    """Area between two parallels over `step` degrees: M(φ) N(φ) cos φ summed by Gauss and Legendre's rule."""
    squared = F * (2 - F)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half, middle = math.radians(north - south) / 2, math.radians(north + south) / 2
    latitude = middle + half * nodes
    density = A**2 * (1 - squared) * np.cos(latitude) / (1 - squared * np.sin(latitude) ** 2) ** 2
    return half * float(weights @ density) * math.radians(step)


@settings(max_examples=50, deadline=None)
@given(st.floats(-89, 88), st.floats(1e-5, 0.5), st.floats(1e-5, 0.5), st.booleans())
def test_areas_are_the_integral_over_the_ellipsoid(south, step, down, upward):
    transform = (step, 0.0, 0.0, 0.0, down if upward else -down, south if upward else south + down)
    areas = row_areas(WGS84, transform, 0, 1)
    assert areas[0] == pytest.approx(_integral(south, south + down, step), rel=1e-7)


def test_rows_beyond_a_pole_have_no_area_and_all_others_the_whole_globe():
    transform = (1.0, 0.0, -180.0, 0.0, -1.0, 95.0)
    areas = row_areas(WGS84, transform, 0, 190)
    assert areas.shape == (190,)
    assert (areas[:5] == 0).all()
    assert (areas[5:185] > 0).all()
    assert 360 * areas.sum() == pytest.approx(510_065_621_724_089, rel=1e-12)
    np.testing.assert_array_equal(row_areas(WGS84, transform, 40, 50), areas[40:50])


def test_a_sphere_and_the_moon_have_their_own_radius():
    moon = CRS.from_proj4("+proj=longlat +R=1737400 +no_defs").to_wkt(version="WKT2_2019")
    areas = row_areas(moon, (1.0, 0.0, 0.0, 0.0, -1.0, 90.0), 0, 180)
    assert 360 * areas.sum() == pytest.approx(4 * math.pi * 1_737_400**2, rel=1e-12)


def test_older_wkt_says_the_same():
    old = CRS.from_epsg(4326).to_wkt(version="WKT1_GDAL")
    transform = (0.1, 0.0, 10.0, 0.0, -0.1, 50.0)
    np.testing.assert_array_equal(row_areas(old, transform, 0, 9), row_areas(WGS84, transform, 0, 9))


def test_feet_are_not_metres():
    feet = CRS.from_epsg(2263).to_wkt(version="WKT2_2019")  # New York, in US survey feet
    assert pixel_area(feet, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0)) == pytest.approx(4 * (1200 / 3937) ** 2)
    assert resolution(feet, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), 9) == pytest.approx(2400 / 3937)


def test_where_nobody_can_say_nothing_is_said():
    local = 'LOCAL_CS["somewhere",UNIT["metre",1]]'
    square = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    for crs in (None, local, "no WKT"):
        assert pixel_area(crs, square) is None
        assert row_areas(crs, square, 0, 3) is None
        assert resolution(crs, square, 3) is None
    assert units("no WKT") is None
    assert pixel_area(WGS84, square) is None
    assert row_areas(WGS84, (1.0, 0.1, 0.0, 0.1, -1.0, 0.0), 0, 3) is None
    assert row_areas(WGS84, None, 0, 3) is None
