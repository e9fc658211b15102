"""Stride, reach, scale and offset, held against one pass over the whole image in ONNX Runtime."""

from fractions import Fraction

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from passes import largest_difference, seen_from
from strategies import Sketch, bounded_networks, unet

from pipeline.network.field import Field, field_of, layout_of

DRAWN = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@DRAWN
@given(bounded_networks(), st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
def test_windows_with_the_margin_equal_one_pass_bit_for_bit(network, scene):
    model, _ = network
    field = field_of(model)
    assert field.bounded, field.unbounded
    assert field.inexact is None
    assert largest_difference(model, field, field.margin, scene=scene) == 0


@settings(DRAWN, max_examples=10)
@given(bounded_networks(inexact=True))
def test_what_is_called_inexact_is_exact_to_rounding(network):
    model, _ = network
    field = field_of(model)
    assert field.bounded, field.unbounded
    assert largest_difference(model, field, field.margin, scene=(2, 1)) <= (1e-4 if field.inexact else 0)


def test_a_linear_factor_of_three_is_called_inexact():
    sketch = Sketch()
    model = sketch.model(sketch.resize(sketch.pool(sketch.image, kernel=3), 3.0, "linear"))
    assert "resize_1" in field_of(model).inexact


@DRAWN
@given(bounded_networks(), st.integers(0, 7), st.integers(0, 7))
def test_a_pixel_changes_no_output_beyond_the_reach(network, row, col):
    model, _ = network
    field = field_of(model)
    left, right = seen_from(model, field, row, col)
    assert max(left, right) <= field.reach


@settings(DRAWN, max_examples=15)
@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 3])), min_size=1, max_size=4), st.booleans()
)
def test_the_reach_of_plain_convolutions_is_the_receptive_field(layers, valid):
    sketch = Sketch(1)
    x = sketch.image
    for kernel, dilation in layers:
        x = sketch.conv(x, 2, kernel, dilation=dilation, pad="valid" if valid else "same")
    field = field_of(sketch.model(x))
    assert field.reach == sum((kernel - 1) // 2 * dilation for kernel, dilation in layers)
    assert field.offset == (field.reach if valid else 0)
    assert max(seen_from(sketch.model(x), field)) == field.reach


def test_the_classic_unet_reaches_23_pixels_and_its_receptive_field_does():
    model = unet()
    field = field_of(model)
    assert field == Field(stride=4, reach=23)
    assert field.margin == 24
    for constant in model.graph.initializer:  # positive weights hide nothing behind a ReLU
        constant.CopyFrom(onnx.numpy_helper.from_array(np.abs(onnx.numpy_helper.to_array(constant)), constant.name))
    assert max(max(seen_from(model, field, place, place)) for place in range(4)) == 23


def test_windows_off_the_stride_or_with_less_margin_differ():
    model, field = unet(), field_of(unet())
    assert largest_difference(model, field, 24, scene=(2, 2)) == 0
    assert largest_difference(model, field, 24, shift=1, scene=(2, 2)) > 1e-4
    assert largest_difference(model, field, 16, scene=(2, 2)) > 0


def test_scale_and_offset_of_networks_that_change_the_size():
    sketch = Sketch()
    valid = sketch.conv(sketch.image, 4, 5, pad="valid")
    half = sketch.conv(sketch.image, 4, 2, stride=2, pad="valid")
    shuffled = sketch.add("DepthToSpace", sketch.conv(sketch.image, 8, 1), blocksize=2)
    cropped = sketch.conv(sketch.crop(sketch.image, 5), 2, 3)
    model = sketch.model(valid, half, shuffled, cropped)
    assert field_of(model) == Field(1, 2, Fraction(1), 2)
    assert field_of(model, "output1") == Field(2, 0, Fraction(2), 0)
    assert field_of(model, "output2") == Field(1, 0, Fraction(1, 2), 0)
    # The padding after the crop touches one pixel, the sixth from the rim.
    assert field_of(model, "output3") == Field(1, 6, Fraction(1), 5)


def test_the_layout_is_told_from_the_declared_sides_or_said():
    first, last = unet(), unet(layout="NHWC")
    assert (layout_of(first), layout_of(last)) == ("NCHW", "NHWC")
    assert field_of(first) == field_of(last)
    for dim in last.graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()  # nothing is declared, so the second axis is taken for the channels
    assert layout_of(last) == "NCHW"
    assert field_of(last, layout="NHWC") == field_of(first)


def test_rows_and_columns_share_the_larger_reach_and_the_common_stride():
    sketch = Sketch(1)
    x = sketch.add("MaxPool", sketch.image, kernel_shape=[2, 3], strides=[2, 3])
    x = sketch.add("Resize", x, "", sketch.constant([1, 1, 2, 3]), mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode="asymmetric")  # fmt: skip
    x = sketch.add("Conv", x, sketch.weights(1, 1, 1, 9), kernel_shape=[1, 9], pads=[0, 4, 0, 4])
    field = field_of(sketch.model(x))
    assert (field.stride, field.margin) == (6, 6)
    assert largest_difference(sketch.model(x), field, field.margin, scene=(2, 2)) == 0
