"""The networks that are measured: the zoo's, the article's U-Net, and a squeeze-excite U-Net of somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models import earth_water, zoo
from pipeline.network.card import Card
from pipeline.network.mlm import embed
from tests.bench.scenes import REFLECTANCE, RGB, SPREAD, write_scene

_MEAN, _STD = (60.0, 70.0, 80.0), (80.0, 80.0, 80.0)
_GAIN = 1e-4


@dataclass(frozen=True)
class Network:
    """A file, what it wants of pixels, the flags that tell maskmill, and the scene that fits it.

    `scene` writes one of so many rows and columns. The network eats (pixel − shift) × factor, band by band.
    """

    name: str
    file: Path
    shift: tuple[float, ...]
    factor: tuple[float, ...]
    flags: tuple[str, ...]
    scene: Callable[[Path, int, int], None]
    sides: tuple[int, ...] = ()  # the windows that it can be given, where not any


def network_of(name: str, folder: Path, ukis: Path | None) -> Network:
    """The network of that name; what has to be made for it is written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    factor = tuple(1 / one for one in _STD)
    rgb = partial(write_scene, bands=RGB)
    if name == "earth-water":
        file = zoo.path("earth-water")
        shift, factor = (tuple(map(float, numbers)) for numbers in earth_water.card({}).affine(None))
        return Network(name, file, shift, factor, ("--model", str(file)), rgb)
    if name == "article":
        file = folder / "article.onnx"
        onnx.save(embed(article(), _card("article")), file)
        return Network(name, file, _MEAN, factor, ("--model", str(file)), rgb)
    if name == "threshold":
        file = folder / "threshold.onnx"
        onnx.save(threshold(), file)
        return Network(name, file, (0.0,), (1.0,), ("--model", str(file)), partial(write_scene, bands=(0,)))
    if name == "ukis":
        if ukis is None:
            raise SystemExit("The network ukis is not part of maskmill; name its file: --ukis FILE.onnx.")
        return _ukis(ukis.resolve(), folder)
    raise SystemExit(f"There is no network called {name}; there are earth-water, article and ukis.")


def _ukis(file: Path, folder: Path) -> Network:
    """A U-Net of ukis-csmask on six bands: what it wants is in the JSON beside it."""
    said = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["data"]
    mean, std = (np.array(numbers) for numbers in said["dataset_statistics"]["img"])
    job = folder / "job.yaml"
    job.write_text(f"model: {file}\ncard: {{gain: {_GAIN:.4f}, offset: 0}}\n", encoding="utf-8")
    side = onnx.load(file).graph.input[0].type.tensor_type.shape.dim[2].dim_value
    return Network(
        "ukis",
        file,
        tuple(map(float, mean / _GAIN)),
        tuple(map(float, _GAIN / std)),
        ("--job", str(job)),
        partial(write_scene, bands=REFLECTANCE, spread=SPREAD),
        (side,) if side else (),
    )


def _card(name: str) -> Card:
    said = {
        "name": name,
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "mean_std", "mean": list(_MEAN), "std": list(_STD)},
        "classes": ["one", "two", "three"],
        "layout": "NCHW",
        "says": "logits",
        "activation": "softmax",
        "window": 512,
    }
    return Card.of(said, name)


def article() -> onnx.ModelProto:
    """The U-Net of Ronneberger, Fischer and Brox (2015), of 64-128-256 channels, same padding; weights of chance."""
    random, weights, nodes = np.random.default_rng(0), [], []

    def weight(*shape: int, taps: int) -> str:
        weights.append(random.normal(0, np.sqrt(2 / taps), shape).astype(np.float32))
        return f"w{len(weights)}"

    def add(operator: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [f"v{len(nodes) + 1}"], **attributes))
        return nodes[-1].output[0]

    def twice(value: str, before: int, after: int) -> str:
        for channels in (before, after):
            kernel = weight(after, channels, 3, 3, taps=9 * channels)
            value = add("Relu", add("Conv", value, kernel, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        return value

    def up(value: str, before: int, after: int) -> str:
        kernel = weight(before, after, 2, 2, taps=before)
        return add("ConvTranspose", value, kernel, kernel_shape=[2, 2], strides=[2, 2])

    halve = partial(add, "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    fine = twice("image", 3, 64)
    middle = twice(halve(fine), 64, 128)
    coarse = twice(halve(middle), 128, 256)
    value = twice(add("Concat", middle, up(coarse, 256, 128), axis=1), 256, 128)
    value = twice(add("Concat", fine, up(value, 128, 64), axis=1), 128, 64)
    kernel = weight(3, 64, 1, 1, taps=64)
    nodes.append(helper.make_node("Conv", [value, kernel], ["logits"], kernel_shape=[1, 1]))
    return _model(nodes, weights, bands=3, classes=3)


def threshold() -> onnx.ModelProto:
    """One node: the band is at most 127, or above."""
    weights = [np.array([-1.0, 1.0], np.float32).reshape(2, 1, 1, 1), np.array([127.5, -127.5], np.float32)]
    node = helper.make_node("Conv", ["image", "w1", "w2"], ["logits"], kernel_shape=[1, 1])
    card = {"name": "threshold", "bands": ["grey"], "scaling": "none", "classes": ["dark", "bright"], "window": 512}
    said = card | {"layout": "NCHW", "says": "logits", "activation": "softmax"}
    return embed(_model([node], weights, bands=1, classes=2), Card.of(said, "threshold"))


def _model(nodes: list, weights: list[np.ndarray], bands: int, classes: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", bands, "rows", "cols"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes, "rows", "cols"])],
        [numpy_helper.from_array(one, f"w{number}") for number, one in enumerate(weights, 1)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
