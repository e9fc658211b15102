"""An ONNX graph, read: the nodes on the way from the image to the chosen output, and the constants they use.

Models come from strangers. Nothing here runs any of them: only names, attributes, shapes and small constants are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper

from pipeline.errors import ModelError
from pipeline.network.model_file import subgraphs

SMALL = 4096  # elements: shapes, pads and sizes are smaller; larger constants are weights, of which the shape is enough

Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A tensor that does not depend on the image's pixels: its shape where known, its values where known and small."""

    shape: tuple[int, ...] | None
    values: NDArray[Any] | None = None

    @classmethod
    def of(cls, values: NDArray[Any]) -> Known:
        """Hold an array, its values only if they are few."""
        return cls(values.shape, values if values.size <= SMALL else None)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node of the graph. `index` is its place in the model's list of nodes; `captured` is what its bodies read."""

    index: int
    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    captured: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"the node `{self.name or (self.outputs or ('?',))[0]}` ({self.op})"

    def text(self, name: str, default: str) -> str:
        """Get an attribute that is text."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def number(self, name: str, default: int) -> int:
        """Get an attribute that is an integer."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def numbers(self, name: str) -> list[int] | None:
        """Get an attribute that is a list of integers; None where there is none."""
        value = self.attributes.get(name)
        return [int(item) for item in value] if isinstance(value, list | tuple) else None


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """What is needed of a model to say how far it looks.

    `batch`, `height`, `width` are what the input declares, None where they are free; `nodes` are those on the way to
    `output`, each after those it needs.
    """

    image: str
    layout: Layout
    channels: int
    batch: int | None
    height: int | None
    width: int | None
    output: str
    output_rank: int | None
    opset: int
    nodes: tuple[Node, ...]
    constants: Mapping[str, Known]


def read_graph(model: onnx.ModelProto, output: str | None = None, layout: Layout | None = None) -> Graph:
    """Read a model. `output` is the first where it is not said; `layout` is told from the declared sides.

    Raises ModelError where there is no single image input with four axes, or no such output.
    """
    image = _image(model)
    dims = [_side(dim) for dim in image.type.tensor_type.shape.dim]
    layout = layout or _layout(dims)
    channels, height, width = (dims[3], *dims[1:3]) if layout == "NHWC" else tuple(dims[1:])
    chosen = _output(model, output)
    nodes = _path([_node(index, node) for index, node in enumerate(model.graph.node)], chosen.name)
    rank = len(chosen.type.tensor_type.shape.dim) if chosen.type.tensor_type.HasField("shape") else None
    opset = next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), 1)
    return Graph(
        image=image.name,
        layout=layout,
        channels=channels or 3,
        batch=dims[0],
        height=height,
        width=width,
        output=chosen.name,
        output_rank=rank,
        opset=opset,
        nodes=nodes,
        constants={item.name: _constant(item) for item in model.graph.initializer},
    )


def layout_of(model: onnx.ModelProto) -> Layout:
    """Say which axis of the image input holds the channels: the smaller of the second and the last, else the second."""
    return _layout([_side(dim) for dim in _image(model).type.tensor_type.shape.dim])


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put the bodies of the model's own functions in the place of their calls."""
    return inliner.inline_local_functions(model) if model.functions else model


def _image(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    constants = {item.name for item in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [item for item in model.graph.input if item.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(f"`{item.name}`" for item in inputs) or "none"
        raise ModelError(f"The network must have one input, the image; it has {len(inputs)}: {names}.")
    rank = len(inputs[0].type.tensor_type.shape.dim)
    if rank != 4:
        raise ModelError(
            f"The network's input `{inputs[0].name}` has {rank} axes; an image has 4: batch, bands, rows and columns."
        )
    return inputs[0]


def _output(model: onnx.ModelProto, name: str | None) -> onnx.ValueInfoProto:
    outputs: dict[str, onnx.ValueInfoProto] = {item.name: item for item in model.graph.output}
    if not outputs:
        raise ModelError("The network has no output.")
    if name is None:
        return next(iter(outputs.values()))
    if name not in outputs:
        raise ModelError(f"The network has no output `{name}`; it has {', '.join(f'`{key}`' for key in outputs)}.")
    return outputs[name]


def _side(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None


def _layout(dims: list[int | None]) -> Layout:
    second, last = dims[1], dims[3]
    if last is None:
        return "NCHW"
    return "NHWC" if second is None or last < second else "NCHW"


def _node(index: int, node: onnx.NodeProto) -> Node:
    attributes: dict[str, Any] = {}
    for item in node.attribute:
        if item.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}:
            continue  # an operator with a body is unknown to us, whatever the body says
        value = helper.get_attribute_value(item)
        attributes[item.name] = _constant(value) if isinstance(value, onnx.TensorProto) else value
    outputs = tuple(node.output)
    captured = frozenset(reads(node) - set(node.input))
    return Node(index, node.op_type, node.domain, node.name, tuple(node.input), outputs, attributes, captured)


def reads(node: onnx.NodeProto) -> set[str]:
    """Every name that a node reads, those that its bodies (of If, Loop and Scan) read included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for body in subgraphs(attribute):
            for inner in body.node:
                names |= reads(inner)
            names.update(value.name for value in body.output)
    return names


def _constant(tensor: onnx.TensorProto) -> Known:
    shape = tuple(tensor.dims)
    if math.prod(shape) > SMALL or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return Known(shape)
    try:
        return Known(shape, np.asarray(numpy_helper.to_array(tensor)))
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"The constant `{tensor.name}` cannot be read: {' '.join(str(error).split())}.") from None


def _path(nodes: list[Node], output: str) -> tuple[Node, ...]:
    """Keep the nodes that the output depends on, in the model's order."""
    wanted, path = {output}, []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.outputs):
            continue
        path.append(node)
        wanted.update(name for name in node.inputs if name)
        wanted |= node.captured
    return tuple(reversed(path))
