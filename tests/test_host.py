"""Networks of all makes find a place in the fused graph, or are refused in one sentence."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelError, SettingsError
from pipeline.grid import Stitch
from pipeline.network.field import field_of
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe, precision_of
from pipeline.network.model_file import load_model
from tests.tiny import MODELS, Network, engine_of, needs_models


def refused(network, card, recipe=None, model=None):
    model = model or network.model()
    with pytest.raises(ModelError) as caught:
        fuse(model, card, recipe or Recipe(16, 4, 1, "uint8"), field_of(model, card.output, card.layout))
    return caught.value.message


def test_what_does_not_fit_is_one_sentence():
    network = Network()
    assert "eats 3 channels, and the card has 4 bands" in refused(network, Network(bands=4).card([0, 1, 2], "softmax"))
    assert "has 3 channels; a card of 2 classes" in refused(network, network.card([0, 1], "softmax"))
    assert "needs 1" in refused(network, network.card([0, 1], "sigmoid"))
    assert "has no output `mask`" in refused_output(network, "mask")
    assert "2 outputs, finite, classes" in refused_output(Network(second=True), None)
    valid = Network(padded=False)
    assert "take a margin of at least 1" in refused(valid, valid.card([0, 1, 2], "softmax"), Recipe(16, 0, 1, "uint8"))
    blend = Recipe(16, 4, 1, "uint8", Stitch.BLEND)
    with pytest.raises(ModelError, match="14 × 14 pixels of a window of 16, where it was to say 16 × 16"):
        fuse(valid.model(), valid.card([0, 1, 2], "softmax"), blend, replace(field_of(valid.model()), offset=0))


def refused_output(network, output):
    model = network.model()
    card = network.card([0, 1, 2], "softmax", output=output)
    with pytest.raises(ModelError) as caught:
        fuse(model, card, Recipe(16, 4, 1, "uint8"), field_of(model))
    return caught.value.message


def test_an_answer_in_classes_or_at_another_scale_is_refused():
    network = Network()
    model = network.model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.node[-1].CopyFrom(helper.make_node("Cast", [model.graph.node[-1].input[0]], ["classes"], to=7))
    assert "holds int64" in refused(network, network.card([0, 1, 2], "softmax"), model=model)
    model = network.model()
    field = replace(field_of(model), scale=Fraction(2))
    with pytest.raises(ModelError, match="one pixel for 2 of its input"):
        fuse(model, network.card([0, 1, 2], "softmax"), Recipe(16, 4, 1, "uint8"), field)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"window": 8, "margin": 4}, "has no core"),
        ({"margin": -1}, "has no core"),
        ({"batch": 0}, "at least 1"),
        ({"dtype": "complex64"}, "cannot enter"),
    ],
)
def test_recipes_have_laws(said, words):
    with pytest.raises(SettingsError, match=words):
        Recipe(**({"window": 16, "margin": 4, "batch": 1, "dtype": "uint8"} | said))


def test_precision_names_the_weights():
    assert precision_of(Network().model()) == "fp32"
    assert precision_of(Network(half=True).model()) == "fp16"
    half = Network(half=True).model()
    half.graph.initializer.append(numpy_helper.from_array(np.ones((2, 2), np.float32), "more"))
    assert precision_of(half) == "fp16+fp32"


def doubling(nodes, opset=17, ir=8, constants=(), inputs=(), functions=()):
    """A network of one band and channel, made of the nodes given, that says twice what it eats."""
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", [port[0], *inputs], [port[1]], list(constants))
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("own", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=list(functions))


def branching():
    """Its branches read the image from outside; the shape of what they say is not to be inferred."""
    yes = numpy_helper.from_array(np.array(True), "yes")
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["x", "x"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Add"), ("otherwise", "Mul"))
    ]
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1])
    return doubling([node], constants=[yes])


def branching_over_a_constant():
    """Its branches read the image and a weight from outside."""
    yes = numpy_helper.from_array(np.array(True), "yes")
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", ["x", "two"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("then", "otherwise")
    ]
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1])
    return doubling([node], constants=[yes, two])


def with_a_function():
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    function = helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    return doubling([helper.make_node("Twice", ["x"], ["y"], domain="own")], functions=[function])


def from_before_constants_were_constants(opset):
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1), 2, np.float32), "w")
    port = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 1, 1, 1])
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])
    return doubling([node], opset, 3, [weight], [port])


def with_our_names():
    nodes = [helper.make_node("Add", ["x", "x"], ["maskmill/pixels"])]
    return doubling([*nodes, helper.make_node("Identity", ["maskmill/pixels"], ["y"])])


@pytest.mark.parametrize(
    "model",
    [
        branching(),
        branching_over_a_constant(),
        with_a_function(),
        with_our_names(),
        *map(from_before_constants_were_constants, (7, 8, 9)),
    ],
)
def test_networks_of_all_makes_fit_in(model):
    before = model.SerializeToString()
    card = Network(bands=1, channels=1).card([0, 1], "sigmoid")
    recipe = Recipe(16, 2, 1, "uint8", Stitch.BLEND)
    pixels = np.random.default_rng(0).integers(0, 9, (1, 1, 16, 16), np.uint8)
    one = np.ones(1, np.float32)
    got = engine_of(model, card, recipe).run(pixels, np.ones((1, 16, 16), bool), 0 * one, one)
    np.testing.assert_allclose(got["probabilities"], 1 / (1 + np.exp(-2.0 * pixels)), atol=1e-6)
    assert model.SerializeToString() == before


@needs_models
def test_a_vector_is_no_mask():
    model = load_model(MODELS / "deepness" / "dummy_recognition_model.onnx")
    card = Network().card([0, 1], "sigmoid")
    with pytest.raises(ModelError, match=r"axes|dimensions|vector|mask"):
        fuse(model, card, Recipe(224, 16, 1, "uint8"), field_of(model))
