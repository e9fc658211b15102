"""The rule from probabilities to classes, against loops over pixels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.network.rule import classes_of, confidence_of, cut, quantised
from tests.tiny import Network

few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # so that ties are common


@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3)), elements=few))
@settings(max_examples=50, deadline=None)
def test_softmax_takes_the_first_of_the_largest(part):
    values = [9, 4, 252, 0][: len(part)]
    card = Network(channels=len(part)).card(values, "softmax")
    classes, certain = classes_of(part, card), confidence_of(part, card)
    for row, col in np.ndindex(*classes.shape):
        pixel = part[:, row, col].tolist()
        assert classes[row, col] == values[pixel.index(max(pixel))]
        assert certain[row, col] == max(pixel)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), elements=few),
    st.sampled_from([0.25, 0.5, 0.6]),
)
@settings(max_examples=50, deadline=None)
def test_sigmoid_takes_the_first_of_the_largest_that_reaches_the_threshold(part, threshold):
    values = [9, 4, 252, 0][: len(part) + 1]
    card = Network(channels=len(part)).card(values, "sigmoid", threshold=threshold, exclusive=True)
    classes, certain = classes_of(part, card), confidence_of(part, card)
    for row, col in np.ndindex(*classes.shape):
        pixel = part[:, row, col].tolist()
        best = max(pixel)
        assert classes[row, col] == (values[pixel.index(best) + 1] if best >= threshold else values[0])
        assert certain[row, col] == np.float32(best if best >= threshold else 1 - best)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3)), elements=few),
    st.sampled_from([0.25, 0.5, 0.6]),
)
@settings(max_examples=50, deadline=None)
def test_each_channel_has_a_band_unless_one_excludes_the_others(part, threshold):
    card = Network(channels=len(part)).card(range(len(part) + 1), "sigmoid", threshold=threshold)
    bands, certain = classes_of(part, card), confidence_of(part, card)
    assert (bands.shape, bands.dtype) == (part.shape, np.uint8)
    for row, col in np.ndindex(*certain.shape):
        pixel = part[:, row, col].tolist()
        assert bands[:, row, col].tolist() == [number >= threshold for number in pixel]
        assert certain[row, col] == np.float32(min(number if number >= threshold else 1 - number for number in pixel))


def test_beside_values_the_mask_says_only_that_they_are_there():
    card = Network(channels=2).card([5, 6], "none", says="values")
    mask = classes_of(np.full((2, 3, 4), -7.5, np.float32), card)
    assert (mask.shape, mask.dtype, mask.any()) == ((3, 4), np.uint8, False)


@given(st.floats(0.01, 0.99), st.floats(-6, 6, width=32))
@settings(max_examples=50, deadline=None)
def test_logits_are_cut_where_their_probability_is(threshold, logit):
    card = Network(channels=1).card([0, 1], "sigmoid", threshold=threshold)
    probability = 1 / (1 + np.exp(-np.float64(logit)))
    if abs(probability - threshold) > 1e-6:
        assert (logit >= cut(card, "logits")) == (probability >= threshold)
    assert classes_of(np.full((1, 1, 1), logit, np.float32), card, "logits")[0, 0] == (logit >= cut(card, "logits"))


def test_steps_round_and_stay_inside():
    assert quantised(np.array([-0.1, 0, 0.0019, 0.0021, 0.5, 0.9979, 0.9981, 1, 1.5], np.float32)).tolist() == [
        *(0, 0, 0, 1, 125, 249, 250, 250, 250),
    ]
