"""What mixes all pixels, what does not, what is broken: operator by operator."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from passes import largest_difference
from strategies import Sketch, bounded_networks

from pipeline.errors import ModelError
from pipeline.network.field import Field, field_of
from pipeline.network.walk import RULES


def mixers():
    """Each with one word that the reason must hold."""
    yield "mean", lambda s, x: s.add("Mul", x, s.add("GlobalAveragePool", x))
    yield "maximum", lambda s, x: s.add("Mul", x, s.add("GlobalMaxPool", x))
    yield "rows", lambda s, x: s.add("ReduceMean", x, s.constant([2, 3], np.int64))
    yield "statistics", lambda s, x: s.add("InstanceNormalization", x, *[s.constant([1, 1, 1])] * 2, epsilon=1e-5)
    yield "columns", lambda s, x: s.add("Softmax", x, axis=3)
    yield "rows", lambda s, x: s.add("Softmax", x, axis=2)
    yield "columns", lambda s, x: s.add("LayerNormalization", x, s.constant([1] * 8), axis=-1)
    yield "attention", lambda s, x: s.add("MatMul", x, s.add("Transpose", x, perm=[0, 1, 3, 2]))
    yield "columns", lambda s, x: s.add("MatMul", x, s.weights(16, 16))
    yield "flattens", lambda s, x: s.add("Flatten", x)
    yield "rows", lambda s, x: s.add("Reshape", x, s.constant([0, 0, -1], np.int64))
    yield "corners", lambda s, x: s.resize(x, 2.0, "linear", "align_corners")
    yield (
        "follow no image",
        lambda s, x: s.add("Resize", x, "", "", s.constant([1, 3, 64, 64], np.int64), mode="linear"),
    )
    yield "statistics", lambda s, x: s.add("BatchNormalization", x, *[s.constant([1] * 3)] * 4, training_mode=1)
    yield "does not know", lambda s, x: s.add("GridSample", x, s.constant(np.zeros((1, 8, 8, 2))))
    yield "does not know", lambda s, x: s.add("Anything", x, domain="com.example")
    yield "fixed to one place", lambda s, x: s.add("Add", x, s.constant(np.zeros((1, 1, 64, 1))))
    yield "joins maps of", lambda s, x: s.add("Add", x, s.conv(x, 3, 3, pad="valid"))
    yield "joins maps of", lambda s, x: s.join(x, s.pool(x))
    yield "rows", lambda s, x: s.add("Concat", x, x, axis=2)
    yield "weights", lambda s, x: s.add("Conv", x, x)
    yield "rows", lambda s, x: s.add("ArgMax", x, axis=2)
    yield "rows", lambda s, x: s.add("Gather", x, s.constant([0, 1], np.int64), axis=2)
    yield "places", lambda s, x: s.add("MaxPool", x, outputs=2, kernel_shape=[2, 2])[1]
    yield "batch", lambda s, x: s.add("ReduceMean", x, s.constant([0], np.int64))
    yield "lays rows", lambda s, x: s.add("Add", x, s.add("Transpose", x, perm=[0, 1, 3, 2]))
    yield "no simple ratio", lambda s, x: s.resize(x, 1.2345, "linear")
    yield "pixels inside", lambda s, x: s.conv(x, 3, 2, pad="valid")
    yield "other scales", lambda s, x: s.add("MaxPool", x, kernel_shape=[2, 1], strides=[2, 1])
    yield "small kernel", lambda s, x: s.conv(x, 3, 1, stride=2, pad="SAME_UPPER")
    yield "dilation", lambda s, x: s.conv(x, 3, 3, dilation=2, pad="SAME_LOWER")
    yield "fixed size", lambda s, x: s.add("ConvTranspose", x, s.weights(3, 3, 2, 2), output_shape=[64, 64])
    yield "drops pixels", lambda s, x: s.add("Dropout", x, s.constant(0.5), s.constant(True, bool))
    yield "operands or attributes", lambda s, x: s.add("MatMul", x)
    yield "range", lambda s, x: s.add("DynamicQuantizeLinear", x, outputs=3)[0]


@pytest.mark.parametrize(("word", "mix"), list(mixers()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_mixes_all_pixels_is_unbounded_and_the_reason_says_why(word, mix):
    sketch = Sketch(3)
    x = mix(sketch, sketch.conv(sketch.image, 3))
    field = field_of(sketch.model(sketch.add("Relu", x)))
    assert not field.bounded
    assert word in field.unbounded


def test_the_reason_names_the_node():
    sketch = Sketch()
    x = sketch.add("Mul", sketch.image, sketch.add("GlobalAveragePool", sketch.image, name="gate/pool"))
    assert "`gate/pool` (GlobalAveragePool)" in field_of(sketch.model(x)).unbounded


def test_a_body_of_its_own_is_not_followed_even_if_no_operand_is_the_image():
    sketch = Sketch()
    body = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["inner"])], "body", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )  # fmt: skip
    x = sketch.add("If", sketch.constant(True, bool), then_branch=body, else_branch=body)
    assert "graph of its own" in field_of(sketch.model(x)).unbounded


def test_only_nodes_on_the_way_to_the_output_count():
    sketch = Sketch()
    model = sketch.model(sketch.conv(sketch.image, 2), sketch.add("GlobalAveragePool", sketch.image))
    assert field_of(model) == Field(1, 1)
    assert not field_of(model, "output1").bounded


def test_softmax_before_opset_13_takes_all_axes_from_its_own_on():
    sketch = Sketch()
    model = sketch.model(sketch.add("Softmax", sketch.conv(sketch.image, 3), axis=1))
    model.opset_import[0].version = 12
    assert not field_of(model).bounded
    model.opset_import[0].version = 13
    assert field_of(model).bounded


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_before_opset_11(mode):
    sketch = Sketch()
    x = sketch.pool(sketch.conv(sketch.image, 4))
    x = sketch.add("Resize", x, sketch.constant([1, 1, 2, 2]), mode=mode)
    model = sketch.model(sketch.conv(x, 2))
    model.opset_import[0].version = 10
    field = field_of(model)
    assert (field.stride, field.bounded) == (2, True)
    assert largest_difference(model, field, field.margin, scene=(2, 2)) == 0


def test_a_channel_shuffle_by_reshaping_is_bounded():
    sketch = Sketch()
    x = sketch.conv(sketch.image, 6)
    shape = sketch.add("Shape", x)
    sides = sketch.cut(shape, 2, 4, 0)
    batch = sketch.cut(shape, 0, 1, 0)
    groups = sketch.add("Concat", batch, sketch.constant([2, 3], np.int64), sides, axis=0)
    x = sketch.add("Transpose", sketch.add("Reshape", x, groups), perm=[0, 2, 1, 3, 4])
    x = sketch.add("Reshape", x, sketch.add("Concat", batch, sketch.constant([6], np.int64), sides, axis=0))
    sketch.channels[x] = 6
    model = sketch.model(sketch.conv(x, 2))
    assert field_of(model) == Field(1, 2)
    assert largest_difference(model, field_of(model), 2, scene=(2, 2)) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.graph.ClearField("input"), "must have one input"),
        (lambda m: m.graph.input.append(helper.make_tensor_value_info("more", 1, [1])), "it has 2"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(), "has 3 axes"),
        (lambda m: m.graph.ClearField("output"), "no output"),
        (lambda m: m.graph.output[0].type.tensor_type.shape.dim.pop(), ""),
        (lambda m: m.graph.node.pop(0), "no node before it makes"),
    ],
)
def test_broken_networks_get_a_sentence(change, says):
    sketch = Sketch()
    model = sketch.model(sketch.conv(sketch.conv(sketch.image, 2), 2))
    change(model)
    if says:
        with pytest.raises(ModelError, match=says):
            field_of(model)
    else:
        assert field_of(model).bounded  # a rank noted wrongly is the checker's business


def test_an_output_that_is_no_mask_is_refused():
    sketch = Sketch()
    transposed = sketch.add("Transpose", sketch.image, perm=[0, 1, 3, 2])
    with pytest.raises(ModelError, match="holds batch, channels, columns, rows"):
        field_of(sketch.model(transposed))
    with pytest.raises(ModelError, match="has 2 axes"):
        field_of(sketch.model(transposed, rank=2))
    with pytest.raises(ModelError, match="no output `mask`; it has `output`"):
        field_of(sketch.model(transposed), "mask")


def test_absurd_sizes_are_refused_before_they_are_made():
    sketch = Sketch()
    x = sketch.image
    for _ in range(6):
        x = sketch.resize(x, 64.0)
    assert "more than" in field_of(sketch.model(x)).unbounded
    sketch = Sketch()
    big = sketch.add("ConstantOfShape", sketch.constant([1 << 40], np.int64))
    assert not field_of(sketch.model(sketch.add("Add", sketch.image, big))).bounded


def neighbours():
    """Operators that look around, each in a form that the drawn networks do not hold."""
    yield lambda s, x: s.pool(s.transposed(x, 3, 2, stride=3, more=1), kernel=3)
    yield lambda s, x: s.pool(s.transposed(x, 3, 5, stride=2, pad=2, more=1))
    yield lambda s, x: s.pool(s.add("ConvTranspose", x, s.weights(3, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"))
    yield lambda s, x: s.pool(s.add("ConvTranspose", x, s.weights(3, 3, 4, 4), strides=[2, 2], auto_pad="SAME_LOWER"))
    yield lambda s, x: s.add("ConvTranspose", x, s.weights(3, 1, 3, 3), dilations=[2, 2], pads=[2] * 4, group=3)
    yield lambda s, x: s.pool(x, "LpPool", 3, stride=1, pad=1)
    yield lambda s, x: s.add("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    yield lambda s, x: s.add("MaxPool", x, kernel_shape=[3, 3], pads=[2] * 4, dilations=[2, 2])
    yield lambda s, x: s.resize(s.pool(x, kernel=4), 4.0, "cubic")
    yield lambda s, x: s.resize(s.resize(x, 0.5, "linear"), 2.0, "linear", "half_pixel_symmetric")
    yield lambda s, x: s.resize(s.resize(x, 0.25, "linear", "asymmetric"), 4.0, "nearest", "tf_half_pixel_for_nn")
    yield lambda s, x: s.resize(s.resize(x, 0.5, rounding="ceil"), 2.0, rounding="round_prefer_ceil")
    yield lambda s, x: s.pool(s.resize(x, 1.5, rounding="round_prefer_floor"), kernel=3, stride=3)
    yield lambda s, x: s.resize(s.cut(s.cut(x, 1, 1 << 40, 2, 2), 1, 1 << 40, 3, 2), 2.0)
    yield lambda s, x: s.add("LRN", x, size=3)


def singles():
    """Operators on single pixels and on channels, each in a form that the drawn networks do not hold."""
    yield lambda s, x: s.add("Concat", *s.add("Split", x, axis=1, outputs=3, num_outputs=3), axis=1)
    yield lambda s, x: s.add("Tile", x, s.constant([1, 2, 1, 1], np.int64), channels=6)
    yield lambda s, x: s.add("Expand", s.conv(x, 1), s.constant([1, 3, 1, 1], np.int64), channels=3)
    yield lambda s, x: s.add("TopK", x, s.constant([2], np.int64), axis=1, outputs=2, channels=2)[0]
    yield lambda s, x: s.add("CumSum", x, s.constant(1, np.int64))
    yield lambda s, x: s.add("Sub", x, s.add("ReduceMean", x, s.constant([1], np.int64)))
    yield lambda s, x: s.add("MatMul", s.constant(np.eye(3)), s.add("Transpose", x, perm=[0, 2, 1, 3]), channels=3)
    yield lambda s, x: s.add("Where", s.add("Greater", x, s.constant(0)), x, s.constant([[[1]], [[2]], [[3]]]))
    yield lambda s, x: s.add("Gather", x, s.constant([2, 0, 0], np.int64), axis=1)
    yield lambda s, x: s.add("Dropout", x, s.constant(0.5))
    yield lambda s, x: s.add("LpNormalization", x, axis=1)
    yield lambda s, x: s.add("Pad", x, s.constant([1, 0, 1, 0], np.int64), "", s.constant([1, 2], np.int64), channels=5)
    yield lambda s, x: s.add("Gelu", x, domain="com.microsoft")
    yield lambda s, x: s.add("DequantizeLinear", s.add("QuantizeLinear", x, *_steps(s)), *_steps(s))


def _steps(sketch):
    return sketch.constant(0.02), sketch.constant(3, np.uint8)


@pytest.mark.parametrize("draw", [*neighbours(), *singles()])
def test_local_operators_are_bounded_and_exact(draw):
    sketch = Sketch(3)
    x = draw(sketch, sketch.conv(sketch.image, 3))
    if x.startswith("matmul"):
        x = sketch.add("Transpose", x, perm=[0, 2, 1, 3])
    if x.startswith(("tile", "pad", "topk")):
        x = sketch.conv(x, 3, 1)
    model = sketch.model(sketch.conv(x, 2))
    field = field_of(model)
    assert field.bounded, field.unbounded
    assert field.inexact is None
    assert largest_difference(model, field, field.margin, scene=(2, 2)) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bounded_networks(), st.data())
def test_a_damaged_network_gets_a_field_or_a_sentence(network, data):
    model, _ = network
    node = model.graph.node[data.draw(st.integers(0, len(model.graph.node) - 1))]
    damage = data.draw(st.sampled_from(["operand", "attribute", "number", "operator", "weights"]))
    if damage == "operand" and node.input:
        node.input.pop(data.draw(st.integers(0, len(node.input) - 1)))
    if damage == "attribute" and node.attribute:
        node.attribute.pop(data.draw(st.integers(0, len(node.attribute) - 1)))
    if damage == "number" and node.attribute:
        item = node.attribute[data.draw(st.integers(0, len(node.attribute) - 1))]
        worse = [0, -1, 7, 1 << 40, [0, 0], [-3] * 4, [1 << 50] * 2, "same", 0.5, ["a", "b"]]
        item.CopyFrom(helper.make_attribute(item.name, data.draw(st.sampled_from(worse))))
    if damage == "operator":
        node.op_type = data.draw(st.sampled_from(sorted(RULES)))
    if damage == "weights" and model.graph.initializer:
        constant = model.graph.initializer[data.draw(st.integers(0, len(model.graph.initializer) - 1))]
        constant.dims[:] = data.draw(st.lists(st.sampled_from([0, 1, 3, 1 << 40]), max_size=5))
    try:
        sentence = field_of(model).unbounded or ""
    except ModelError as error:
        sentence = error.message
    assert not sentence or "`" in sentence
