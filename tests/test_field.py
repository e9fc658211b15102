"""Stride, reach, scale and offset, held against one pass over the whole image in ONNX Runtime."""

from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from strategies import Sketch, bounded_networks, unet

from pipeline.errors import ModelError
from pipeline.grid import reflected
from pipeline.network.field import Field, field_of, layout_of, relaxed

DRAWN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
DATA = Path(__file__).parents[2] / "shared" / "data" / "models"


class Runner:
    """A network in ONNX Runtime as the engine runs it: one thread, the CPU. Images are (bands, rows, cols)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.last = layout_of(model) == "NHWC"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Give (classes, rows, cols)."""
        fed = np.ascontiguousarray(image.transpose(1, 2, 0) if self.last else image)[None]
        made = self.session.run(None, {self.session.get_inputs()[0].name: fed})[0][0]
        if made.ndim == 2:
            return made[None]
        return made.transpose(2, 0, 1) if self.last else made


def bands_of(model: onnx.ModelProto) -> int:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[3 if layout_of(model) == "NHWC" else 1].dim_value


def picture(bands: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(bands, height, width)).astype(np.float32)


def padded(scene: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    rows = reflected(top, top + height, scene.shape[1])
    cols = reflected(left, left + width, scene.shape[2])
    return scene[:, rows][:, :, cols]


def kept(field: Field, margin: int, side: int) -> slice:
    """Which outputs of a pass over `side` pixels stand for what lies `margin` inside."""
    start, stop = (ceil((edge - field.offset) / field.scale) for edge in (margin, side - margin))
    return slice(start, stop)


def core(run: Runner, field: Field, image: np.ndarray, margin: int) -> np.ndarray:
    rows, cols = (kept(field, margin, side) for side in image.shape[1:])
    return run(image)[:, rows, cols]


def largest_difference(model: onnx.ModelProto, field: Field, margin: int, shift: int = 0, scene=(1, 1)) -> float:
    """Compare windows with one pass; `scene` is in cores, `shift` puts the windows off the stride's grid."""
    run, stride = Runner(model), field.stride
    side = stride * max(-(-16 // stride), 16 - 2 * margin // stride)  # all maps at least 16 × 16
    window = side + 2 * margin
    image = picture(bands_of(model), scene[0] * side - 3, scene[1] * side - 1)
    around = margin + stride
    whole = [count * side + 2 * around for count in scene]
    one_pass = core(run, field, padded(image, -around, -around, *whole), around)
    cells = side / field.scale
    worst = 0.0
    for row in range(scene[0]):
        for col in range(scene[1]):
            top, left = row * side - margin, col * side - margin
            cell = core(run, field, padded(image, top + shift, left + shift, window, window), margin)
            at = [round(place * cells) + shift for place in (row, col)]
            other = one_pass[:, at[0] : at[0] + cell.shape[1], at[1] : at[1] + cell.shape[2]]
            cell = cell[:, : other.shape[1], : other.shape[2]]
            assert cell.size
            worst = max(worst, float(np.max(np.abs(cell - other))))
    return worst


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


def seen_from(model: onnx.ModelProto, field: Field, row: int = 0, col: int = 0) -> tuple[int, int]:
    """Change one pixel amid an image; say how far before and behind it outputs change, in rows and columns."""
    run = Runner(model)
    side = 2 * field.margin + 8 * field.stride
    at = np.array([side // 2 + row, side // 2 + col])
    image = picture(bands_of(model), side, side)
    other = image.copy()
    other[:, at[0], at[1]] += 100
    changed = np.argwhere(np.any(run(image) != run(other), axis=0))
    if not len(changed):
        return 0, 0
    scale, offset = field.scale, field.offset
    first = np.array([[int(np.floor(float(scale * int(i)))) + offset for i in place] for place in changed])
    last = np.maximum(first, [[ceil(scale * int(i + 1)) - 1 + offset for i in place] for place in changed])
    return int((at - last).max()), int((first - at).max())


@settings(DRAWN, max_examples=15)
@given(st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 3])), min_size=1, max_size=4), st.booleans())
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


def test_rows_and_columns_share_the_larger_reach_and_the_common_stride():
    sketch = Sketch(1)
    x = sketch.add("MaxPool", sketch.image, kernel_shape=[2, 3], strides=[2, 3])
    x = sketch.add("Resize", x, "", sketch.constant([1, 1, 2, 3]), mode="nearest", nearest_mode="floor")
    x = sketch.add("Conv", x, sketch.weights(1, 1, 1, 9), kernel_shape=[1, 9], pads=[0, 4, 0, 4])
    field = field_of(sketch.model(x))
    assert (field.stride, field.margin) == (6, 6)
    assert largest_difference(sketch.model(x), field, field.margin, scene=(2, 2)) == 0


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
    yield "follow", lambda s, x: s.add("Resize", x, "", "", s.constant([1, 3, 64, 64], np.int64), mode="linear")
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


def fixed(side: int = 64) -> Sketch:
    return Sketch(3, height=side, width=side, batch=1)


def written_for(side: int) -> onnx.ModelProto:
    """Draw a network as tracing exporters do: every size in it is a number."""
    sketch = fixed(side)
    skip = sketch.conv(sketch.image, 4)
    x = sketch.conv(sketch.pool(skip, kernel=4), 4)
    x = sketch.add("Resize", x, "", "", sketch.constant([1, 4, side, side], np.int64), mode="linear")
    x = sketch.join(sketch.cut(skip, 0, side, 2), x)
    x = sketch.conv(x, 1)
    return sketch.model(sketch.add("Reshape", x, sketch.constant([1, side, side], np.int64)), rank=3)


def test_sizes_written_for_the_declared_size_are_read_for_what_they_mean():
    assert field_of(written_for(64)) == field_of(written_for(96))
    assert field_of(written_for(64)).stride == 4


@pytest.mark.parametrize(("height", "width", "batch"), [(128, 96, 1), (64, 64, 3), (96, 128, 2), (64, 64, 1)])
def test_a_relaxed_network_is_the_one_that_would_have_been_written_for_that_size(height, width, batch):
    model = relaxed(written_for(64), height, width, batch)
    onnx.checker.check_model(model, full_check=True)
    output = model.graph.output[0].type.tensor_type.shape
    assert [dim.dim_value for dim in output.dim] == [batch, height, width]
    images = np.stack([picture(3, height, width, seed) for seed in range(batch)])
    made = Runner(model).session.run(None, {"image": images})[0]
    assert made.shape == (batch, height, width)
    if height == width == 64:
        assert np.array_equal(made[:1], Runner(written_for(64)).session.run(None, {"image": images[:1]})[0])


def test_a_larger_relaxed_window_equals_the_originals_windows_a_reach_from_their_rims():
    model, side = written_for(128), 256
    field, image = field_of(model), picture(3, side, side)
    large, small = Runner(relaxed(model, side, side, 1))(image), Runner(model)
    margin = field.margin
    for top in (0, 64, 128):
        cell = small(image[:, top : top + 128, 64:192])[:, margin:-margin, margin:-margin]
        assert np.array_equal(cell, large[:, top + margin : top + 128 - margin, 64 + margin : 192 - margin])


def test_a_network_that_mixes_keeps_its_size_and_may_change_its_batch():
    sketch = fixed()
    model = sketch.model(sketch.add("Mul", sketch.image, sketch.add("GlobalAveragePool", sketch.image)))
    made = relaxed(model, 64, 64, 4)
    assert [dim.dim_value for dim in made.graph.output[0].type.tensor_type.shape.dim] == [4, 3, 64, 64]
    with pytest.raises(ModelError, match="made for 64 × 64 pixels and cannot be given 128 × 128: the node"):
        relaxed(model, 128, 128, 1)


def test_relaxing_keeps_the_chosen_output_and_what_it_needs():
    sketch = Sketch()
    model = sketch.model(sketch.conv(sketch.image, 2), sketch.conv(sketch.image, 3))
    made = relaxed(model, 32, 48, 2, "output1")
    assert [item.name for item in made.graph.output] == ["output1"]
    assert len(made.graph.initializer) == 2
    assert len(model.graph.initializer) == 4  # the original is as it was


def test_a_half_cut_out_of_a_fixed_size_is_not_guessed_at():
    sketch = fixed()
    model = sketch.model(sketch.cut(sketch.image, 0, 32, 2))
    assert "does not follow" in field_of(model).unbounded


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


THIRD_PARTY = {
    "bioimageio-unet2d-nuclei/weights.onnx": Field(8, 58),
    "zeiss-toy/simple_nuclei_segmodel.onnx": Field(1, 1),
    "zeiss-toy/simple_regmodel.onnx": Field(4, 16),
    "deepness/dummy_segmentation_models__one_output_softmax_bsx2x512x512.onnx": Field(),
    "deepness/dummy_segmentation_models__two_outputs_sigmoid_bsx512x512.onnx": Field(),
    "deepness/one_output_sigmoid_red_detector.onnx": Field(),
}


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_networks_that_others_made(name):
    if not (DATA / name).exists():
        pytest.skip("the third-party networks are not here")
    model = onnx.load(DATA / name)
    field = field_of(model)
    assert field == THIRD_PARTY[name]
    side = max(128, 16 * field.stride + 2 * field.margin)
    large, run = Runner(relaxed(model, 2 * side, 2 * side, 1)), Runner(relaxed(model, side, side, 1))
    image = picture(bands_of(model), 2 * side, 2 * side)
    whole, margin, start = large(image), field.margin, 8 * field.stride
    cell = run(image[:, start : start + side, :side])[:, margin : side - margin, margin : side - margin]
    assert np.array_equal(cell, whole[:, start + margin : start + side - margin, margin : side - margin])


def test_networks_that_others_made_and_that_are_refused():
    if not DATA.exists():
        pytest.skip("the third-party networks are not here")
    with pytest.raises(ModelError, match="2 axes"):
        field_of(onnx.load(DATA / "deepness" / "dummy_recognition_model.onnx"))
    assert "align_corners" in field_of(onnx.load(DATA / "deepness" / "dummy_superresolution_model.onnx")).unbounded
