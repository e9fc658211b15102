"""Arithmetic on shapes, held against ONNX's reference implementation."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from pipeline.network.folding import FOLDS, folded
from pipeline.network.graph import SMALL, Known, Node

SHAPE = np.array([2, 3, 64, 96], np.int64)
OTHER = np.array([1, 3, 7, 5], np.int64)


def whole(*numbers):
    return np.array(numbers, np.int64)


CASES = [
    ("Identity", [SHAPE], {}),
    ("Cast", [SHAPE], {"to": onnx.TensorProto.FLOAT}),
    ("Gather", [SHAPE, np.int64(2)], {"axis": 0}),
    ("Gather", [SHAPE, whole(-1, 0)], {"axis": 0}),
    ("Concat", [SHAPE, OTHER], {"axis": 0}),
    ("Unsqueeze", [SHAPE, whole(0)], {}),
    ("Squeeze", [SHAPE[None], whole(0)], {}),
    ("Squeeze", [SHAPE[None]], {}),
    ("Slice", [SHAPE, whole(1), whole(3)], {}),
    ("Slice", [SHAPE, whole(-1), whole(-(1 << 60)), whole(0), whole(-1)], {}),
    ("Slice", [np.outer(SHAPE, OTHER), whole(1, 0), whole(4, 1 << 60), whole(0, 1), whole(2, 3)], {}),
    ("Reshape", [np.outer(SHAPE, OTHER), whole(0, 2, -1)], {}),
    ("Expand", [SHAPE, whole(2, 4)], {}),
    ("Transpose", [np.outer(SHAPE, OTHER)], {"perm": [1, 0]}),
    ("Range", [np.int64(2), np.int64(9), np.int64(3)], {}),
    ("Shape", [np.outer(SHAPE, OTHER)], {}),
    ("Size", [SHAPE], {}),
    *[(op, [SHAPE, OTHER], {}) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Less", "Greater")],
    ("Div", [-SHAPE, OTHER], {}),
    ("Div", [SHAPE.astype(np.float32), np.float32(7)], {}),
    *[(op, [SHAPE.astype(np.float32) / 7], {}) for op in ("Floor", "Ceil", "Round", "Sqrt", "Neg", "Abs")],
    ("Not", [SHAPE > 3], {}),
    ("And", [SHAPE > 3, OTHER > 3], {}),
    ("Or", [SHAPE > 3, OTHER > 3], {}),
    ("Where", [SHAPE > 3, SHAPE, OTHER], {}),
    ("ReduceProd", [SHAPE], {"keepdims": 0}),
    ("ReduceSum", [np.outer(SHAPE, OTHER), whole(1)], {"keepdims": 1}),
    ("ReduceMax", [SHAPE], {}),
    ("ReduceMin", [SHAPE], {}),
]


def node(op, count, **attributes):
    return Node(0, op, "", op, tuple(f"x{i}" for i in range(count)), ("y",), attributes)


@pytest.mark.parametrize(("op", "arrays", "attributes"), CASES, ids=[case[0] for case in CASES])
def test_a_fold_is_what_the_reference_makes(op, arrays, attributes):
    made = folded(node(op, len(arrays), **attributes), [Known.of(np.asarray(item)) for item in arrays])
    proto = helper.make_node(op, [f"x{i}" for i in range(len(arrays))], ["y"], **attributes)
    expected = ReferenceEvaluator(proto).run(None, {f"x{i}": item for i, item in enumerate(arrays)})[0]
    assert np.array_equal(made.values, expected)
    assert made.values.dtype == np.asarray(expected).dtype
    assert made.shape == np.shape(expected)


def test_every_fold_is_tried():
    assert set(FOLDS) - {case[0] for case in CASES} == {"ConstantOfShape"}


def test_a_filled_tensor_takes_its_value_from_the_node():
    fill = Known.of(np.array([7], np.int64))
    made = folded(node("ConstantOfShape", 1, value=fill), [Known.of(whole(3))])
    assert made.values.tolist() == [7, 7, 7]
    assert folded(node("ConstantOfShape", 1), [Known.of(whole(2))]).values.dtype == np.float32


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        ("ConstantOfShape", [whole(1 << 40)]),
        ("Expand", [whole(1), whole(1 << 20, 1 << 20)]),
        ("Range", [np.int64(0), np.int64(1 << 60), np.int64(1)]),
        ("Add", [np.zeros((SMALL, 1)), np.zeros((1, SMALL))]),
        ("Reshape", [SHAPE, whole(3, 3)]),
        ("Gather", [SHAPE, whole(9)]),
        ("Div", [np.float32(1), "nonsense"]),
    ],
)
def test_what_is_too_large_or_impossible_is_not_known(op, arrays):
    made = folded(node(op, len(arrays)), [Known.of(np.asarray(item)) for item in arrays])
    assert made.values is None


def test_of_weights_only_the_shape_is_told():
    large = Known((64, 32, 3, 3))
    assert folded(node("DequantizeLinear", 2), [large, Known(())]).shape == (64, 32, 3, 3)
    assert folded(node("Transpose", 1, perm=[3, 2, 0, 1]), [large]).shape == (3, 3, 64, 32)
    assert folded(node("Mul", 2), [large, Known((64, 1, 1, 1))]).shape == (64, 32, 3, 3)
    assert folded(node("Einsum", 1), [large]).shape is None
