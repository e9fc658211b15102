"""Scenes of layers: what is read of them is what a pass over the whole gives, whatever the rectangle."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine

from pipeline.grid import Rect
from pipeline.raster.layer import Layer, resized
from pipeline.raster.reader import Reader, tiles_touched
from pipeline.raster.source import open_scene
from tests.images import mirrored, noise, quiet, write_image

pytestmark = quiet
SHIFTS = st.sampled_from([Fraction(0), Fraction(1), Fraction(-2), Fraction(5), Fraction(1, 3)])
SCALES = st.sampled_from([Fraction(1), Fraction(1), Fraction(2), Fraction(1, 2), Fraction(2, 3)])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_rectangle_is_that_of_the_reflected_whole(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("layers")
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    fine = write_image(folder / "a.tif", noise(1, height, width, "uint16"))
    rows, cols = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    other = noise(2, rows, cols, "float32")
    other[0, rows // 2, cols // 2] = data.draw(st.sampled_from([0, np.nan, np.inf]))
    coarse = write_image(folder / "b.tif", other)
    first, second = open_scene(str(fine), None), open_scene(str(coarse), None)
    where = {name: (data.draw(kind), data.draw(kind)) for name, kind in (("scale", SCALES), ("offset", SHIFTS))}
    layers = (Layer(first, (1,)), Layer(second, (2, 0), **where))
    scene = replace(first, bands=(1, 2, 3), dtype="float32", nodata=(None,) * 3, layers=layers)
    with Reader(scene) as reader:
        whole, valid = reader.read(scene.rect)
        top, left = data.draw(st.integers(-40, 40)), data.draw(st.integers(-40, 40))
        rect = Rect(top, left, top + data.draw(st.integers(1, 50)), left + data.draw(st.integers(1, 50)))
        part, told = reader.read(rect)
    np.testing.assert_array_equal(part, mirrored(whole, rect, height, width))
    np.testing.assert_array_equal(told, mirrored(valid, rect, height, width))
    np.testing.assert_array_equal(whole[1], noise(1, height, width, "uint16")[0])
    assert not np.isnan(whole).any()


def test_a_layer_on_the_same_pixels_is_read_as_it_is(tmp_path):
    pixels = noise(2, 40, 50, "uint16")
    part = open_scene(str(write_image(tmp_path / "a.tif", pixels)), None)
    shifted = Layer(part, (0, 1), offset=(Fraction(-10), Fraction(20)))
    scene = replace(part, layers=(shifted,))
    found, valid = Reader(scene).read(scene.rect)
    np.testing.assert_array_equal(found[:, 10:, :30], pixels[:, :30, 20:])
    assert valid[10:, :30].all()
    assert not valid[:10].any()
    assert not valid[:, 30:].any()
    assert Reader(scene).read(Rect(0, 0, 5, 5))[1].sum() == 0, "nothing of the layer lies there"
    assert tiles_touched(scene, Rect(0, 0, 5, 5)) == 0
    assert pickle.loads(pickle.dumps(scene)) == scene
    with pytest.raises(ValueError, match="places"):
        Layer(part, (0,))
    with pytest.raises(ValueError, match="above 0"):
        Layer(part, (0, 1), (Fraction(0), Fraction(1)))


def test_a_resized_scene_covers_the_same_ground(tmp_path):
    pixels = np.full((1, 41, 50), 7, np.uint8)
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 5, 0, -10, 9)}
    scene = open_scene(str(write_image(tmp_path / "a.tif", pixels, **place)), None)
    half = resized(scene, Fraction(1, 2))
    assert half.rect == Rect(0, 0, 21, 25)
    assert half.transform == (20, 0, 5, 0, -20, 9)
    found, valid = Reader(half).read(half.rect)
    assert (found == 7).all()
    assert valid.all()
    assert resized(half, Fraction(2)).layers[0].scale == (1, 1)
