"""The fused graph: raw pixels in, classes out; scaling, layout, activation, decision and crop are nodes of it.

    pixels (batch, B, w, w) raw     valid (batch, 1, w, w) bool     shift, factor (1, B, 1, 1) float32
        x = Where(valid, (float(pixels) − shift) × factor, fill)
        → layout and type of the network → the network, relaxed to the window → the card's output
        → the core, as float32 (batch, C, core, core)
    classes (batch, core, core) uint8, values of the card     finite (batch,) bool
    confidence (batch, core, core) uint8, probabilities (batch, C, core, core) uint8, where asked for, in steps of 1/250

For blending the graph ends earlier: probabilities (batch, C, w, w) float32, and finite over the whole window.
All shapes are fixed. The graph's own names carry a prefix that the network does not use; `Engine` takes it off. Nodes
are written in forms that every operator set from 10 on reads alike.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelError
from pipeline.grid import Stitch
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.network.host import Host, Recipe, dims_of, precision_of
from pipeline.network.rule import cut
from pipeline.settings import STEPS

_AXES_ARE_INPUTS = 13  # the operator set since which Squeeze, Unsqueeze and ReduceSum take their axes as an input
_LARGEST = 2**31 - 1  # bytes: protobuf's limit
_FLOAT, _BYTE, _BOOL = int(TensorProto.FLOAT), int(TensorProto.UINT8), int(TensorProto.BOOL)

Ports: TypeAlias = dict[str, tuple[int, list[int]]]
"""Inputs or outputs of the fused graph by name: element type and shape."""


def fuse(model: onnx.ModelProto, card: Card, recipe: Recipe, field: Field) -> bytes:
    """Put the card's work around the network, for windows of one size, and serialise it.

    `field` is the network's, for the card's output. Raises ModelError where network, card and recipe do not fit.
    """
    network = Host.of(model, card, recipe)
    nodes = _Nodes(network.opset, _unused_prefix(network.model))
    inputs = _enter(nodes, network, card, recipe)
    nodes.made.extend(network.model.graph.node)
    if recipe.stitch is Stitch.BLEND:
        network.check_same_size(recipe)
        outputs = _blend_outputs(nodes, _leave(nodes, network, None), card, recipe)
    else:
        start = network.core_starts(recipe, field)
        outputs = _exact_outputs(nodes, _leave(nodes, network, (start, start + recipe.core)), card, recipe)
    return _assembled(network.model, nodes, inputs, outputs)


class _Nodes:
    """Nodes and constants around the network, named apart from the network's own."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset = opset
        self.prefix = prefix
        self.made: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: NDArray[np.generic] | np.generic | list[int]) -> str:
        """Hold a constant; lists are int64. Returns its name."""
        array = np.array(value, np.int64) if isinstance(value, list) else np.asarray(value)
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, into: str | None = None, **attributes: int | list[int]) -> str:
        """Add a node of one output and return the output's name."""
        name = self.prefix + (into or f"{operator}_{len(self.made)}")
        node = helper.make_node(operator, list(inputs), [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.made.append(node)
        return name

    def over(
        self, operator: str, value: str, axes: list[int], into: str | None = None, **attributes: int | list[int]
    ) -> str:
        """Add a node that works over axes, said in the way of the operator set."""
        if self.opset >= _AXES_ARE_INPUTS:
            return self.add(operator, value, self.constant(axes), into=into, **attributes)
        return self.add(operator, value, into=into, axes=axes, **attributes)

    def sliced(self, value: str, starts: list[int], stops: list[int], axes: list[int]) -> str:
        """Cut [start, stop) out of some axes."""
        return self.add("Slice", value, *map(self.constant, (starts, stops, axes)))


def _enter(nodes: _Nodes, network: Host, card: Card, recipe: Recipe) -> Ports:
    """Raw pixels to what the network eats; returns the graph's inputs."""
    value = nodes.prefix + "pixels"
    if recipe.dtype != "float32":
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    value = nodes.add("Mul", nodes.add("Sub", value, nodes.prefix + "shift"), nodes.prefix + "factor")
    value = nodes.add("Where", nodes.prefix + "valid", value, nodes.constant(np.float32(card.fill)))
    if network.nhwc:
        value = nodes.add("Transpose", value, perm=[0, 2, 3, 1])
    kind = network.input.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        value = nodes.add("Cast", value, to=kind)
    nodes.made[-1].output[0] = network.input.name
    bands, square = len(card.bands), [recipe.window, recipe.window]
    return {
        "pixels": (int(helper.np_dtype_to_tensor_dtype(np.dtype(recipe.dtype))), [recipe.batch, bands, *square]),
        "valid": (_BOOL, [recipe.batch, 1, *square]),
        "shift": (_FLOAT, [1, bands, 1, 1]),
        "factor": (_FLOAT, [1, bands, 1, 1]),
    }


def _leave(nodes: _Nodes, network: Host, core: tuple[int, int] | None) -> str:
    """What the network says to float32 (batch, C, row, col), of the core where one is given."""
    value, rank = network.output.name, len(dims_of(network.output))
    if core:
        rows = 1 if network.nhwc or rank == 3 else 2
        value = nodes.sliced(value, [core[0]] * 2, [core[1]] * 2, [rows, rows + 1])
    if rank == 3:
        value = nodes.over("Unsqueeze", value, [1])
    elif network.nhwc:
        value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
    if network.output.type.tensor_type.elem_type != TensorProto.FLOAT:
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    return value


def _exact_outputs(nodes: _Nodes, said: str, card: Card, recipe: Recipe) -> Ports:
    """Classes, finiteness and what else is asked for, of the core; returns the outputs."""
    core = recipe.core
    outputs = _finite(nodes, said, recipe) | {"classes": (_BYTE, [recipe.batch, core, core])}
    best, below = _classes(nodes, said, card)
    if recipe.confidence:
        certain = _confidence(nodes, said, best, below, card)
        nodes.over("Squeeze", _quantised(nodes, certain), [1], into="confidence")
        outputs["confidence"] = _BYTE, [recipe.batch, core, core]
    if recipe.probabilities:
        _quantised(nodes, _probabilities(nodes, said, best, card), into="probabilities")
        outputs["probabilities"] = _BYTE, [recipe.batch, card.channels, core, core]
    return outputs


def _blend_outputs(nodes: _Nodes, said: str, card: Card, recipe: Recipe) -> Ports:
    """Probabilities and finiteness of the whole window; returns the outputs."""
    outputs = _finite(nodes, said, recipe)
    channels = _channels(nodes, said, card)
    best = nodes.add("Max", *channels) if len(channels) > 1 else said
    nodes.add("Identity", _probabilities(nodes, said, best, card), into="probabilities")
    return outputs | {"probabilities": (_FLOAT, [recipe.batch, card.channels, recipe.window, recipe.window])}


def _finite(nodes: _Nodes, said: str, recipe: Recipe) -> Ports:
    """Whether all numbers of a window are finite: 0 times each is 0, or it and the sum are not a number."""
    nought = nodes.over("ReduceSum", nodes.add("Mul", said, nodes.constant(np.float32(0))), [1, 2, 3], keepdims=0)
    nodes.add("Not", nodes.add("IsNaN", nought), into="finite")
    return {"finite": (_BOOL, [recipe.batch])}


def _channels(nodes: _Nodes, said: str, card: Card) -> list[str]:
    if card.channels == 1:
        return [said]
    return [nodes.sliced(said, [channel], [channel + 1], [1]) for channel in range(card.channels)]


def _classes(nodes: _Nodes, said: str, card: Card) -> tuple[str, str | None]:
    """Write `classes`; returns the largest channel's number and, with sigmoid, whether it stays below the threshold.

    A chain of comparisons on single channels: ArgMax takes four times as long on the CPU, and 64 bits a pixel.
    """
    least = cut(card, card.says)
    values = [nodes.constant(np.uint8(value)) for value in card.values[least is not None :]]
    best, *others = _channels(nodes, said, card)
    chosen = values[0]
    for value, channel in zip(values[1:], others, strict=True):
        chosen = nodes.add("Where", nodes.add("Less", best, channel), value, chosen)
        best = nodes.add("Max", best, channel)
    below = None
    if least is not None:
        below = nodes.add("Less", best, nodes.constant(least))
        chosen = nodes.add("Where", below, nodes.constant(np.uint8(card.values[0])), chosen)
    nodes.over("Squeeze", chosen, [1], into="classes")
    return best, below


def _probabilities(nodes: _Nodes, said: str, best: str, card: Card) -> str:
    """From what the network says to probabilities (batch, C, row, col)."""
    if card.says == "probabilities":
        return said
    if card.activation == "sigmoid":
        return nodes.add("Sigmoid", said)
    powers, total = _powers(nodes, said, best)
    return nodes.add("Div", powers, total)


def _powers(nodes: _Nodes, said: str, best: str) -> tuple[str, str]:
    """The softmax's numerators and denominator: ONNX Runtime's Softmax over channels takes five times as long."""
    powers = nodes.add("Exp", nodes.add("Sub", said, best))
    return powers, nodes.over("ReduceSum", powers, [1], keepdims=1)


def _confidence(nodes: _Nodes, said: str, best: str, below: str | None, card: Card) -> str:
    """The probability of the chosen class, (batch, 1, row, col)."""
    certain = best
    if card.says == "logits" and below is None:
        certain = nodes.add("Reciprocal", _powers(nodes, said, best)[1])
    elif card.says == "logits":
        certain = nodes.add("Sigmoid", best)
    if below is None:
        return certain
    return nodes.add("Where", below, nodes.add("Sub", nodes.constant(np.float32(1)), certain), certain)


def _quantised(nodes: _Nodes, part: str, into: str | None = None) -> str:
    """Parts of 1 to uint8 steps, as `rule.quantised`."""
    part = nodes.add("Max", part, nodes.constant(np.float32(0)))
    part = nodes.add("Min", part, nodes.constant(np.float32(1)))
    steps = nodes.add("Mul", part, nodes.constant(np.float32(STEPS)))
    return nodes.add("Cast", nodes.add("Add", steps, nodes.constant(np.float32(0.5))), to=TensorProto.UINT8, into=into)


def _assembled(model: onnx.ModelProto, nodes: _Nodes, inputs: Ports, outputs: Ports) -> bytes:
    """Put the nodes, all of them, in the place of the network's, and serialise."""
    graph = model.graph
    for part in ("node", "input", "output"):
        graph.ClearField(part)
    graph.node.extend(nodes.made)
    graph.initializer.extend(nodes.constants)
    for ports, place in ((inputs, graph.input), (outputs, graph.output)):
        place.extend(helper.make_tensor_value_info(nodes.prefix + name, *said) for name, said in ports.items())
    model.ir_version = max(model.ir_version, 4)  # before, constants were inputs
    model.ClearField("metadata_props")
    helper.set_model_props(model, {"precision": precision_of(model)})
    if model.ByteSize() > _LARGEST:
        raise ModelError(f"The network takes {model.ByteSize():,} bytes; ONNX files end at {_LARGEST:,}.")
    return bytes(model.SerializeToString())


def _unused_prefix(model: onnx.ModelProto) -> str:
    """Give a prefix that no name in the network has, at any depth; the network's own names stay as they are."""
    content, prefix = model.SerializeToString(), "maskmill/"
    while prefix.encode() in content:
        prefix = f"_{prefix}"
    return prefix
