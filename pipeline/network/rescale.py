"""A network made to fit its window: an output of another scale brought back by a node at its end, a rim cut off.

A network that says one pixel for s × s of its input, as SegFormer's logits stand for 4 × 4, is stretched by linear
interpolation between pixels' middles (half-pixel: PyTorch's `interpolate` with `align_corners=False`, which the makers
of such networks use); one that says k × k pixels for each of its input's, as super-resolution does, is averaged. The
node is part of the network for all that comes after: its stride, reach and exactness are read off the longer graph.

A network without padding may lose a row to rounding down where a window's side has the wrong remainder, and join maps
that do not lie over each other: of a U-Net made for 572 the sides must leave 12 when divided by 16. Cutting a rim off
the window before the network gives it such a side.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
from onnx import TensorProto

from pipeline.network.graph import Layout, inlined, read_graph
from pipeline.network.host import modern, opset_of
from pipeline.network.nodes import Nodes
from pipeline.network.signature import mask_shape

_HALF_PIXEL = 11  # the operator set since which Resize knows half-pixel coordinates


def can_rescale(scale: Fraction) -> bool:
    """Whether a scale, in input pixels for one output pixel, is whole in one direction or the other."""
    return 1 in {scale.numerator, scale.denominator}


def rescaled(model: onnx.ModelProto, output: str | None, layout: Layout, scale: Fraction) -> onnx.ModelProto:
    """Give a model whose output has the input's scale, under the name that it had; the model itself where it has.

    `scale` is how many input pixels one pixel of the output stands for, down and across; `output` None is the first.
    The output becomes float32. Raises ValueError where `can_rescale` says no, ModelError for what is no mask.
    """
    if scale == 1:
        return model
    if not can_rescale(scale):
        raise ValueError(f"neither {scale} nor its inverse is whole")
    made = onnx.ModelProto()
    made.CopyFrom(modern(inlined(model), _HALF_PIXEL))
    port = next(each for each in made.graph.output if output in {None, each.name})
    own = _moved(made.graph, port.name)
    nodes = Nodes(opset_of(made), f"{own}/")
    _stretch(nodes, own, port, len(mask_shape(model, port.name)), layout, scale)
    nodes.made[-1].output[0] = port.name
    port.type.tensor_type.elem_type = TensorProto.FLOAT
    port.type.tensor_type.ClearField("shape")
    made.graph.node.extend(nodes.made)
    made.graph.initializer.extend(nodes.constants)
    return made


def trimmed(model: onnx.ModelProto, layout: Layout, rim: int) -> onnx.ModelProto:
    """Give a model that is given its window less `rim` pixels on each side; the model itself for none."""
    if not rim:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(modern(inlined(model)))
    image = read_graph(made, layout=layout).image
    nodes = Nodes(opset_of(made), f"{image}_trimmed/")
    axes = [1, 2] if layout == "NHWC" else [2, 3]
    inner = nodes.sliced(image, [rim, rim], [-rim, -rim], axes)
    for node in made.graph.node:
        for place, each in enumerate(node.input):
            if each == image:
                node.input[place] = inner
    whole = [*nodes.made, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(whole)
    made.graph.initializer.extend(nodes.constants)
    return made


def _stretch(nodes: Nodes, value: str, port: onnx.ValueInfoProto, rank: int, layout: Layout, scale: Fraction) -> None:
    """Add the nodes; the last one's result is of the output's rank and layout again."""
    if port.type.tensor_type.elem_type != TensorProto.FLOAT:
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    if rank == 3:
        value = nodes.over("Unsqueeze", value, [1])
    elif layout == "NHWC":
        value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
    if scale > 1:
        nowhere, factors = np.zeros(0, np.float32), np.array([1, 1, scale, scale], np.float32)
        said = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        value = nodes.add("Resize", value, nodes.constant(nowhere), nodes.constant(factors), **said)
    else:
        side = [scale.denominator] * 2
        value = nodes.add("AveragePool", value, kernel_shape=side, strides=side)
    if rank == 3:
        nodes.over("Squeeze", value, [1])
    elif layout == "NHWC":
        nodes.add("Transpose", value, perm=[0, 2, 3, 1])


def _moved(graph: onnx.GraphProto, name: str) -> str:
    """Give a tensor another name wherever the graph makes or reads it; returns the new one."""
    used = {each for node in graph.node for each in (*node.input, *node.output)}
    used |= {tensor.name for tensor in graph.initializer}
    own = f"{name}_own"
    while own in used:
        own += "_"
    for node in graph.node:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each == name:
                    names[place] = own
    return own
