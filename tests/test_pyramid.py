"""The coarser levels: every cell against counting its four, and shard by shard as all at once."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.grid import Grid, Rect
from pipeline.pyramid import build, mean, mode
from pipeline.settings import FAILED, NODATA, OUTSIDE, STEPS
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product, create, levels
from pipeline.store.sink import Sink

SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
CLASSES = arrays(np.uint8, SIDES, elements=st.sampled_from([0, 1, 2, 252, FAILED, OUTSIDE, NODATA]))
PARTS = arrays(np.uint8, SIDES, elements=st.sampled_from([0, 1, 2, 125, STEPS, FAILED, OUTSIDE, NODATA]))


def cells(raster: np.ndarray):
    """((row, col), the values there are) of every cell of a level."""
    rows, cols = raster.shape
    for row in range(-(-rows // 2)):
        for col in range(-(-cols // 2)):
            yield (row, col), raster[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist()


@given(CLASSES)
def test_a_cell_of_classes_is_the_most_frequent_of_its_four_the_lowest_where_several_are(raster):
    halved = mode(raster)
    assert halved.dtype == np.uint8
    assert halved.shape == tuple(-(-side // 2) for side in raster.shape)
    for at, four in cells(raster):
        votes = Counter(value for value in four if value != NODATA)
        most = max(votes.values(), default=0)
        assert halved[at] == min((value for value, count in votes.items() if count == most), default=NODATA)


@given(PARTS)
def test_a_cell_of_steps_is_the_mean_of_those_that_hold_one_else_the_lowest_status(raster):
    halved = mean(raster)
    assert halved.dtype == np.uint8
    assert halved.shape == tuple(-(-side // 2) for side in raster.shape)
    for at, four in cells(raster):
        held = [value for value in four if value <= STEPS]
        exact = Fraction(sum(held), len(held)) if held else Fraction(min(four))
        assert halved[at] == int(exact + Fraction(1, 2))


@given(st.lists(PARTS, min_size=1, max_size=3))
def test_channels_are_halved_each_for_itself(rasters):
    rows, cols = (min(sides) for sides in zip(*(raster.shape for raster in rasters), strict=True))
    stack = np.stack([raster[:rows, :cols] for raster in rasters])
    assert np.array_equal(mean(stack), np.stack([mean(raster) for raster in stack]))


def drawn(product: Product, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A raster with all kinds of values, some shards of it without any."""
    full = (*((product.channels,) if product.channels else ()), *shape)
    raster = random.choice(np.array([0, 3, 250, 252, FAILED, OUTSIDE, NODATA], np.uint8), full)
    raster[..., : shape[0] // 3, : shape[1] // 2] = NODATA
    return raster


@settings(max_examples=5)
@given(st.integers(1, 700), st.integers(513, 1300), st.sampled_from([160, 320, 2048]), st.integers(0, 9))
def test_levels_made_shard_by_shard_are_levels_made_at_once(tmp_path_factory, height, width, shard, seed):
    store = tmp_path_factory.mktemp("pyramid") / "mask.zarr"
    products = (Product("mask"), Product("probabilities", 2, ("a", "b")))
    grid = Grid(height, width, 1, shard, 0, shard)
    create(store, grid, products, shard // 2, georef=Georef(), classes=[(0, "a", "#000000")])
    sink, random = Sink(store), np.random.default_rng(seed)
    whole = {one.name: drawn(one, (height, width), random) for one in products}
    for block in range(len(grid)):
        owned = grid.owned(block)
        for name, raster in whole.items():
            sink.put(name, owned, raster[..., *owned.slices()])

    made = list(build(sink, products, height, width, shard))

    sizes = levels(height, width)
    assert sum(area for area, _ in made) == sum(rows * cols for rows, cols in sizes[1:])
    for level, (rows, cols) in enumerate(sizes[1:], start=1):
        for name, raster in whole.items():
            whole[name] = (mode if name == "mask" else mean)(raster)
            assert np.array_equal(sink.read(name, Rect(0, 0, rows, cols), level), whole[name])
    told = [told for _, shards in made for told in shards.items()]
    assert len({key for key, _ in told}) == len(told) == 2 * len(made)
    for key, put in told:
        product, at, row, col = key.split("/")
        assert sink.check(product, int(row), int(col), put, int(at))


def test_a_small_scene_has_no_coarser_level(tmp_path):
    assert list(build(Sink(tmp_path), (Product("mask"),), 512, 512, 128)) == []


@pytest.mark.parametrize("halve", [mode, mean])
def test_one_pixel_stays_what_it_is(halve):
    for value in (0, 250, FAILED, OUTSIDE, NODATA):
        assert halve(np.array([[value]], np.uint8)).tolist() == [[value]]
