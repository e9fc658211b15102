"""A network made for one size of image, made fit for another.

The proof that this keeps its meaning is in the tests: a larger relaxed window equals the original's windows inside it,
a reach from their rims.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from pipeline.errors import ModelError
from pipeline.network.graph import Graph, Layout, inlined, read_graph, reads
from pipeline.network.trace import MixesError, VanishesError
from pipeline.network.walk import Walk


def relaxed(
    model: onnx.ModelProto,
    height: int,
    width: int,
    batch: int,
    output: str | None = None,
    layout: Layout | None = None,
) -> onnx.ModelProto:
    """Make a copy whose input is batch × height × width, and whose only output is the chosen one, by its name.

    Sizes that were written for the size that the network declares (of a Resize, Reshape or Slice) are rewritten to
    what they mean. All noted shapes are dropped and inferred anew. A network that mixes all its pixels stays at the
    size that it declares. Raises ModelError where the network cannot be made to fit, or where its output does not
    have the size that its operators say.
    """
    model = inlined(model)
    graph = read_graph(model, output, layout)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kept = {node.index for node in graph.nodes}
    shape: list[int] | None = None
    try:
        walk = Walk.through(graph, height, width, batch, written(graph))
        _repair(made, walk)
        shape = list(walk.result.shape)
    except VanishesError as reason:
        raise ModelError(f"A window of {height} × {width} pixels is too small for the network: {reason}.") from None
    except MixesError as reason:
        _require_declared(graph, height, width, reason)
    nodes = [node for index, node in enumerate(made.graph.node) if index in kept]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    _declare(made, graph, (batch, height, width))
    return _inferred(made, shape)


def written(graph: Graph) -> Walk | None:
    """Follow a network at the size that it declares; None where a side of its input is free.

    Raises MixesError where no margin makes the network exact.
    """
    if graph.height is None or graph.width is None:
        return None
    return Walk.through(graph, graph.height, graph.width, graph.batch or 1)


def _require_declared(graph: Graph, height: int, width: int, reason: MixesError) -> None:
    declared = graph.height or height, graph.width or width
    if declared != (height, width):
        raise ModelError(
            f"The network is made for {declared[0]} × {declared[1]} pixels and cannot be given {height} × {width}: "
            f"{reason}. Take its own size as the window."
        )


def _repair(model: onnx.ModelProto, walk: Walk) -> None:
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {item.name for item in model.graph.initializer}
    for index, repair in walk.repairs.items():
        node = model.graph.node[index]
        name = f"relaxed_{index}"
        while name in taken:
            name += "_"
        if len(node.input) <= repair.position:  # before opset 10 these numbers are attributes
            raise ModelError(f"The node `{node.name}` ({node.op_type}) has sizes in it that cannot be rewritten.")
        node.input[repair.position] = name
        model.graph.initializer.append(numpy_helper.from_array(repair.numbers, name))


def _declare(model: onnx.ModelProto, graph: Graph, sides: tuple[int, int, int]) -> None:
    """Write the input's size, keep one output, drop what is noted of other tensors and what no node reads."""
    batch, height, width = sides
    image = next(item for item in model.graph.input if item.name == graph.image)
    places = {0: batch, 1: height, 2: width} if graph.layout == "NHWC" else {0: batch, 2: height, 3: width}
    for place, side in places.items():
        image.type.tensor_type.shape.dim[place].dim_value = side
    chosen = onnx.ValueInfoProto()
    chosen.CopyFrom(next(item for item in model.graph.output if item.name == graph.output))
    chosen.type.tensor_type.ClearField("shape")
    read = {name for node in model.graph.node for name in reads(node)} | {graph.output}
    constants = [item for item in model.graph.initializer if item.name in read]
    inputs = [item for item in model.graph.input if item.name in read or item.name == graph.image]
    for part in ("value_info", "output", "initializer", "input"):
        model.graph.ClearField(part)
    model.graph.output.append(chosen)
    model.graph.initializer.extend(constants)
    model.graph.input.extend(inputs)


def _inferred(model: onnx.ModelProto, shape: list[int] | None) -> onnx.ModelProto:
    """Infer shapes and hold them against what the walk says."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"The network's shapes do not fit each other: {' '.join(str(error).split())}.") from None
    output = inferred.graph.output[0]
    dims = [dim.dim_value or None for dim in output.type.tensor_type.shape.dim]
    if shape is None:
        return inferred
    if dims and (len(dims) != len(shape) or any(a not in {None, b} for a, b in zip(dims, shape, strict=True))):
        raise ModelError(
            f"The network's output `{output.name}` is of shape {dims} where its operators say {shape}: it does not "
            "follow the size of its input."
        )
    output.type.tensor_type.ClearField("shape")
    for side in shape:
        output.type.tensor_type.shape.dim.add().dim_value = side
    return inferred
