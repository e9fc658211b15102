"""The host: a network made ready for one size of window and batch, checked against its card.

It is brought to the window's size, and what does not fit the card (channels, classes, types, sizes) becomes a sentence
before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto

from pipeline.errors import ModelError, SettingsError
from pipeline.grid import Stitch
from pipeline.network.card import Card
from pipeline.network.field import Field, relaxed
from pipeline.settings import Precision

RAW = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
_OLDEST = 10  # the operator set in which Slice takes its bounds as inputs
_NEWER = 13  # what older networks are converted to
_SCORES = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
}
_WEIGHTS = _SCORES | {TensorProto.INT8: "int8", TensorProto.UINT8: "int8"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the graph is cut: sides in pixels, the raw pixels' dtype (numpy's name), what comes out, how it computes."""

    window: int
    margin: int
    batch: int
    dtype: str
    stitch: Stitch = Stitch.EXACT
    confidence: bool = False
    probabilities: bool = False
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.margin < 0 or self.window <= 2 * self.margin:
            raise SettingsError(
                f"A window of {self.window} pixels with a margin of {self.margin} has no core; "
                f"take a window larger than {2 * max(self.margin, 0)}."
            )
        if self.batch < 1:
            raise SettingsError(f"The batch is {self.batch}; it must be at least 1.")
        if self.dtype not in RAW:
            raise SettingsError(f"Pixels of {self.dtype} cannot enter a network; these can: {', '.join(RAW)}.")

    @property
    def core(self) -> int:
        """The side of what is kept of a window."""
        return self.window - 2 * self.margin


@dataclass(frozen=True, slots=True)
class Host:
    """The network for one window and batch, and where it is entered and left."""

    model: onnx.ModelProto
    input: onnx.ValueInfoProto
    output: onnx.ValueInfoProto
    opset: int
    nhwc: bool

    @classmethod
    def of(cls, model: onnx.ModelProto, card: Card, recipe: Recipe) -> Host:
        """Relax and check a network."""
        known = [value.name for value in model.graph.output]
        name = card.output or known[0]
        if name not in known:
            raise ModelError(f"The network has no output `{name}`; it has {', '.join(known)}.")
        if not card.output and len(known) > 1:
            raise ModelError(
                f"The network has {len(known)} outputs, {', '.join(known)}; say which in the card: `output`."
            )
        resized = relaxed(modern(model), recipe.window, recipe.window, recipe.batch, name, card.layout)
        constants = {tensor.name for tensor in resized.graph.initializer}
        entry = next(value for value in resized.graph.input if value.name not in constants)
        leave = next(value for value in resized.graph.output if value.name == name)
        if not dims_of(leave):  # foreign operators: what the network itself declares is all that is known
            leave = next(value for value in model.graph.output if value.name == name)
        network = cls(resized, entry, leave, opset_of(resized), card.layout == "NHWC")
        network.check_channels(card)
        return network

    def holding(self, model: onnx.ModelProto) -> Host:
        """The same with another form of the network: of the same names and shapes, perhaps of other types."""
        entry, leave = onnx.ValueInfoProto(), onnx.ValueInfoProto()
        for port, mine, theirs in ((entry, self.input, model.graph.input), (leave, self.output, model.graph.output)):
            port.CopyFrom(mine)
            same = next(one for one in theirs if one.name == mine.name)
            port.type.tensor_type.elem_type = same.type.tensor_type.elem_type
        return replace(self, model=model, input=entry, output=leave)

    @property
    def size(self) -> tuple[int | None, int | None]:
        """The output's rows and columns; None where shape inference does not find them."""
        dims = dims_of(self.output)
        rows = 1 if self.nhwc or len(dims) == 3 else 2
        return dims[rows], dims[rows + 1]

    def check_channels(self, card: Card) -> None:
        """Raise ModelError where the network's channels or types are not the card's."""
        name, dims = self.output.name, dims_of(self.output)
        if len(dims) not in (3, 4):
            raise ModelError(f"The network's output `{name}` has {len(dims)} axes; a mask needs 4, or 3 for one class.")
        if self.output.type.tensor_type.elem_type not in _SCORES:
            kind = TensorProto.DataType.Name(self.output.type.tensor_type.elem_type)
            raise ModelError(
                f"The network's output `{name}` holds {kind.lower()}, not logits or probabilities; "
                "export it without its last ArgMax or cast."
            )
        eaten = dims_of(self.input)[3 if self.nhwc else 1]
        if eaten not in (None, len(card.bands)):
            raise ModelError(f"The network eats {eaten} channels, and the card has {len(card.bands)} bands.")
        said = 1 if len(dims) == 3 else dims[3 if self.nhwc else 1]
        if said not in (None, card.channels):
            raise ModelError(
                f"The network's output `{name}` has {said} channels; a card of {len(card.classes)} classes and "
                f"{card.activation} needs {card.channels}: correct the card's classes or activation."
            )

    def check_answer(self, recipe: Recipe, field: Field) -> None:
        """Raise ModelError where the answer to a whole window is not of the size that the field says."""
        side = recipe.window - 2 * field.offset
        if any(found not in (None, side) for found in self.size):
            raise ModelError(
                f"The network says {self.size[0]} × {self.size[1]} pixels of a window of {recipe.window}, where it was "
                f"to say {side} × {side}: take another --window, a multiple of 32 say."
            )

    def core_starts(self, recipe: Recipe, field: Field) -> int:
        """Give the core's first row and column in the output. Raises ModelError where the output does not hold it."""
        if field.scale != 1:
            raise ModelError(
                f"The network says one pixel for {field.scale} of its input; a mask needs one for one: "
                "add a Resize to the network, or take away the one that it has."
            )
        start = recipe.margin - field.offset
        if start < 0 or any(side is not None and side < start + recipe.core for side in self.size):
            raise ModelError(
                f"A window of {recipe.window} pixels leaves an answer of {self.size[0]} × {self.size[1]} from pixel "
                f"{field.offset} on, which does not hold the core of {recipe.core} behind a margin of {recipe.margin}; "
                f"take a margin of at least {field.margin}."
            )
        return start


def dims_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """Give a tensor's declared sides, None for each that is not a number."""
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]


def opset_of(model: onnx.ModelProto) -> int:
    """Give the version of ONNX's own operator set that a model asks for."""
    versions: list[int] = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:  # a network of foreign operators alone
        model.opset_import.append(onnx.helper.make_opsetid("", _NEWER))
        return _NEWER
    return max(versions)


def precision_of(model: onnx.ModelProto) -> str:
    """Name the types of a network's weights, such as fp32 or fp16+fp32."""
    constants = [attribute.t for node in model.graph.node if node.op_type == "Constant" for attribute in node.attribute]
    kinds = {tensor.data_type for tensor in (*model.graph.initializer, *constants) if len(tensor.dims) >= 2}
    return "+".join(sorted({_WEIGHTS[kind] for kind in kinds if kind in _WEIGHTS})) or "fp32"


def modern(model: onnx.ModelProto, oldest: int = _OLDEST) -> onnx.ModelProto:
    """Bring a network of an operator set before `oldest` to a newer one. Raises ModelError where that cannot be."""
    version = opset_of(model)
    if version >= oldest:
        return model
    try:
        return onnx.version_converter.convert_version(model, _NEWER)
    except (RuntimeError, ValueError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        raise ModelError(
            f"The network is written for ONNX's operator set {version}, and cannot be converted to {_NEWER} "
            f"({' '.join(str(error).split())[:200]}); export it anew for {_NEWER} or later."
        ) from error
