"""What is cut from bands of rows is what the reader gives, and no tile is decoded for two bands."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid import Grid, Rect
from pipeline.raster.reader import Reader, tiles_touched
from pipeline.raster.source import open_scene
from pipeline.strips import Strips

TILE = 32


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("strips") / "scene.tif"
    pixels = np.random.default_rng(0).integers(0, 9, (2, 150, 190), np.uint8)
    sides = {"height": 150, "width": 190, "tiled": True, "blockxsize": TILE, "blockysize": TILE}
    with rasterio.open(path, "w", "GTiff", count=2, dtype="uint8", nodata=0, **sides) as file:
        file.write(pixels)
    return open_scene(str(path), None)


@given(st.data())
def test_windows_are_those_of_the_reader_and_bands_tell_of_every_row_once(image, data):
    core, margin = data.draw(st.integers(1, 24)) * 2, data.draw(st.integers(0, 20)) * 2
    block = core * data.draw(st.integers(1, 5))
    grid = Grid(150, 190, 2, core, margin, block)
    number = data.draw(st.integers(0, len(grid) - 1))
    told, entered = [], []

    @contextmanager
    def timed():
        entered.append(1)
        yield

    hull = grid.hull(number)
    with Reader(image) as reader, Reader(image) as oracle:
        strips = Strips(reader, hull, lambda band, valid: told.append((band, valid.copy())), timed)
        for window in grid.windows(number):
            pixels, valid = strips.of(window)
            expected, expected_valid = oracle.read(window)
            assert np.array_equal(pixels, expected)
            assert np.array_equal(valid, expected_valid)
        assert [band.top for band, _ in told] == [hull.top, *(band.bottom for band, _ in told[:-1])]
        assert told[-1][0].bottom == hull.bottom
        assert len(entered) == len(told)
        inside = hull.intersect(image.rect) == hull
        if inside:
            assert reader.bytes_read == tiles_touched(image, hull)


def test_rows_that_were_let_go_are_not_given_again(image):
    with Reader(image) as reader:
        strips = Strips(reader, Rect(0, 0, 150, 64), lambda *_: None, nullcontext)
        strips.of(Rect(0, 0, 64, 64))
        strips.of(Rect(32, 0, 96, 64))
        with pytest.raises(ValueError, match="no longer held"):
            strips.of(Rect(0, 0, 64, 64))
