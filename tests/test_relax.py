"""Networks written for one size of image, made fit for another; and networks that others made."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from passes import Runner, bands_of, picture
from strategies import Sketch

from pipeline.errors import ModelError
from pipeline.network.field import Field, field_of, relaxed

DATA = Path(__file__).parents[2] / "shared" / "data" / "models"


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


def test_a_window_that_leaves_nothing_is_refused():
    sketch = Sketch()
    model = sketch.model(sketch.conv(sketch.image, 2, 5, pad="valid"))
    with pytest.raises(ModelError, match="4 × 8 pixels is too small"):
        relaxed(model, 4, 8, 1)


def test_a_squeeze_by_a_pooling_as_large_as_the_declared_map_is_unbounded():
    sketch = fixed()
    x = sketch.conv(sketch.image, 4)
    gate = sketch.add("Sigmoid", sketch.pool(x, "AveragePool", 64))
    assert "joins maps of" in field_of(sketch.model(sketch.add("Mul", x, gate))).unbounded


def test_a_half_cut_out_of_a_fixed_size_is_not_guessed_at():
    sketch = fixed()
    model = sketch.model(sketch.cut(sketch.image, 0, 32, 2))
    assert "does not follow" in field_of(model).unbounded


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
