"""The arithmetic along one axis, held against what ONNX Runtime makes of it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from passes import Runner
from strategies import Sketch

from pipeline.network.lines import FAR, Kernel, Line, Span, Stretch, automatic_padding, slid, slid_size, spread

DRAWN = settings(max_examples=40, deadline=None)


def ramp(side: int) -> np.ndarray:
    """An image whose values are the numbers of its rows, so that a result says which rows it was made of."""
    return np.tile(np.arange(side, dtype=np.float32)[None, :, None], (1, 1, 4))


@DRAWN
@given(
    size=st.integers(8, 40), kernel=st.integers(1, 4), stride=st.integers(1, 4), dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)), ceil=st.booleans(),
    auto=st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
)  # fmt: skip
def test_a_pooling_takes_its_maximum_from_the_last_element_of_its_span(
    size, kernel, stride, dilation, pads, ceil, auto
):
    extent = dilation * (kernel - 1) + 1
    assume(max(pads) < min(kernel, extent))
    if auto != "NOTSET":  # ONNX Runtime's automatic padding is sound for these alone
        assume(not ceil and dilation == 1 and kernel >= stride)
    sketch, taken = Sketch(1), automatic_padding(auto, size, Kernel(kernel, stride, dilation, *pads))
    said = {"pads": [pads[0], 0, pads[1], 0]} if auto == "NOTSET" else {"auto_pad": auto}
    sides = {"kernel_shape": [kernel, 1], "strides": [stride, 1], "dilations": [dilation, 1]}
    made = Runner(sketch.model(sketch.add("MaxPool", sketch.image, ceil_mode=int(ceil), **sides, **said)))(ramp(size))
    span = slid(size, taken, ceil=ceil)
    assert len(span.first) == slid_size(size, taken, ceil=ceil) == made.shape[1]
    inside = span.last < size
    assert np.array_equal(made[0, inside, 0], span.last[inside])


@DRAWN
@given(
    factor=st.sampled_from([Fraction(2), Fraction(3), Fraction(4), Fraction(1, 2), Fraction(1, 4), Fraction(3, 2)]),
    coordinates=st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric"]),
    rounding=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
    size=st.sampled_from([24, 48]),
)
def test_a_nearest_resize_takes_what_its_span_says(factor, coordinates, rounding, size):
    sketch, stretch = Sketch(1), Stretch(factor, "nearest", coordinates, rounding)
    x = sketch.resize(sketch.image, float(factor), "nearest", coordinates, rounding=rounding)
    made = Runner(sketch.model(x))(ramp(size))[0, :, 0]
    span = stretch.span(len(made))
    assert stretch.steady(len(made))
    assert np.array_equal(made, np.clip(span.first, 0, size - 1))


@DRAWN
@given(
    factor=st.sampled_from([Fraction(2), Fraction(4), Fraction(1, 2), Fraction(3, 2), Fraction(2, 3)]),
    coordinates=st.sampled_from(["half_pixel", "asymmetric"]),
    mode=st.sampled_from(["linear", "cubic"]),
)
def test_a_smooth_resize_lies_between_the_ends_of_its_span(factor, coordinates, mode):
    sketch, stretch = Sketch(1), Stretch(factor, mode, coordinates, "floor")
    made = Runner(sketch.model(sketch.resize(sketch.image, float(factor), mode, coordinates)))(ramp(48))[0, :, 0]
    span = stretch.span(len(made))
    inside = (span.first >= 0) & (span.last < 48)
    assert np.all(made[inside] >= span.first[inside] - 1e-4)
    assert np.all(made[inside] <= span.last[inside] + 1e-4)
    assert stretch.exact == (factor.numerator in {1, 2, 4} and factor.denominator in {1, 2, 4})


def test_rounding_by_a_third_is_not_steady_where_it_hits_whole_elements():
    assert not Stretch(Fraction(1, 3), "nearest", "asymmetric", "floor").steady(90)
    assert Stretch(Fraction(1, 3), "nearest", "half_pixel", "round_prefer_floor").steady(90)


@pytest.mark.parametrize(("size", "stride", "pads"), [(3, 2, (0, 0)), (4, 2, (1, 1)), (2, 3, (0, 0)), (5, 1, (2, 2))])
def test_a_transposed_convolution_sees_what_adds_to_it(size, stride, pads):
    kernel, count = Kernel(size, stride, 1, *pads), 6
    reaches = {}
    for j in range(count):
        for k in range(size):
            reaches.setdefault(j * stride + k - pads[0], []).append(j)
    made = stride * (count - 1) + size - sum(pads)
    span = spread(made, kernel)
    for i in range(size, made - size):
        seen = reaches.get(i, [])
        assert all(span.first[i] <= j <= span.last[i] for j in seen)
        assert not seen or (span.first[i], span.last[i]) == (min(seen), max(seen))


def test_what_padding_touches_is_unclean_and_so_is_all_that_is_made_of_it():
    index = np.arange(12)
    once = Line.image(12).through(Span(index - 1, index + 1), Fraction(1))
    twice = once.through(Span(index - 1, index + 1), Fraction(1))
    assert np.flatnonzero(once.clean).tolist() == list(range(1, 11))
    assert np.flatnonzero(twice.clean).tolist() == list(range(2, 10))
    assert (twice.first[0], twice.first[2], twice.last[2]) == (-FAR, 0, 4)
    assert np.array_equal(once.merged(twice).first, twice.first)
