"""Tiny networks in all the shapes that networks come in, and what they say by numpy and bare ONNX Runtime."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.grid import Stitch
from pipeline.network.card import Card
from pipeline.network.engine import Engine
from pipeline.network.field import field_of
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe
from pipeline.network.rule import cut

MODELS = Path(__file__).parents[2] / "shared" / "data" / "models"
needs_models = pytest.mark.skipif(not MODELS.exists(), reason="the models of others are not here")


@dataclass
class Network:
    """A tiny network's choices: two convolutions, and all the shapes that networks come in."""

    bands: int = 3
    channels: int = 3
    nhwc: bool = False
    padded: bool = True  # else valid: the output is smaller by 2 pixels
    rank3: bool = False
    half: bool = False
    sigmoid: bool = False  # as the last node
    second: bool = False  # another output, before the one that counts
    opset: int = 17
    side: int | str = "side"
    seed: int = 0

    def model(self) -> onnx.ModelProto:
        random, kind = np.random.default_rng(self.seed), np.float16 if self.half else np.float32
        image = TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        weights = {
            "w1": random.normal(size=(4, self.bands, 3, 3)) / 3,
            "w2": random.normal(size=(self.channels, 4, 1, 1)),
            "b2": random.normal(size=self.channels),
        }
        nodes, value = [], "x"

        def add(operator, *inputs, **attributes):
            nodes.append(helper.make_node(operator, inputs, [f"v{len(nodes)}"], **attributes))
            return nodes[-1].output[0]

        if self.nhwc:
            value = add("Transpose", value, perm=[0, 3, 1, 2])
        value = add("Relu", add("Conv", value, "w1", kernel_shape=[3, 3], pads=[int(self.padded)] * 4))
        value = add("Conv", value, "w2", "b2", kernel_shape=[1, 1])
        if self.sigmoid:
            value = add("Sigmoid", value)
        if self.rank3:
            axes = {"axes": [1]} if self.opset < 13 else {}
            value = add("Squeeze", value, *([] if axes else ["one"]), **axes)
            weights["one"] = np.array([1])
        elif self.nhwc:
            value = add("Transpose", value, perm=[0, 2, 3, 1])
        # the names are those of the fused graph, which must not meet
        nodes.append(helper.make_node("Identity", [value], ["classes"]))
        other = [helper.make_node("Neg", [value], ["finite"])] if self.second else []
        shape = ["n", self.bands, self.side, self.side]
        if self.nhwc:
            shape = [shape[0], *shape[2:], shape[1]]
        said = ["n", *((["h", "w", self.channels]) if self.nhwc else [self.channels, "h", "w"])]
        if self.rank3:
            said = ["n", "h", "w"]
        outputs = ["finite", "classes"] if self.second else ["classes"]
        tensors = [
            numpy_helper.from_array(value.astype(np.int64 if name == "one" else kind), name)
            for name, value in weights.items()
        ]
        graph = helper.make_graph(
            nodes + other,
            "tiny",
            [helper.make_tensor_value_info("x", image, shape)],
            [helper.make_tensor_value_info(name, image, said) for name in outputs],
            tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def card(self, values, activation, **more) -> Card:
        classes = [{"name": f"class {value}", "value": value} for value in values]
        said = {
            "name": "tiny",
            "bands": [f"b{band}" for band in range(self.bands)],
            "scaling": "none",
            "layout": "NHWC" if self.nhwc else "NCHW",
            "says": "probabilities" if self.sigmoid else "logits",
            "activation": activation,
            "classes": classes,
            "output": "classes" if self.second else None,
        }
        return Card.of(said | more, "the test")


@st.composite
def networks(draw):
    activation = draw(st.sampled_from(["softmax", "sigmoid"]))
    channels = draw(st.integers(2, 4) if activation == "softmax" else st.integers(1, 3))
    network = Network(
        bands=draw(st.integers(1, 4)),
        channels=channels,
        nhwc=draw(st.booleans()),
        padded=draw(st.booleans()),
        rank3=channels == 1 and draw(st.booleans()),
        half=draw(st.integers(0, 5)) == 0,
        sigmoid=draw(st.booleans()),
        second=draw(st.booleans()),
        opset=draw(st.sampled_from([10, 11, 12, 13, 17, 18, 21])),
        seed=draw(st.integers(0, 999)),
    )
    classes = channels + (activation == "sigmoid")
    highest = draw(st.sampled_from([252, 252, 65532]))  # bytes, or 16 bits
    values = draw(st.lists(st.integers(0, highest), min_size=classes, max_size=classes, unique=True))
    more = {
        "exclusive": draw(st.booleans()),
        "fill": draw(st.sampled_from([0.0, -2.5])),
        "threshold": draw(st.sampled_from([0.5, 0.3, 0.9])),
    }
    return network, network.card(values, activation, **more)


@st.composite
def recipes(draw, stitch=Stitch.EXACT):
    margin = draw(st.integers(1, 4))
    return Recipe(
        window=2 * margin + draw(st.integers(1, 20)),
        margin=margin,
        batch=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"])),
        stitch=stitch,
        confidence=draw(st.booleans()),
        probabilities=draw(st.booleans()),
    )


def drawn_windows(recipe, bands, seed):
    """Raw pixels of the recipe's dtype, validity, shift and factor."""
    random = np.random.default_rng(seed)
    shape = (recipe.batch, bands, recipe.window, recipe.window)
    kind = np.dtype(recipe.dtype)
    if kind.kind == "f":
        pixels = (random.normal(size=shape) * 300).astype(kind)
    else:
        info = np.iinfo(kind)
        pixels = random.integers(info.min, info.max, size=shape, dtype=kind, endpoint=True)
    valid = random.random((recipe.batch, recipe.window, recipe.window)) < 0.9
    spread = pixels.std(axis=(0, 2, 3)).astype(np.float32) + 1
    return pixels, valid, pixels.mean(axis=(0, 2, 3)).astype(np.float32), 1 / spread


def bare(model, name, image):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([name], {session.get_inputs()[0].name: image})[0]


def said_by_parts(network, card, windows):
    """What the network says of scaled windows, (n, C, rows, cols) float32, by numpy and the bare network."""
    pixels, valid, shift, factor = windows
    scaled = (pixels.astype(np.float32) - shift[:, None, None]) * factor[:, None, None]
    scaled = np.where(valid[:, None], scaled, np.float32(card.fill))
    if network.nhwc:
        scaled = scaled.transpose(0, 2, 3, 1)
    said = bare(network.model(), "classes", scaled.astype(np.float16 if network.half else np.float32))
    if network.rank3:
        said = said[:, None]
    elif network.nhwc:
        said = said.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(said, np.float32)


def probabilities_of(said, card):
    if card.says == "probabilities":
        return said
    wide = said.astype(np.float64)
    if card.activation == "sigmoid":
        return 1 / (1 + np.exp(-wide))
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def clearness(part, card):
    """How far the largest probability is from the next or from the threshold, (n, rows, cols).

    Where each channel has a band of its own, how far the one nearest to the threshold is from it.
    """
    if card.layered:
        return np.abs(part - cut(card, "probabilities")).min(axis=1)
    least = np.full_like(part[:, :1], cut(card, "probabilities") or 0)
    ranked = np.sort(np.concatenate([part, least], axis=1), axis=1)
    return ranked[:, -1] - ranked[:, -2]


def in_steps(part):
    return np.clip(part, 0, 1) * 250


def engine_of(model, card, recipe) -> Engine:
    """The fused graph, started on the CPU."""
    return Engine(fuse(model, card, recipe, field_of(model, card.output, card.layout)), "cpu")
