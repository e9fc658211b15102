"""Networks as they are exported, run over a scene: the mask is that of one pass of the bare network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.network.card import Card
from pipeline.network.mlm import embed
from pipeline.settings import Job
from tests.oracle import noise, opened, read_mask, run_here, save_scene
from tests.passes import padded
from tests.strategies import Sketch
from tests.tiny import Network

AROUND = 32


def sketched(bands: int = 3, classes: int = 3, rank: int = 4, **said) -> onnx.ModelProto:
    sketch = Sketch(bands, seed=2, **said)
    x = sketch.add("Relu", sketch.conv(sketch.image, 6))
    x = sketch.join(x, sketch.resize(sketch.conv(sketch.pool(x), 6), 2.0))
    x = sketch.conv(x, classes, 1)
    return sketch.model(sketch.add("Squeeze", x, sketch.constant([1], np.int64)) if rank == 3 else x, rank=rank)


def of_bytes() -> onnx.ModelProto:
    """Draw a network that eats bytes, channels last, and scales them itself, as TensorFlow's do."""
    model = sketched(layout="NHWC")
    scale = numpy_helper.from_array(np.float32(1 / 255), "byte")
    ahead = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "byte"], ["scaled"]),
    ]
    nodes = [*ahead, *model.graph.node]
    nodes[2].input[0] = "scaled"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(scale)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def of_old() -> onnx.ModelProto:
    """Draw a network of operator set 9, whose Upsample is long gone."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Upsample", ["b", "twice"], ["output"], mode="nearest"),
    ]
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 64, 64])],
        [
            numpy_helper.from_array(random.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32), "w"),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


@dataclass
class Case:
    """A network, the same one free in size where it is not, and what is to be said of it."""

    model: Callable[[], onnx.ModelProto]
    free: Callable[[], onnx.ModelProto] | None = None
    card: dict = field(default_factory=dict)
    job: dict = field(default_factory=dict)
    agree: float = 1.0


def freed() -> onnx.ModelProto:
    model = of_old()
    for port in (*model.graph.input, *model.graph.output):
        for place, name in ((2, "h"), (3, "w")):
            port.type.tensor_type.shape.dim[place].dim_param = name
    return model


SIGMOID = {"activation": "sigmoid", "classes": ["no", "yes"]}
CASES = {
    "all free": Case(sketched),
    "fixed sides": Case(lambda: sketched(height=64, width=64), sketched),
    "fixed sides and batch": Case(lambda: sketched(height=64, width=64, batch=1), sketched, job={"batch": 2}),
    "a fixed batch of four": Case(lambda: sketched(batch=4), sketched),
    "channels last": Case(lambda: sketched(layout="NHWC")),
    "channels last, fixed": Case(lambda: sketched(layout="NHWC", height=64, width=64), lambda: sketched(layout="NHWC")),
    "rows and columns alone": Case(lambda: sketched(classes=1, rank=3), card=SIGMOID),
    "one grey band": Case(lambda: sketched(bands=1), card={"bands": ["grey"]}, job={"bands": (2,)}),
    "half precision": Case(lambda: Network(half=True).model(), agree=0.999),
    "bytes that are scaled inside": Case(of_bytes, card={"scaling": {"kind": "none"}}),
    "operator set 9": Case(of_old, freed),
    "operator set 10": Case(lambda: Network(opset=10).model()),
    "operator set 21": Case(lambda: Network(opset=21).model()),
}


def card_of(case: Case) -> Card:
    last = case.model().graph.input[0].type.tensor_type.shape.dim[3].dim_value == 3
    said = {
        "name": "drawn",
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "constant", "divide_by": 255},
        "classes": ["a", "b", "c"],
        "layout": "NHWC" if last else "NCHW",
        "says": "logits",
        "activation": "softmax",
    }
    return Card.of(said | case.card, "the test")


def alone(model: onnx.ModelProto, card: Card, pixels: np.ndarray) -> np.ndarray:
    """What the bare network says of the whole scene, (class, row, col), in one pass, padded by reflection."""
    rows, cols = (side + (-side) % 2 + 2 * AROUND for side in pixels.shape[1:])
    whole = padded(pixels, -AROUND, -AROUND, rows, cols)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    shift, factor = (numbers[:, None, None] for numbers in card.affine(None))
    if entry.type == "tensor(uint8)":
        image = whole
    else:
        image = ((whole - shift) * factor).astype(np.float16 if "float16" in entry.type else np.float32)
    image = np.repeat(image[None], entry.shape[0] if isinstance(entry.shape[0], int) else 1, axis=0)
    said = session.run(None, {entry.name: image.transpose(0, 2, 3, 1) if card.layout == "NHWC" else image})[0][0]
    said = said[None] if said.ndim == 2 else said.transpose(2, 0, 1) if card.layout == "NHWC" else said
    return said[:, AROUND : AROUND + pixels.shape[1], AROUND : AROUND + pixels.shape[2]].astype(np.float32)


def written(folder, model, card, pixels, **job) -> Job:
    onnx.save(embed(model, card), folder / "net.onnx")
    save_scene(folder / "scene.tif", pixels)
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "net.onnx"), "out": folder / "out"}
    return Job(**said, device="cpu", **job)


@pytest.mark.parametrize("name", CASES)
def test_networks_run_as_they_are_exported(tmp_path, name):
    case, pixels = CASES[name], noise(130, 150)
    card = card_of(case)
    job = written(tmp_path, case.model(), card, pixels, **{"window": 96, **case.job})
    report = run_here(job)
    eaten = pixels[[band - 1 for band in job.bands]] if job.bands else pixels
    said = alone((case.free or case.model)(), card, eaten)
    expected = said[0] >= 0 if len(said) == 1 else said.argmax(axis=0)
    found = read_mask(tmp_path / "out" / "scene")
    assert (found == expected).mean() >= case.agree
    assert report["margin"]["kind"] == "exact"


def test_weights_that_lie_beside_the_model_make_the_same_mask(tmp_path):
    case, pixels = CASES["all free"], noise(130, 150)
    card = card_of(case)
    run_here(written(tmp_path, case.model(), card, pixels, window=96))
    (tmp_path / "other").mkdir()
    job = written(tmp_path / "other", case.model(), card, pixels, window=96)
    onnx.save(
        embed(case.model(), card), job.model, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert (tmp_path / "other/weights.bin").stat().st_size > 0
    run_here(job)
    assert np.array_equal(read_mask(tmp_path / "other/out/scene"), read_mask(tmp_path / "out/scene"))


def test_a_free_batch_that_is_none_runs_one_by_one_and_says_so(tmp_path):
    sketch = Sketch(3, seed=2)  # declares a batch of any size, and holds a 1 in a Reshape
    flat = sketch.add("Reshape", sketch.conv(sketch.image, 3), sketch.constant([1, 3, -1], np.int64))
    sides = sketch.cut(sketch.add("Shape", sketch.image), 2, 4, 0)
    shape = sketch.add("Concat", sketch.constant([1, 3], np.int64), sides, axis=0)
    model = sketch.model(sketch.add("Reshape", flat, shape, channels=3))
    card, pixels = card_of(Case(lambda: model)), noise(130, 150)
    job = written(tmp_path, model, card, pixels, window=96, batch=3)
    with opened(job) as run:
        assert run.plan.recipe.batch == 1
        assert any("refuses a batch of 3, so it runs with 1" in note for note in run.settled.notes)
    run_here(job)
    assert np.array_equal(read_mask(tmp_path / "out/scene"), alone(model, card, pixels).argmax(axis=0))
