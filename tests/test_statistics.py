"""Mean and deviation over the whole scene, whatever its layout, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grid import Rect
from pipeline.raster import statistics as module
from pipeline.raster.source import open_scene
from pipeline.raster.statistics import PIECE, pieces, statistics
from tests.images import noise, quiet, write_image

pytestmark = quiet
LAYOUTS = [
    {},
    {"tiled": True, "blockxsize": 16, "blockysize": 32},
    {"blockysize": 5},
    {"blockysize": 200, "compress": "deflate"},
]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_they_are_those_of_the_valid_pixels(tmp_path_factory, data):
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    pixels = noise(2, height, width, data.draw(st.sampled_from(["uint8", "int16", "float32", "float64"])))
    if pixels.dtype.kind == "f":
        pixels = pixels + pixels.dtype.type(data.draw(st.sampled_from([0, 1000])))
        pixels[0, data.draw(st.integers(0, height - 1)), :] = np.nan
        pixels[1, :, 0] = np.inf
    pixels[:, :, -1] = 7
    path = write_image(tmp_path_factory.mktemp("s") / "a.tif", pixels, nodata=7, **data.draw(st.sampled_from(LAYOUTS)))
    valid = np.isfinite(pixels).all(axis=0) & ~(pixels == 7).all(axis=0)
    scene = open_scene(str(path), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", data.draw(st.sampled_from([1, 100, 1000, PIECE])))
        mean, deviation = statistics(scene)
        again = statistics(scene)
    for band in range(2):
        values = pixels[band][valid].astype(np.float64)
        assert mean[band] == pytest.approx(values.mean() if values.size else 0, rel=1e-9, abs=1e-9)
        assert deviation[band] == pytest.approx(values.std() if values.size else 0, rel=1e-9, abs=1e-9)
    assert (mean.dtype, mean.shape, deviation.shape) == (np.float64, (2,), (2,))
    np.testing.assert_array_equal((mean, deviation), again)


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.3, -7.7])
def test_one_value_everywhere_has_no_deviation_at_all(tmp_path, value):
    path = write_image(tmp_path / "a.tif", np.full((1, 70, 90), value), tiled=True, blockxsize=16, blockysize=16)
    mean, deviation = statistics(open_scene(str(path), None))
    assert (mean[0], deviation[0]) == (value, 0)


def test_no_valid_pixel_gives_zeros(tmp_path):
    path = write_image(tmp_path / "a.tif", np.zeros((2, 9, 9), np.uint8), nodata=0)
    mean, deviation = statistics(open_scene(str(path), None))
    assert mean.tolist() == deviation.tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.integers(1, 6000))
def test_pieces_cover_the_scene_once_and_stay_small(height, width, rows, cols):
    class Shape:
        """What of a scene decides how it is cut."""

    shape = Shape()
    shape.height, shape.width, shape.tile, shape.rect = height, width, (rows, cols), Rect(0, 0, height, width)
    cut = list(pieces(shape))
    assert sum(piece.area for piece in cut) == height * width
    assert all(shape.rect.contains(piece) and 0 < piece.area <= max(PIECE, piece.width) for piece in cut)
    assert len({(piece.top, piece.left) for piece in cut}) == len(cut)
    assert all(piece.left % cols == 0 for piece in cut)


def test_memory_is_that_of_a_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 1 << 16)
    peaks = []
    for side in (512, 2048):
        path = write_image(tmp_path / f"{side}.tif", noise(1, side, side), tiled=True, blockxsize=256, blockysize=256)
        scene = open_scene(str(path), None)
        tracemalloc.start()
        statistics(scene)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
