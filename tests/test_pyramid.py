"""The coarser levels: every cell against counting its four, and shard by shard as all at once."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product as pairs

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.grid import Grid, Rect
from pipeline.pyramid import build_shard, halving, mean, mean_of_numbers, mode, mode_by_band
from pipeline.settings import FAILED, NODATA, OUTSIDE, STEPS, statuses
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


@given(CLASSES)
def test_a_class_of_16_bits_is_chosen_as_one_of_8(raster):
    wide = np.where(raster >= FAILED, raster.astype(np.uint16) + (65535 - NODATA), raster).astype(np.uint16)
    expected = mode(raster).astype(np.uint16)
    expected[expected >= FAILED] += 65535 - NODATA
    found = mode(wide)
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected)


@given(CLASSES, st.integers(1, 3), st.integers(0, 9))
def test_bands_keep_one_status_and_each_its_majority(raster, channels, seed):
    bands = np.random.default_rng(seed).integers(0, 2, (channels, *raster.shape)).astype(np.uint8)
    bands = np.where(raster >= FAILED, raster, bands)
    halved = mode_by_band(bands)
    assert halved.dtype == np.uint8
    for at, four in cells(np.where(raster < FAILED, 0, raster)):
        votes = Counter(value for value in four if value != NODATA)
        most = max(votes.values(), default=0)
        status = min((value for value, count in votes.items() if count == most), default=NODATA)
        for band, made in zip(bands, halved, strict=True):
            row, col = (2 * side for side in at)
            part = band[row : row + 2, col : col + 2].ravel().tolist()
            assert made[at] == (status or part.count(1) > part.count(0))


NUMBERS = arrays(np.float32, SIDES, elements=st.sampled_from([0.0, -1.5, 3e38, -3e38, 0.1, np.nan]))


@given(NUMBERS)
def test_a_cell_of_numbers_is_the_mean_of_those_that_are_there(raster):
    halved = mean_of_numbers(raster)
    assert halved.dtype == np.float32
    assert np.array_equal(mean_of_numbers(np.stack([raster, raster])), np.stack([halved, halved]), equal_nan=True)
    for at, four in cells(raster):
        held = [Fraction(value) for value in four if not np.isnan(value)]
        expected = np.float32(sum(held) / len(held)) if held else np.float32(np.nan)
        np.testing.assert_allclose(halved[at], expected, rtol=1e-6, atol=1e-7 * float(max(map(abs, held), default=0)))


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
    told = statuses(product.dtype)
    raster = random.choice(np.array([0, 3, 250, 252, *told], product.dtype), full)
    if product.name == "mask" and product.channels:
        raster = np.where(raster[:1] < told.failed, raster % 2, raster[:1])
    raster[..., : shape[0] // 3, : shape[1] // 2] = told.nodata
    return raster


LABELS = (2, ("a", "b"))
PRODUCTS = [
    (Product("mask"), Product("probabilities", *LABELS)),
    (Product("mask", *LABELS), Product("confidence")),
    (Product("mask", dtype="uint16"), Product("disagreement", dtype="float32")),
    (Product("mask"), Product("values", *LABELS, "float32")),
]


@settings(max_examples=8)
@given(
    st.sampled_from(PRODUCTS),
    st.integers(1, 700),
    st.integers(513, 1300),
    st.sampled_from([160, 320, 2048]),
    st.integers(0, 9),
)
def test_levels_made_shard_by_shard_are_levels_made_at_once(
    tmp_path_factory, drawn_products, height, width, shard, seed
):
    store = tmp_path_factory.mktemp("pyramid") / "mask.zarr"
    products = drawn_products
    grid = Grid(height, width, 1, shard, 0, shard)
    create(store, grid, products, shard // 2, georef=Georef(), classes=[(0, "a", "#000000")])
    sink, random = Sink(store), np.random.default_rng(seed)
    whole = {one.name: drawn(one, (height, width), random) for one in products}
    for block in range(len(grid)):
        owned = grid.owned(block)
        for name, raster in whole.items():
            sink.put(name, owned, raster[..., *owned.slices()])

    sizes = levels(height, width)
    for level, (rows, cols) in enumerate(sizes[1:], start=1):
        for one in products:
            for top, left in pairs(range(0, rows, shard), range(0, cols, shard)):
                rect = Rect(top, left, top + shard, left + shard).intersect(Rect(0, 0, rows, cols))
                put = build_shard(sink, one, level, rect)
                assert sink.check(one.name, top // shard, left // shard, put, level)
            raster = whole[one.name] = halving(one)(whole[one.name])
            found = sink.read(one.name, Rect(0, 0, rows, cols), level)
            assert found.dtype == raster.dtype
            assert np.array_equal(found, raster, equal_nan=found.dtype.kind == "f")


@pytest.mark.parametrize("halve", [mode, mean])
def test_one_pixel_stays_what_it_is(halve):
    for value in (0, 250, FAILED, OUTSIDE, NODATA):
        assert halve(np.array([[value]], np.uint8)).tolist() == [[value]]
