"""Arithmetic on shapes: what exporters write around Resize, Reshape and Pad, worked out with numpy.

Only the operators below are computed, only on small arrays: a stranger's graph cannot make us compute anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from pipeline.network.graph import SMALL, Known, Node

Array = NDArray[Any]
Fold = Callable[[Node, Sequence[Array]], Array]

LARGEST = 1 << 20  # elements that broadcasting small operands against each other may make

CASTS: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.FLOAT16: np.float16,
}


def folded(node: Node, operands: Sequence[Known | None]) -> Known:
    """Work out a node none of whose operands depends on the image's pixels.

    Where the values are not small, not known or not of an operator that is folded, only the shape is told, or nothing.
    """
    if node.op == "Constant":
        return _constant(node)
    arrays = [item.values for item in operands if item is not None and item.values is not None]
    modest = math.prod(sorted(item.size for item in arrays)[-2:]) <= LARGEST
    if len(arrays) == len(operands) and modest and node.op in FOLDS and node.domain in {"", "ai.onnx"}:
        try:
            with np.errstate(all="ignore"):
                return Known.of(np.asarray(FOLDS[node.op](node, arrays)))
        except (ValueError, IndexError, TypeError, KeyError, OverflowError, ZeroDivisionError, MemoryError):
            return Known(None)  # as good as unknown: whoever needs the value will say so
    return Known(_shape(node, operands))


def _constant(node: Node) -> Known:
    for name in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        value = node.attributes.get(name)
        if isinstance(value, Known):
            return value
        if value is not None:
            return Known.of(np.asarray(value, np.float32 if "float" in name else np.int64))
    return Known(None)


def _shape(node: Node, operands: Sequence[Known | None]) -> tuple[int, ...] | None:
    """Tell the shape of weights that are computed: cast, dequantised, scaled or transposed."""
    shapes = [item.shape for item in operands if item is not None]
    if not shapes or shapes[0] is None:
        return None
    if node.op in {"Cast", "DequantizeLinear", "QuantizeLinear", "Identity", "Neg", "Abs", "Sqrt", "Clip"}:
        return shapes[0]
    if node.op == "Transpose":
        perm = node.numbers("perm") or list(reversed(range(len(shapes[0]))))
        return tuple(shapes[0][axis] for axis in perm) if sorted(perm) == list(range(len(shapes[0]))) else None
    if node.op in {"Add", "Sub", "Mul", "Div"} and shapes[1] is not None:
        try:
            return np.broadcast_shapes(shapes[0], shapes[1])
        except ValueError:
            return None
    return None


def axes_of(node: Node, operands: Sequence[Array]) -> list[int] | None:
    """Get the axes that old opsets give as an attribute and new ones as the second input."""
    if len(operands) > 1:
        return [int(axis) for axis in operands[1].ravel()]
    return node.numbers("axes")


def _room(sides: Sequence[int]) -> tuple[int, ...]:
    """Refuse to make arrays that no shape arithmetic needs."""
    if math.prod(int(side) for side in sides) > SMALL:
        raise MemoryError
    return tuple(int(side) for side in sides)


def _div(_: Node, operands: Sequence[Array]) -> Array:
    above, below = operands
    if np.issubdtype(above.dtype, np.integer):
        quotient = np.abs(above) // np.abs(below)  # towards zero, as ONNX has it
        return np.asarray(quotient * np.sign(above) * np.sign(below), above.dtype)
    return np.asarray(above / below)


def _unsqueeze(node: Node, operands: Sequence[Array]) -> Array:
    return np.expand_dims(operands[0], tuple(axes_of(node, operands) or ()))


def _squeeze(node: Node, operands: Sequence[Array]) -> Array:
    axes = axes_of(node, operands)
    return np.squeeze(operands[0], None if axes is None else tuple(axes))


def _slice(node: Node, operands: Sequence[Array]) -> Array:
    if len(operands) < 3:
        numbers = [node.numbers("starts"), node.numbers("ends"), node.numbers("axes"), None]
    else:
        numbers = [[int(item) for item in operands[i].ravel()] if i < len(operands) else None for i in (1, 2, 3, 4)]
    starts, ends, axes, steps = numbers
    made = operands[0]
    for place, (start, end) in enumerate(zip(starts or [], ends or [], strict=True)):
        axis = axes[place] if axes else place
        cut = [slice(None)] * made.ndim
        step = steps[place] if steps else 1
        backwards_to_start = step < 0 and end < -made.shape[axis]
        cut[axis] = slice(start, None if backwards_to_start else end, step)
        made = made[tuple(cut)]
    return made


def _filled(node: Node, operands: Sequence[Array]) -> Array:
    value = node.attributes.get("value")
    fill = value.values.ravel()[0] if isinstance(value, Known) and value.values is not None else np.float32(0)
    return np.full(_room(operands[0].ravel().tolist()), fill)


def _range(_: Node, operands: Sequence[Array]) -> Array:
    start, stop, step = (item.ravel()[0] for item in operands)
    _room([max(0, math.ceil((float(stop) - float(start)) / float(step)))])
    return np.arange(start, stop, step)


def _reshaped(_: Node, operands: Sequence[Array]) -> Array:
    target = [int(side) for side in operands[1]]
    return operands[0].reshape([operands[0].shape[i] if side == 0 else side for i, side in enumerate(target)])


def _expanded(_: Node, operands: Sequence[Array]) -> Array:
    return np.broadcast_to(operands[0], _room(np.broadcast_shapes(operands[0].shape, tuple(operands[1].tolist()))))


def _reduced(node: Node, operands: Sequence[Array]) -> Array:
    axes = axes_of(node, operands)
    reduce = {"ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceSum": np.sum}[node.op]
    keep = bool(node.number("keepdims", 1))
    return np.asarray(reduce(operands[0], axis=None if axes is None else tuple(axes), keepdims=keep))  # type: ignore[operator]


FOLDS: dict[str, Fold] = {
    "Identity": lambda _, x: x[0],
    "Cast": lambda node, x: x[0].astype(CASTS[node.number("to", TensorProto.INT64)]),
    "Gather": lambda node, x: np.take(x[0], x[1].astype(np.int64), axis=node.number("axis", 0)),
    "Concat": lambda node, x: np.concatenate(list(x), axis=node.number("axis", 0)),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "Reshape": _reshaped,
    "Expand": _expanded,
    "Transpose": lambda node, x: np.transpose(x[0], node.numbers("perm")),
    "ConstantOfShape": _filled,
    "Range": _range,
    "Shape": lambda _, x: np.asarray(x[0].shape, np.int64),
    "Size": lambda _, x: np.asarray(x[0].size, np.int64),
    "Add": lambda _, x: x[0] + x[1],
    "Sub": lambda _, x: x[0] - x[1],
    "Mul": lambda _, x: x[0] * x[1],
    "Div": _div,
    "Mod": lambda node, x: (np.fmod if node.number("fmod", 0) else np.mod)(x[0], x[1]),
    "Neg": lambda _, x: -x[0],
    "Abs": lambda _, x: np.abs(x[0]),
    "Floor": lambda _, x: np.floor(x[0]),
    "Ceil": lambda _, x: np.ceil(x[0]),
    "Round": lambda _, x: np.rint(x[0]),
    "Sqrt": lambda _, x: np.sqrt(x[0]),
    "Min": lambda _, x: np.minimum.reduce(list(x)),
    "Max": lambda _, x: np.maximum.reduce(list(x)),
    "Equal": lambda _, x: x[0] == x[1],
    "Less": lambda _, x: x[0] < x[1],
    "Greater": lambda _, x: x[0] > x[1],
    "Not": lambda _, x: ~x[0],
    "And": lambda _, x: x[0] & x[1],
    "Or": lambda _, x: x[0] | x[1],
    "Where": lambda _, x: np.where(x[0], x[1], x[2]),
    "ReduceProd": _reduced,
    "ReduceSum": _reduced,
    "ReduceMax": _reduced,
    "ReduceMin": _reduced,
}
