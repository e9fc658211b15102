"""Scores against set arithmetic, pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.evaluate import accuracy, confusion, f1, iou, kappa, precision, recall

CLASSES = 4


@st.composite
def masks(draw):
    """Truth, with pixels that nobody knows, and a mask of the same shape."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    truth = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])))
    found = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1)))
    return truth, found


def _places(array, value):
    return {(int(row), int(col)) for row, col in np.argwhere(array == value)}


def _over(part, whole):
    return len(part) / len(whole) if whole else math.nan


@given(masks())
def test_every_score_is_the_arithmetic_of_sets(pair):
    truth, found = pair
    unknown = _places(truth, 255)
    matrix = confusion(truth, found, CLASSES)
    for value in range(CLASSES):
        real, said = _places(truth, value), _places(found, value) - unknown
        assert iou(matrix)[value] == pytest.approx(_over(real & said, real | said), nan_ok=True)
        assert precision(matrix)[value] == pytest.approx(_over(real & said, said), nan_ok=True)
        assert recall(matrix)[value] == pytest.approx(_over(real & said, real), nan_ok=True)
        both = len(real) + len(said)
        dice = 2 * len(real & said) / both if both else math.nan
        assert f1(matrix)[value] == pytest.approx(dice, nan_ok=True)
    known = truth != 255
    right = float((truth == found)[known].mean()) if known.any() else math.nan
    assert accuracy(matrix) == pytest.approx(right, nan_ok=True)


@given(masks(), st.integers(0, 9))
def test_the_matrices_of_parts_add_up_to_that_of_the_whole(pair, cut):
    truth, found = pair
    parts = confusion(truth[:cut], found[:cut], CLASSES) + confusion(truth[cut:], found[cut:], CLASSES)
    np.testing.assert_array_equal(parts, confusion(truth, found, CLASSES))


@given(masks())
def test_kappa_is_its_definition_on_pairs_of_pixels(pair):
    truth, found = pair
    known = truth != 255
    real, said = truth[known].astype(int), found[known].astype(int)
    chance = np.mean(real[:, None] == said[None, :]) if real.size else math.nan
    value = kappa(confusion(truth, found, CLASSES))
    if real.size and chance < 1:
        assert value == pytest.approx((np.mean(real == said) - chance) / (1 - chance), abs=1e-9)
    else:
        assert math.isnan(value)


def test_a_hole_in_the_mask_is_not_scored_in_silence():
    truth = np.array([[0, 1, 255]], np.uint8)
    with pytest.raises(ValueError, match=r"no class at 1 of 2 pixels \(values 253\)"):
        confusion(truth, np.array([[0, 253, 255]], np.uint8), 2)
    assert confusion(truth, np.array([[0, 1, 255]], np.uint8), 2).tolist() == [[1, 0], [0, 1]]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
