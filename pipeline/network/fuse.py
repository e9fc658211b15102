"""The fused graph: raw pixels in, classes out; scaling, layout, activation, decision and crop are nodes of it.

    pixels (batch, B, w, w) raw     valid (batch, 1, w, w) bool     shift, factor (1, B, 1, 1) float32
        x = Where(valid, (float(pixels) − shift) × factor, fill)
        → layout and type of the network → the network, relaxed to the window → the card's output
        → the core, as float32 (batch, C, core, core)
    classes (batch, core, core) uint8 or uint16, values of the card; or (batch, C, core, core) of 0 and 1
    values (batch, C, core, core) float32, where the network says values, and no classes     finite (batch,) bool
    confidence (batch, core, core) uint8, probabilities (batch, C, core, core) uint8, where asked for, in steps of 1/250

For blending the graph ends earlier: probabilities or values (batch, C, v, v) float32 of all that the network says of
a window, v = w − 2 × the field's offset, and finite over the same.
Where float16 is asked for, the network is in float16 and all that is around it in float32.
All shapes are fixed. The graph's own names carry a prefix that the network does not use; `Engine` takes it off.
"""

from __future__ import annotations

import onnx
from onnx import helper

from pipeline.errors import ModelError
from pipeline.grid import Stitch
from pipeline.network.card import Card
from pipeline.network.enter import enter
from pipeline.network.field import Field
from pipeline.network.halve import halved
from pipeline.network.host import Host, Recipe, precision_of
from pipeline.network.leave import blend_outputs, exact_outputs, leave
from pipeline.network.nodes import Nodes, Ports

_LARGEST = 2**31 - 1  # bytes: protobuf's limit


def fuse(model: onnx.ModelProto, card: Card, recipe: Recipe, field: Field) -> bytes:
    """Put the card's work around the network, for windows of one size, and serialise it.

    `field` is the network's, for the card's output. Raises ModelError where network, card and recipe do not fit.
    """
    network = Host.of(model, card, recipe)
    precision = precision_of(network.model)
    if recipe.precision == "fp16":
        network, precision = network.holding(halved(network.model)), f"{precision}-as-fp16"
    nodes = Nodes(network.opset, _unused_prefix(network.model))
    inputs = enter(nodes, network, card, recipe)
    nodes.made.extend(network.model.graph.node)
    if recipe.stitch is Stitch.BLEND:
        network.check_answer(recipe, field)
        side = recipe.window - 2 * field.offset
        outputs = blend_outputs(nodes, leave(nodes, network, None), card, recipe, side)
    else:
        start = network.core_starts(recipe, field)
        outputs = exact_outputs(nodes, leave(nodes, network, (start, start + recipe.core)), card, recipe)
    return _assembled(network.model, nodes, (inputs, outputs), precision)


def _assembled(model: onnx.ModelProto, nodes: Nodes, ports: tuple[Ports, Ports], precision: str) -> bytes:
    """Put the nodes, all of them, in the place of the network's, and serialise."""
    graph = model.graph
    for part in ("node", "input", "output"):
        graph.ClearField(part)
    graph.node.extend(nodes.made)
    graph.initializer.extend(nodes.constants)
    for each, place in zip(ports, (graph.input, graph.output), strict=True):
        place.extend(helper.make_tensor_value_info(nodes.prefix + name, *said) for name, said in each.items())
    model.ir_version = max(model.ir_version, 4)  # before, constants were inputs
    model.ClearField("metadata_props")
    helper.set_model_props(model, {"precision": precision})
    if model.ByteSize() > _LARGEST:
        raise ModelError(f"The network takes {model.ByteSize():,} bytes; ONNX files end at {_LARGEST:,}.")
    return bytes(model.SerializeToString())


def _unused_prefix(model: onnx.ModelProto) -> str:
    """Give a prefix that no name in the network has, at any depth; the network's own names stay as they are."""
    content, prefix = model.SerializeToString(), "maskmill/"
    while prefix.encode() in content:
        prefix = f"_{prefix}"
    return prefix
