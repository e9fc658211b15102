"""What can be read off a graph for certain: its input, its outputs, and whether it answers in probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from pipeline.errors import ModelError

Shape = tuple[int | None, ...]
"""The sides of a tensor in their order; None where the graph leaves one open."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)

# These pass values on without leaving the range of what they were given.
_PASSING = {"Transpose", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Gather", "Slice", "Cast", "Dropout"}
_ANSWERS: dict[str, Literal["logits", "probabilities"]] = {
    "Sigmoid": "probabilities",
    "HardSigmoid": "probabilities",
    "Softmax": "probabilities",
    "LogSoftmax": "logits",  # the softmax of logarithms of probabilities is those probabilities
    "Conv": "logits",
    "ConvTranspose": "logits",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A network's only input, of four dimensions, and its outputs by name, each of three or four or else no mask."""

    input: str
    shape: Shape
    outputs: dict[str, Shape]

    def channel_axes(self) -> tuple[int, ...]:
        """Which axes of the input may be its channels: 1 (NCHW) or 3 (NHWC).

        An axis of a known side, where the other candidate is open or is as long as the axis between them, is certain.
        """
        _, first, between, last = self.shape
        if first is not None and (last is None or last == between != first):
            return (1,)
        if last is not None and (first is None or first == between != last):
            return (3,)
        return (1, 3)


def signature(model: ModelProto) -> Signature:
    """Read a network's input and outputs.

    Raises ModelError unless there is exactly one input without a value of its own and it has four dimensions.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(port.name for port in inputs) or "none"
        raise ModelError(
            f"The network has {len(inputs)} inputs ({names}); maskmill gives it one, the image: export it with "
            "what the others hold as constants."
        )
    shape = shape_of(inputs[0])
    if len(shape) != 4:
        raise ModelError(
            f"The network's input `{inputs[0].name}` has {len(shape)} dimensions; an image has four: batch, channel, "
            "height and width, or batch, height, width and channel."
        )
    if not model.graph.output:
        raise ModelError("The network has no output.")
    return Signature(inputs[0].name, shape, {port.name: shape_of(port) for port in model.graph.output})


def shape_of(port: ValueInfoProto) -> Shape:
    """The sides of an input or output, None for what the graph leaves open; () where it says no shape at all."""
    sides = port.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None for side in sides)


def mask_shape(model: ModelProto, output: str) -> Shape:
    """The shape of an output that is to be a mask, inferred where the graph does not note it.

    Raises ModelError where it has not three dimensions (batch, height, width) or four, or holds no numbers with a
    fraction.
    """
    ports = {port.name: port for port in model.graph.output}
    kind = ports[output].type.tensor_type.elem_type
    if kind and kind not in _FLOATS:
        name = next((name.lower() for name, number in TensorProto.DataType.items() if number == kind), f"type {kind}")
        raise ModelError(
            f"The network's output `{output}` holds {name}; a mask is made of logits or probabilities: export the "
            "network without its last ArgMax or threshold."
        )
    shape = output_shape(model, output)
    if len(shape) not in (3, 4):
        raise ModelError(
            f"The network's output `{output}` has {len(shape)} dimensions ({list(shape)}), which is no mask: a mask "
            "has four (batch, channel, height, width in the input's order) or three (batch, height, width)."
        )
    return shape


def output_shape(model: ModelProto, output: str) -> Shape:
    """The shape of an output, inferred where the graph does not note it; () where nothing is known."""
    shape = shape_of(next(port for port in model.graph.output if port.name == output))
    if len(shape) not in (3, 4) or (len(shape) == 4 and None in (shape[1], shape[3])):
        return _inferred(model, output) or shape
    return shape


def _inferred(model: ModelProto, output: str) -> Shape:
    try:
        known = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return ()  # an operator that onnx does not know: the caller goes by what the graph says
    return next(shape_of(port) for port in known.graph.output if port.name == output)


def answers(model: ModelProto, output: str) -> Literal["logits", "probabilities"] | None:
    """Whether an output is logits or probabilities, where the operator that makes it leaves no doubt; else None."""
    last = last_operator(model, output)
    return _ANSWERS.get(last) if last else None


def last_operator(model: ModelProto, output: str) -> str | None:
    """Which operator makes an output's numbers, before those that only move them."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and (node.op_type in _PASSING or _between(node)):
        node = makers.get(node.input[0])
    return node.op_type if node is not None else None


def _between(node: NodeProto) -> bool:
    """Whether a node resizes, each number made from one neighbour or lying between several: not by cubics."""
    said = {each.name: each.s for each in node.attribute}
    return (
        node.op_type in ("Resize", "Upsample")
        and said.get("mode", b"nearest") != b"cubic"
        and said.get("coordinate_transformation_mode") != b"tf_crop_and_resize"  # it has a number for what is outside
    )
