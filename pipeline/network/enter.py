"""The fused graph's first part: raw pixels become what the network eats."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from pipeline.errors import ModelError
from pipeline.network.card import Card
from pipeline.network.host import Host, Recipe
from pipeline.network.nodes import BOOL, FLOAT, Nodes, Ports
from pipeline.network.scaling import Unscaled, WindowStatistics

_LEAST = np.float32(np.finfo(np.float32).min)


def enter(nodes: Nodes, network: Host, card: Card, recipe: Recipe) -> Ports:
    """Raw pixels to what the network eats; returns the graph's inputs."""
    value = nodes.prefix + "pixels"
    if recipe.dtype != "float32":
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    value = nodes.add("Mul", nodes.add("Sub", value, nodes.prefix + "shift"), nodes.prefix + "factor")
    if isinstance(card.scaling, WindowStatistics):
        value = _standardised(nodes, value, card.scaling, len(card.bands))
    if card.clip:
        value = _clipped(nodes, value, *card.clip)
    value = nodes.add("Where", nodes.prefix + "valid", value, nodes.constant(np.float32(card.fill)))
    if network.nhwc:
        value = nodes.add("Transpose", value, perm=[0, 2, 3, 1])
    kind = network.input.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        nodes.add("Cast", _held(nodes, value, kind, card, recipe), to=kind)
    nodes.made[-1].output[0] = network.input.name
    bands, square = len(card.bands), [recipe.window, recipe.window]
    return {
        "pixels": (int(helper.np_dtype_to_tensor_dtype(np.dtype(recipe.dtype))), [recipe.batch, bands, *square]),
        "valid": (BOOL, [recipe.batch, 1, *square]),
        "shift": (FLOAT, [1, bands, 1, 1]),
        "factor": (FLOAT, [1, bands, 1, 1]),
    }


def _standardised(nodes: Nodes, value: str, scaling: WindowStatistics, bands: int) -> str:
    """Zero mean and unit variance over each window's valid pixels, by band or over all bands.

    Numbers are taken from the largest one: sums stay small, and a window of one value comes to 0 without rounding.
    """
    valid, nought = nodes.prefix + "valid", nodes.constant(np.float32(0))
    axes = [1, 2, 3] if scaling.joint else [2, 3]
    pixels = nodes.over("ReduceSum", nodes.add("Cast", valid, to=TensorProto.FLOAT), [2, 3], keepdims=1)
    if scaling.joint:
        pixels = nodes.add("Mul", pixels, nodes.constant(np.float32(bands)))
    pixels = nodes.add("Max", pixels, nodes.constant(np.float32(1)))

    def mean_of(part: str) -> str:
        return nodes.add("Div", nodes.over("ReduceSum", part, axes, keepdims=1), pixels)

    largest = nodes.add("GlobalMaxPool", nodes.add("Where", valid, value, nodes.constant(_LEAST)))
    if scaling.joint:
        largest = nodes.sliced(largest, [0], [1], [1])
    below = nodes.add("Where", valid, nodes.add("Sub", value, largest), nought)
    off = nodes.add("Where", valid, nodes.add("Sub", below, mean_of(below)), nought)
    deviation = nodes.add("Sqrt", mean_of(nodes.add("Mul", off, off)))
    if scaling.eps:
        divisor = nodes.add("Add", deviation, nodes.constant(np.float32(scaling.eps)))
    else:
        divisor = nodes.add("Where", nodes.add("Greater", deviation, nought), deviation, nodes.constant(np.float32(1)))
    return nodes.add("Div", off, divisor)


def _clipped(nodes: Nodes, value: str, low: float, high: float) -> str:
    """Clip, in a form that all operator sets know."""
    value = nodes.add("Max", value, nodes.constant(np.float32(low)))
    return nodes.add("Min", value, nodes.constant(np.float32(high)))


def _held(nodes: Nodes, value: str, kind: int, card: Card, recipe: Recipe) -> str:
    """Make scaled values such as a network of integers holds: rounded, and at most its type's limits.

    Raises ModelError where raw pixels are to go in as they are and the network's type does not hold them.
    """
    into = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    if into.kind not in "iu":
        return value
    raw = np.dtype(recipe.dtype)
    plain = isinstance(card.scaling, Unscaled) and set(card.gain) == {1.0} and set(card.offset) == {0.0}
    if plain and np.can_cast(raw, into):
        return value
    if plain and not card.clip:
        raise ModelError(
            f"The network eats {into.name}, and the pixels are {raw.name}: say in the card how they come to "
            f"{into.name}, such as scaling: {{kind: constant, divide_by: 257}}, or clip: [0, 255] where they fit."
        )
    limits = np.iinfo(into)
    most = float(limits.max) if into.itemsize < 3 else float(np.nextafter(np.float32(limits.max), np.float32(0)))
    return _clipped(nodes, nodes.add("Round", value), float(limits.min), most)
