"""Raw pixels become what the network eats, by nodes: held against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pipeline.errors import ModelError
from pipeline.grid import Stitch
from pipeline.network.engine import Engine
from pipeline.network.field import field_of
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe
from tests.tiny import Network, drawn_windows, engine_of


def eats(kind: int = TensorProto.FLOAT, bands: int = 3, opset: int = 17) -> onnx.ModelProto:
    """Draw a network that says what it eats, as float32."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        "eats",
        [helper.make_tensor_value_info("x", kind, ["n", bands, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", bands, "h", "w"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def entered(card, recipe, windows, model=None) -> np.ndarray:
    """What the network is given, (n, band, row, col): the answer of one that repeats it, taken as probabilities."""
    model = model or eats(bands=len(card.bands))
    engine = Engine(fuse(model, card, recipe, field_of(model)), "cpu")
    return engine.run(*windows)["probabilities"]


def card_of(bands: int = 3, **more):
    network = Network(bands=bands, channels=bands)
    return network.card(list(range(bands)), "softmax", **{"says": "probabilities", **more})


def standardised(pixels, valid, card) -> np.ndarray:
    """Zero mean and unit variance of each window's valid pixels, in float64."""
    physical = pixels.astype(np.float64) * np.array(card.gain)[:, None, None] + np.array(card.offset)[:, None, None]
    made = np.full(physical.shape, card.fill)
    for out, window, inside in zip(made, physical, valid, strict=True):
        values = window[:, inside]
        if card.scaling.joint:
            mean, deviation = np.full(len(window), values.mean()), np.full(len(window), values.std())
        else:
            mean, deviation = values.mean(axis=1), values.std(axis=1)
        divisor = deviation + card.scaling.eps
        divisor[divisor == 0] = 1
        scaled = (values - mean[:, None]) / divisor[:, None]
        out[:, inside] = np.clip(scaled, *card.clip) if card.clip else scaled
    return made


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_each_window_has_a_mean_and_a_deviation_of_its_own(data):
    joint, eps = data.draw(st.booleans()), data.draw(st.sampled_from([0.0, 1e-6, 0.5]))
    gain = data.draw(st.sampled_from([[1.0] * 3, [0.5] * 3] + ([] if joint else [[2.0, 0.1, -1.0]])))
    clip = data.draw(st.sampled_from([None, [-1.0, 2.0]]))
    card = card_of(scaling={"kind": "window", "joint": joint, "eps": eps}, gain=gain, offset=7, clip=clip, fill=-9.0)
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    recipe = Recipe(data.draw(st.integers(2, 40)), 0, 2, dtype, Stitch.BLEND)
    pixels, valid, *_ = drawn_windows(recipe, 3, data.draw(st.integers(0, 99)))
    valid[:, 0, :2] = [False, True]
    model = eats(opset=data.draw(st.sampled_from([10, 12, 13, 17, 21])))
    found = entered(card, recipe, (pixels, valid, *card.affine(None)), model)
    np.testing.assert_allclose(found, standardised(pixels, valid, card), atol=2e-4)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("value", [0, 255, 51])
def test_a_window_of_one_value_comes_to_nothing(joint, value):
    card = card_of(scaling={"kind": "window", "joint": joint}, gain=1 / 255, offset=0.1)
    recipe = Recipe(256, 0, 1, "uint8", Stitch.BLEND)
    pixels = np.full((1, 3, 256, 256), value, np.uint8)
    valid = np.ones((1, 256, 256), bool)
    valid[:, 0, 0], pixels[:, :, 0, 0] = False, 9
    assert not entered(card, recipe, (pixels, valid, *card.affine(None))).any()


@pytest.mark.parametrize("opset", [10, 13, 18])
def test_what_is_scaled_is_clipped_and_then_filled(opset):
    card = card_of(scaling={"kind": "constant", "divide_by": 100}, clip=[0.5, 2], fill=-3)
    recipe = Recipe(16, 0, 2, "uint16", Stitch.BLEND)
    pixels, valid, *_ = drawn_windows(recipe, 3, 1)
    pixels = pixels % 300
    expected = np.where(valid[:, None], np.clip(pixels * np.float32(0.01), 0.5, 2), np.float32(-3))
    found = entered(card, recipe, (pixels, valid, *card.affine(None)), eats(opset=opset))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_constant_scaling_of_bytes_takes_four_nodes():
    network = Network()
    card = network.card([0, 1, 2], "softmax", scaling={"kind": "constant", "divide_by": 255})
    fused = onnx.load_from_string(fuse(network.model(), card, Recipe(16, 4, 1, "uint8"), field_of(network.model())))
    assert [node.op_type for node in fused.graph.node][:5] == ["Cast", "Sub", "Mul", "Where", "Conv"]


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT32])
def test_a_network_of_integers_is_given_the_pixels_themselves(kind):
    recipe = Recipe(16, 0, 2, "uint8", Stitch.BLEND)
    pixels, valid, *_ = drawn_windows(recipe, 3, 1)
    card = card_of(scaling="none", fill=3)
    found = entered(card, recipe, (pixels, valid, *card.affine(None)), eats(kind))
    np.testing.assert_array_equal(found, np.where(valid[:, None], pixels, 3))


def test_numbers_for_a_network_of_bytes_are_rounded_and_held_within_them():
    recipe = Recipe(16, 0, 2, "uint16", Stitch.BLEND)
    pixels, valid, *_ = drawn_windows(recipe, 3, 1)
    valid[:] = True
    card = card_of(scaling={"kind": "constant", "divide_by": 100})
    found = entered(card, recipe, (pixels, valid, *card.affine(None)), eats(TensorProto.UINT8))
    np.testing.assert_array_equal(found, np.clip(np.round(pixels * card.affine(None)[1][:, None, None]), 0, 255))
    plain = card_of(scaling="none")
    with pytest.raises(ModelError, match="eats uint8, and the pixels are uint16"):
        entered(plain, recipe, (pixels, valid, *plain.affine(None)), eats(TensorProto.UINT8))


def test_a_network_of_bytes_that_scales_inside_says_what_it_says_alone():
    inner = Network(bands=3)
    model = inner.model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["scaled"], to=TensorProto.FLOAT))
    recipe = Recipe(24, 4, 1, "uint8", probabilities=True)
    card = inner.card([0, 1, 2], "softmax")
    windows = drawn_windows(recipe, 3, 5)
    windows = (*windows[:2], *card.affine(None))
    ours = engine_of(model, card, recipe).run(*windows)
    theirs = engine_of(inner.model(), card, replace(recipe)).run(*windows)
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
