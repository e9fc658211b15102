"""Resampling against a plain mean and a plain line, pixel by pixel, and: a part of it is that part of the whole."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grid import Rect
from pipeline.raster.resample import resampled

SCALES = st.fractions(Fraction(1, 6), 6, max_denominator=7)
OFFSETS = st.fractions(-3, 3, max_denominator=5)


def weights_by_hand(i: int, scale: Fraction, offset: Fraction, size: int) -> dict[int, Fraction]:
    left, right = i * scale + offset, (i + 1) * scale + offset
    if right <= 0 or left >= size:
        return {}
    if scale > 1:
        shared = {j: min(j + 1, right) - max(j, left) for j in range(floor(left), ceil(right)) if 0 <= j < size}
        return {j: part / scale for j, part in shared.items() if part > 0}
    middle = (left + right) / 2 - Fraction(1, 2)
    found: dict[int, Fraction] = {}
    for j, part in ((floor(middle), 1 - middle % 1), (floor(middle) + 1, middle % 1)):
        kept = min(max(j, 0), size - 1)
        found[kept] = found.get(kept, Fraction(0)) + part
    return {j: part for j, part in found.items() if part}


@st.composite
def cases(draw):
    rows, cols = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(["uint8", "int16", "float32"]))
    pixels = random.integers(-100 if dtype != "uint8" else 0, 200, (2, rows, cols)).astype(dtype)
    valid = random.random((rows, cols)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    grid = Rect(0, 0, draw(st.integers(1, 14)), draw(st.integers(1, 14)))
    scale, offset = (draw(SCALES), draw(SCALES)), (draw(OFFSETS), draw(OFFSETS))
    return pixels, valid, grid, scale, offset


def reading(pixels, valid):
    def read(rect):
        assert Rect(0, 0, *valid.shape).contains(rect)
        assert rect.area
        return pixels[:, *rect.slices()], valid[rect.slices()]

    return read


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_pixel_is_the_mean_of_what_it_covers_or_lies_on_the_line_between_two(case):
    pixels, valid, grid, scale, offset = case
    made, inside = resampled(reading(pixels, valid), grid, scale, offset, valid.shape)
    assert made.dtype == pixels.dtype
    for row in range(grid.height):
        for col in range(grid.width):
            down = weights_by_hand(row, scale[0], offset[0], valid.shape[0])
            across = weights_by_hand(col, scale[1], offset[1], valid.shape[1])
            known = {(i, j): a * b for i, a in down.items() for j, b in across.items() if valid[i, j]}
            assert inside[row, col] == bool(known)
            for band in range(2):
                total = sum(known.values())
                exact = sum(float(pixels[band, i, j]) * float(w) for (i, j), w in known.items()) / float(total or 1)
                tolerance = 1e-4 if pixels.dtype.kind == "f" else 0.5 + 1e-9
                assert abs(float(made[band, row, col]) - exact) <= tolerance


@settings(max_examples=60, deadline=None)
@given(cases(), st.data())
def test_a_part_is_that_part_of_the_whole_bit_for_bit(case, data):
    pixels, valid, grid, scale, offset = case
    whole, inside = resampled(reading(pixels, valid), grid, scale, offset, valid.shape)
    top, left = data.draw(st.integers(0, grid.bottom - 1)), data.draw(st.integers(0, grid.right - 1))
    part = Rect(top, left, data.draw(st.integers(top + 1, grid.bottom)), data.draw(st.integers(left + 1, grid.right)))
    made, there = resampled(reading(pixels, valid), part, scale, offset, valid.shape)
    assert np.array_equal(made, whole[:, *part.slices()])
    assert np.array_equal(there, inside[part.slices()])


def test_a_raster_on_its_own_grid_stays_what_it_is():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 9, 7)).astype(np.uint8)
    valid = np.ones((9, 7), bool)
    same = (Fraction(1), Fraction(1)), (Fraction(0), Fraction(0))
    made, inside = resampled(reading(pixels, valid), Rect(2, 1, 8, 7), *same, (9, 7))
    assert np.array_equal(made, pixels[:, 2:8, 1:7])
    assert inside.all()
