"""The digest: blind to all that only describes, and to nothing that decides."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.network.digest import model_digest
from tests.cards import network

MODEL = network(3, 2, rank=4, last="Softmax")


def _changed(change):
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    change(model)
    return model


def _describe(model):
    model.producer_name, model.producer_version, model.domain = "someone", "9", "org.example"
    model.model_version, model.doc_string, model.ir_version = 7, "words", 9
    model.metadata_props.add(key="mlm", value="{}")
    model.graph.name, model.graph.doc_string = "other", "words"
    model.graph.input[0].doc_string = "words"
    model.graph.initializer[0].doc_string = "words"
    for node in model.graph.node:
        node.name, node.doc_string = "other", "words"
        node.metadata_props.add(key="a", value="b")
    model.graph.value_info.add(name="t0")


def _weights_as_numbers(model):
    tensor = model.graph.initializer[0]
    numbers = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(numbers)


def _swap_attributes(model):
    node = model.graph.node[0]
    kept = list(node.attribute)
    del node.attribute[:]
    node.attribute.extend(reversed(kept))


@pytest.mark.parametrize("change", [_describe, _weights_as_numbers, _swap_attributes])
def test_what_describes_changes_nothing(change):
    assert model_digest(_changed(change)) == model_digest(MODEL)


def _set(model, *, path, value):
    target = model
    *steps, last = path
    for step in steps:
        target = target[step] if isinstance(step, int) else getattr(target, step)
    if isinstance(last, int):
        target[last] = value
    else:
        setattr(target, last, value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("graph", "node", 1, "op_type"), "LogSoftmax"),
        (("graph", "node", 1, "domain"), "org.example"),
        (("graph", "node", 0, "input", 0), "other"),
        (("graph", "node", 1, "attribute", 0, "i"), 2),
        (("graph", "initializer", 0, "name"), "other"),
        (("graph", "output", 0, "name"), "other"),
        (("graph", "input", 0, "type", "tensor_type", "elem_type"), TensorProto.FLOAT16),
        (("opset_import", 0, "version"), 18),
    ],
)
def test_what_decides_changes_it(path, value):
    model = _changed(lambda model: _set(model, path=path, value=value))
    assert model_digest(model) != model_digest(MODEL)


@settings(max_examples=50)
@given(st.integers(0, 5), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_each_weight_counts(place, value):
    weights = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3, 1, 1)
    same = model_digest(network(3, 2, weights=weights.copy()))
    weights.ravel()[place] += np.float32(value)
    differs = not np.array_equal(weights, np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3, 1, 1))
    assert (model_digest(network(3, 2, weights=weights)) != same) is differs


def test_the_order_of_nodes_and_inputs_counts_that_of_weights_does_not():
    first, second = (numpy_helper.from_array(np.full(3, n, np.float32), name) for n, name in ((1, "a"), (2, "b")))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]

    def subtraction(inputs, weights):
        graph = helper.make_graph([helper.make_node("Sub", inputs, ["y"])], "g", ports[:1], ports[1:], weights)
        return model_digest(helper.make_model(graph))

    assert subtraction(["x", "a"], [first, second]) == subtraction(["x", "a"], [second, first])
    assert subtraction(["x", "a"], [first, second]) != subtraction(["a", "x"], [first, second])


def test_subgraphs_functions_sparse_and_text_count():
    def model(constant=1.0, sparse=1.0, text=b"a", body="Relu"):
        held = numpy_helper.from_array(np.float32([constant]), "held")
        values = numpy_helper.from_array(np.float32([sparse]), "sparse")
        indices = numpy_helper.from_array(np.int64([2]), "indices")
        branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=held)], "branch", [], [])
        graph = helper.make_graph(
            [helper.make_node("If", ["x"], ["y"], then_branch=branch)],
            "g",
            [],
            [],
            [helper.make_tensor("words", TensorProto.STRING, [1], [text])],
            sparse_initializer=[helper.make_sparse_tensor(values, indices, [5])],
        )
        function = helper.make_function(
            "own", "twice", ["a"], ["b"], [helper.make_node(body, ["a"], ["b"])], [helper.make_opsetid("", 17)]
        )
        return model_digest(helper.make_model(graph, functions=[function]))

    variants = [model(), model(constant=2.0), model(sparse=2.0), model(text=b"b"), model(body="Sigmoid")]
    assert len(set(variants)) == len(variants)
    assert model() == variants[0]
