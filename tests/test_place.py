"""Answers smaller than their window, or of another scale, stand where they belong: held against numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from pipeline.errors import ModelError, SettingsError
from pipeline.grid import Grid, Rect, Stitch
from pipeline.network.blend import weights
from pipeline.network.card import Card
from pipeline.network.field import field_of
from pipeline.network.host import Host, Recipe
from pipeline.network.model_file import load_model
from pipeline.settings import Job
from pipeline.settle import open_network
from tests.oracle import MEAN, STD, noise, opened, read_mask, run_here, save_model, save_scene
from tests.passes import padded
from tests.strategies import Sketch

CLASSES = 3


def drawn(kind: str, mixes: bool = False, layout: str = "NCHW", side: int | None = None) -> onnx.ModelProto:
    """Draw a network of three bands and three classes whose answer has another size or scale than its window."""
    sketch = Sketch(3, seed=5, layout=layout, height=side, width=side, batch=1 if side else "n")
    x = sketch.add("Relu", sketch.conv(sketch.image, 6, 3, pad="valid" if kind.startswith("valid") else "same"))
    if kind == "valid":
        x = sketch.add("Relu", sketch.conv(x, 6, 5, pad="valid"))
    if kind in {"quarter", "half", "valid half"}:
        x = sketch.add("Relu", sketch.conv(sketch.pool(x), 8, 3, pad="valid" if kind == "valid half" else "same"))
    if kind == "quarter":
        x = sketch.conv(sketch.pool(x), 8)
    if kind == "double":
        x = sketch.transposed(x, 6, 2)
    if mixes:
        x = sketch.add("Mul", x, sketch.add("Sigmoid", sketch.add("GlobalAveragePool", x, name="squeeze")))
    return sketch.model(sketch.conv(x, CLASSES, 1))


def card(layout: str = "NCHW", window: int = 64, **more) -> Card:
    said = {
        "name": "drawn",
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "mean_std", "mean": list(MEAN), "std": list(STD)},
        "classes": [{"name": f"class {k}", "value": 10 * k} for k in range(CLASSES)],
        "layout": layout,
        "says": "logits",
        "activation": "softmax",
        "window": window,
    }
    return Card.of(said | more, "the test's card")


class Bare:
    """The network alone, and what it says of windows (band, row, col), brought to the input's scale by numpy."""

    def __init__(self, model: onnx.ModelProto, layout: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.last = layout == "NHWC"

    def __call__(self, pixels: np.ndarray, scale: Fraction) -> tuple[np.ndarray, int]:
        """(logits (class, row, col), how many input pixels its corner lies inside)."""
        scaled = (pixels - np.array(MEAN, np.float32)[:, None, None]) / np.array(STD, np.float32)[:, None, None]
        image = scaled.astype(np.float32)[None]
        said = self.session.run(None, {"image": image.transpose(0, 2, 3, 1) if self.last else image})[0][0]
        said = said.transpose(2, 0, 1) if self.last else said
        if scale > 1:
            said = stretched(stretched(said, int(scale), 1), int(scale), 2)
        if scale < 1:
            k = scale.denominator
            said = said.reshape(len(said), said.shape[1] // k, k, said.shape[2] // k, k).mean(axis=(2, 4))
        return said, (pixels.shape[1] - said.shape[1]) // 2


def stretched(said: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Interpolate along an axis, linear between pixels' middles, held at the ends."""
    count = said.shape[axis]
    at = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0, count - 1)
    below = np.floor(at).astype(int)
    above, part = np.minimum(below + 1, count - 1), (at - below).astype(np.float32)
    part = part.reshape([-1 if each == axis else 1 for each in range(3)])
    return said.take(below, axis) * (1 - part) + said.take(above, axis) * part


SCALES = {"valid": 1, "quarter": 4, "half": 2, "valid half": 2, "double": Fraction(1, 2)}


def ran(folder, model, card, pixels, **job):
    save_model(folder / "net.onnx", model, card)
    save_scene(folder / "scene.tif", pixels)
    asked = Job(
        scenes=(str(folder / "scene.tif"),), model=str(folder / "net.onnx"), out=folder / "out", device="cpu", **job
    )
    report = run_here(asked)
    return read_mask(folder / "out" / "scene"), report, asked


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", sorted(SCALES))
def test_windows_of_a_bounded_network_are_one_pass_at_its_scale(tmp_path, kind, layout):
    model, pixels, scale = drawn(kind, layout=layout), noise(150, 170), Fraction(SCALES[kind])
    mask, report, job = ran(tmp_path, model, card(layout), pixels, window=96, block=96 - 2 * 16, margin=16)
    whole = padded(pixels, -64, -64, 64 + 256, 64 + 256)
    logits, inside = Bare(model, layout)(whole, scale)
    start = 64 - inside
    expected = 10 * logits[:, start : start + 150, start : start + 170].argmax(axis=0)
    assert report["margin"]["kind"].startswith("exact")
    top = np.sort(logits, axis=0)
    clear = (top[-1] - top[-2])[start : start + 150, start : start + 170] > 1e-5  # numpy interpolates in another order
    assert np.array_equal(mask[clear], expected[clear])
    assert clear.mean() > 0.999
    network = open_network(tmp_path / "net.onnx", job)
    assert (network.scale, network.field.scale, network.field.offset) == (scale, 1, inside)
    assert len(network.notes) == (scale != 1)


def blended_by_hand(bare, pixels, scale, grid: Grid) -> np.ndarray:
    """The weighted mean of all windows' probabilities, (class, row, col), summed in float64."""
    rows, cols = pixels.shape[1:]
    room = grid.window
    total, weight = np.zeros((CLASSES, rows + 2 * room, cols + 2 * room)), np.zeros((rows + 2 * room, cols + 2 * room))
    for row in range(grid.cores[0]):
        for col in range(grid.cores[1]):
            window = grid.window_of(row, col)
            logits, inside = bare(padded(pixels, window.top, window.left, window.height, window.width), scale)
            powers = np.exp(logits - logits.max(axis=0))
            at = window.grown(-inside).slices(Rect(-room, -room, rows + room, cols + room))
            counts = weights(logits.shape[1])
            total[:, *at] += counts * powers / powers.sum(axis=0)
            weight[at] += counts
    return (total / np.maximum(weight, 1e-12))[:, room : room + rows, room : room + cols]


@pytest.mark.parametrize("side", [None, 64])
@pytest.mark.parametrize("kind", sorted(SCALES))
def test_windows_of_a_network_that_mixes_its_pixels_are_blended_where_their_answers_lie(tmp_path, kind, side):
    model, pixels, scale = drawn(kind, mixes=True, side=side), noise(100, 130), Fraction(SCALES[kind])
    if kind == "valid half" and side:
        pytest.skip("of one size alone it cannot be told whether a rim or a scale is missing")
    mask, report, job = ran(tmp_path, model, card(), pixels)
    assert report["margin"]["kind"] == "blend"
    network = open_network(tmp_path / "net.onnx", job)
    with opened(job) as run:
        grid = run.plan.grid
    assert grid.stitch is Stitch.BLEND
    bare = Bare(model, "NCHW")
    mean = blended_by_hand(bare, pixels, scale, grid)
    top = np.sort(mean, axis=0)
    clear = top[-1] - top[-2] > 1e-4
    assert np.array_equal(mask[clear], 10 * mean.argmax(axis=0)[clear])
    assert clear.mean() > 0.98
    assert network.field.offset == (grid.window - bare(pixels[:, :64, :64], scale)[0].shape[1]) // 2
    assert len(network.notes) == (scale != 1) + (network.field.offset > 0)


def test_an_answer_that_cannot_be_placed_is_refused_with_its_size(tmp_path):
    save_model(tmp_path / "net.onnx", drawn("valid half", mixes=True, side=64), card())
    with pytest.raises(ModelError, match="says 29 × 29 pixels of a window of 64"):
        open_network(tmp_path / "net.onnx", Job(scenes=("a",), model="m", out="o"))


def test_a_window_that_loses_pixels_to_rounding_down_is_refused(tmp_path):
    sketch = Sketch(3, seed=1)
    x = sketch.conv(sketch.image, 6, 8, stride=8, pad="valid")
    x = sketch.add("Mul", x, sketch.add("Sigmoid", sketch.add("GlobalAveragePool", x)))
    model = sketch.model(sketch.conv(sketch.transposed(x, 6, 8, stride=8), CLASSES, 1))
    save_model(tmp_path / "net.onnx", model, card())
    job = Job(scenes=("a",), model="m", out="o")
    assert open_network(tmp_path / "net.onnx", job).field.offset == 0
    with pytest.raises(ModelError, match="96 × 96 pixels of a window of 100"):  # not two pixels inside it
        open_network(tmp_path / "net.onnx", job.model_copy(update={"window": 100}))


def test_a_margin_of_which_nothing_is_said_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="nothing of the outer 3 px"):
        ran(tmp_path, drawn("valid"), card(), noise(64, 64), margin=2)
    assert not (tmp_path / "out").exists()


def test_a_size_that_the_graph_does_not_tell_is_found_by_running_it(tmp_path):
    sketch = Sketch(3, seed=5)
    x = sketch.conv(sketch.image, 6)
    x = sketch.add("Mul", x, sketch.add("Sigmoid", sketch.add("GlobalAveragePool", x)))
    wide = sketch.add("Cast", sketch.cut(sketch.add("Shape", x), 2, 4, 0), to=TensorProto.FLOAT)
    half = sketch.add(
        "Cast", sketch.add("Floor", sketch.add("Sqrt", sketch.add("Mul", wide, wide))), to=TensorProto.INT64
    )
    half = sketch.add("Div", half, sketch.constant(2, np.int64))
    sizes = sketch.add("Concat", sketch.cut(sketch.add("Shape", x), 0, 2, 0), half, axis=0)
    x = sketch.add("Resize", x, "", "", sizes, channels=6, mode="nearest")
    save_model(tmp_path / "net.onnx", sketch.model(sketch.conv(x, CLASSES, 1)), card())
    network = open_network(tmp_path / "net.onnx", Job(scenes=("a",), model="m", out="o"))
    host = Host.of(load_model(tmp_path / "net.onnx"), network.card, Recipe(64, 0, 1, "float32", Stitch.BLEND))
    assert None in host.size
    assert (network.scale, network.field.offset, network.field.bounded) == (2, 0, False)


def test_blending_that_is_asked_for_lays_smaller_answers_where_they_belong(tmp_path):
    model, pixels = drawn("valid"), noise(100, 130)
    mask, report, job = ran(tmp_path, model, card(), pixels, margin="blend", products=["disagreement", "confidence"])
    with opened(job) as run:
        mean = blended_by_hand(Bare(model, "NCHW"), pixels, Fraction(1), run.plan.grid)
    top = np.sort(mean, axis=0)
    clear = top[-1] - top[-2] > 1e-4
    assert np.array_equal(mask[clear], 10 * mean.argmax(axis=0)[clear])
    assert report["margin"]["kind"] == "blend"


def classic() -> onnx.ModelProto:
    """Draw the U-Net of 2015: no padding, skips cropped to their middle by their sizes, two levels down."""
    sketch, skips = Sketch(3, seed=3), []

    def sides(x: str) -> str:
        return sketch.cut(sketch.add("Shape", x), 2, 4, 0)

    x = sketch.add("Relu", sketch.conv(sketch.image, 6, 3, pad="valid"))
    for _ in range(2):
        skips.append(x)
        x = sketch.add("Relu", sketch.conv(sketch.pool(x), 6, 3, pad="valid"))
    for skip in reversed(skips):
        x = sketch.transposed(x, 6)
        start = sketch.add("Div", sketch.add("Sub", sides(skip), sides(x)), sketch.constant(2, np.int64))
        stop = sketch.add("Add", start, sides(x))
        cropped = sketch.add("Slice", skip, start, stop, sketch.constant([2, 3], np.int64))
        x = sketch.add("Relu", sketch.conv(sketch.join(cropped, x), 6, 3, pad="valid"))
    return sketch.model(sketch.conv(x, CLASSES, 1))


def test_a_network_without_padding_is_given_sides_that_lose_no_row(tmp_path):
    model, pixels = classic(), noise(120, 90)
    mask, report, job = ran(tmp_path, model, card(), pixels, window=96, margin=20)
    network, own = open_network(tmp_path / "net.onnx", job), field_of(model)
    assert (network.rim, network.field.stride) == (1, 4)  # sides of 2, divided by 4: 94 → 92, 46 → 44, 22
    assert network.field.reach < own.reach
    assert "1 px on each side are cut off" in network.notes[0]
    logits, inside = Bare(model, "NCHW")(padded(pixels, -63, -63, 254, 254), Fraction(1))
    start = 63 - inside
    expected = 10 * logits[:, start : start + 120, start : start + 90].argmax(axis=0)
    assert report["margin"]["kind"] == "exact"
    assert np.array_equal(mask, expected)


def test_other_types_and_old_operator_sets_are_stretched_too(tmp_path):
    model = drawn("half")
    del model.graph.output[:]
    model.graph.node[-1].output[0] = "wide"
    model.graph.node.append(helper.make_node("Cast", ["wide"], ["output"], to=TensorProto.FLOAT16))
    model.graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT16, [None] * 4))
    mask, _, _ = ran(tmp_path, model, card(), noise(90, 90))
    half = tmp_path / "plain"
    half.mkdir()
    assert (mask == ran(half, drawn("half"), card(), noise(90, 90))[0]).mean() > 0.99
