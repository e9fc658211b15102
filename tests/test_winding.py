"""Winding numbers on the lattice: what GDAL fills, whatever rectangle is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grid import Rect
from pipeline.raster.winding import LARGEST, edges_of, filled
from tests.areas import burnt, on_an_edge, star

SHAPE = (60, 80)


def edges(polygons):
    rings, owner = shapely.get_rings(np.array(polygons, object), return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    return edges_of(points, ring, np.r_[False, owner[1:] == owner[:-1]])


def inside(polygons, rect=None):
    rect = rect or Rect(0, 0, *SHAPE)
    found = edges(polygons)
    return filled(found.where((found.first < rect.bottom) & (found.last > rect.top)), rect)


@st.composite
def some_polygons(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = []
    for _ in range(draw(st.integers(1, 5))):
        place, radius = random.uniform((-20, -20), (100, 80)), random.uniform(0.3, 60)
        one = star(random, place, radius, int(random.integers(3, 40)))
        if draw(st.booleans()):
            one = shapely.Polygon(one.exterior, [shapely.affinity.scale(one, 0.5, 0.5, origin=tuple(place)).exterior])
        if draw(st.booleans()):
            one = shapely.Polygon(one.exterior.coords[::-1], one.interiors)
        made += shapely.get_parts(shapely.make_valid(one)).tolist()
    return [one for one in made if one.geom_type == "Polygon"]


@settings(max_examples=40, deadline=None)
@given(polygons=some_polygons())
def test_it_is_what_gdal_fills_but_for_centres_on_an_edge(polygons):
    differs = inside(polygons) != burnt(polygons, SHAPE)
    assert not (differs & ~on_an_edge(polygons, SHAPE, 1 / 64)).any()


@settings(max_examples=40, deadline=None)
@given(polygons=some_polygons(), data=st.data())
def test_a_part_is_the_same_part_of_the_whole(polygons, data):
    top, left = data.draw(st.integers(0, 59)), data.draw(st.integers(0, 79))
    rect = Rect(top, left, data.draw(st.integers(top + 1, 60)), data.draw(st.integers(left + 1, 80)))
    assert np.array_equal(inside(polygons, rect), inside(polygons)[rect.slices()])


@settings(max_examples=30, deadline=None)
@given(x=st.integers(1, 159), y=st.integers(1, 119))
def test_neighbours_share_every_centre_between_them_exactly_once(x, y):
    """Four triangles about a point of the half-pixel lattice, so that centres lie on the edges that they share."""
    corners = [(0, 0), (80, 0), (80, 60), (0, 60), (0, 0)]
    parts = [shapely.Polygon([*corners[k : k + 2], (x / 2, y / 2)]) for k in range(4)]
    assert (sum(inside([part]).astype(int) for part in parts) == 1).all()


def test_overlaps_are_inside_and_a_hole_may_be_filled_by_another_polygon():
    ring = shapely.box(10, 10, 50, 50) - shapely.box(20, 20, 40, 40)
    assert inside([ring]).sum() == 1600 - 400
    assert inside([ring, shapely.box(15, 15, 30, 30)]).sum() == 1600 - 400 + 100
    assert inside([shapely.box(0, 0, 30, 30), shapely.box(20, 20, 40, 40)]).sum() == 900 + 400 - 100


def test_a_centre_on_an_edge_belongs_to_the_right_and_below():
    found = inside([shapely.box(10.5, 10.5, 20.5, 20.5)])
    assert found[10:20, 10:20].all()
    assert found.sum() == 100


def test_what_is_too_far_away_for_whole_numbers_is_refused():
    with pytest.raises(ValueError, match="pixels from the scene"):
        edges([shapely.box(0, 0, LARGEST + 1, 10)])
