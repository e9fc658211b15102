"""The scale bar: a round length, never wider than the picture, as long as the ground says."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from pipeline.grid import Rect
from pipeline.raster import ground
from pipeline.scalebar import bar_of
from tests.test_plan import scene

WORDS = re.compile(r"(\d+(?:\.\d+)?)(km|m|cm|mm|µm|px)(inthemiddlerow)?")
METRES = {"km": 1e3, "m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6}
UTM = ground.CRS.from_epsg(32632).to_wkt()
DEGREES = ground.CRS.from_epsg(4326).to_wkt()
MERCATOR = ground.CRS.from_epsg(3857).to_wkt()


def said(words: str) -> tuple[float, str]:
    number, unit, _ = WORDS.fullmatch(re.sub(r"\s", "", words)).groups()
    return float(number), unit


def is_round(number: float) -> bool:
    return round(number / 10 ** math.floor(math.log10(number) + 1e-9), 9) in (1, 2, 5)


@given(side=st.integers(1, 10**6), cols=st.integers(16, 4096))
def test_pixels_are_counted_where_there_is_no_ground(side, cols):
    image = scene(side, side, crs=None, transform=None)
    bar = bar_of(image, image.rect, cols)
    number, unit = said(bar.words)
    assert unit == "px"
    assert is_round(number)
    assert 1 <= bar.pixels <= cols
    assert number == 1 or bar.pixels == pytest.approx(number * cols / side, abs=0.51)


@given(pixel=st.floats(1e-3, 1e4), side=st.integers(10, 10**5), cols=st.integers(160, 4096))
def test_a_bar_is_as_long_as_it_says_and_no_wider_than_a_part_of_the_picture(pixel, side, cols):
    image = scene(side, side, crs=UTM, transform=(pixel, 0.0, 500_000.0, 0.0, -pixel, 5_000_000.0))
    view = Rect(0, 0, 1, 1) if pixel * side > 1e5 else image.rect  # near the middle meridian a map's metre is a metre
    bar = bar_of(image, view, cols)
    number, unit = said(bar.words)
    assert is_round(number)
    assert bar.pixels <= 0.36 * cols
    assert bar.pixels * view.width * pixel / cols == pytest.approx(
        number * METRES[unit], rel=0.006, abs=view.width * pixel / cols
    )


@given(latitude=st.floats(-89, 89), longitude=st.floats(-179, 178), epsg=st.sampled_from([4326, 3857]))
def test_a_step_is_what_a_geodesic_is_long(latitude, longitude, epsg):
    if epsg == 4326:
        step = ground.step(DEGREES, (1e-4, 0.0, longitude, 0.0, -1e-4, latitude), 0, 0)
        _, _, length = Geod(ellps="WGS84").inv(longitude, latitude, longitude + 1e-4, latitude)
    else:  # where a metre of the map is the shorter the further from the equator
        place = 6378137 * math.radians(longitude), 6378137 * math.log(math.tan(math.radians(45 + latitude / 2)))
        step = ground.step(MERCATOR, (10.0, 0.0, place[0], 0.0, -10.0, place[1]), 0, 0)
        end = longitude + math.degrees(10 / 6378137)
        _, _, length = Geod(ellps="WGS84").inv(longitude, latitude, end, latitude)
    assert step == pytest.approx(length, rel=1e-4)
