"""The rules of operators that leave rows and columns where they are: on single pixels, on channels, on shapes.

Each rule takes a Step and gives the node's results, or raises MixesError.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.network.graph import Known
from pipeline.network.lines import Line
from pipeline.network.trace import SPATIAL, Axis, Rule, Step, Tensor, Value


def elementwise(step: Step) -> tuple[Value, ...]:
    """Any operator on single elements, of one operand or of several that are broadcast against each other."""
    return (_joined(step, [item for item in step.operands if item is not None]),)


def first_alone(step: Step) -> tuple[Value, ...]:
    """Operators on single elements whose further operands are scalars or one number per channel."""
    return (step.tensor,)


def batch_normalisation(step: Step) -> tuple[Value, ...]:
    """BatchNormalization with the statistics of training; not one that takes them from the window."""
    if step.node.number("training_mode", 0) or not step.node.number("spatial", 1):
        raise step.refusal("takes its statistics from the window")
    step.free([1])
    return (step.tensor,)


def dropout(step: Step) -> tuple[Value, ...]:
    """Dropout as it is outside training: nothing."""
    training = step.values(2)
    if training is not None and bool(training.any()):
        raise step.refusal("drops pixels at random (training_mode)")
    return (step.tensor,)


def quantisation(step: Step) -> tuple[Value, ...]:
    """QuantizeLinear and DequantizeLinear, by one number for all or for each channel."""
    scales = step.operand(1)
    if scales is None or scales.shape is None or len(scales.shape) > 1 or step.node.number("block_size", 0):
        raise step.refusal("has scales of a shape that cannot be worked out beforehand, or in blocks")
    if scales.shape not in {(), (1,)}:
        step.free([step.axis(step.node.number("axis", 1), step.tensor.rank)])
    return (step.tensor,)


def quantised_pair(step: Step) -> tuple[Value, ...]:
    """ONNX Runtime's QLinearAdd and QLinearMul: a, scale, zero point, b, scale, zero point, …"""
    return (_joined(step, [item for item in (step.operands[0], step.operands[3]) if item is not None]),)


def _joined(step: Step, operands: Sequence[Value]) -> Tensor:
    """Broadcast as numpy does, refusing to lay rows over anything but the same rows."""
    ranks = [item.rank if isinstance(item, Tensor) else len(_shape(step, item)) for item in operands]
    rank, lines = max(ranks), dict[Axis, Line]()
    axes, shape = [], []
    for place in range(rank):
        met = [(item, place - rank + own) for item, own in zip(operands, ranks, strict=True) if place - rank + own >= 0]
        kind, side = _met(step, met)
        if kind in SPATIAL:
            lines[kind] = _merged(step, [item.lines[kind] for item, _ in met if isinstance(item, Tensor)])
        axes.append(kind)
        shape.append(side)
    return Tensor(tuple(shape), tuple(axes), lines)


def _shape(step: Step, item: Known) -> tuple[int, ...]:
    if item.shape is None:
        raise step.refusal("has an operand of a shape that cannot be worked out beforehand")
    return item.shape


def _met(step: Step, met: Sequence[tuple[Value, int]]) -> tuple[Axis, int]:
    """Say the kind and side of an axis where operands meet; each comes with the number of its own axis."""
    kinds = {item.axes[axis] for item, axis in met if isinstance(item, Tensor)}
    sides = {_shape(step, item)[axis] if isinstance(item, Known) else item.shape[axis] for item, axis in met}
    fixed = {_shape(step, item)[axis] for item, axis in met if isinstance(item, Known)} - {1}
    if not kinds or kinds == {Axis.OTHER}:
        if len(sides - {1}) > 1:
            raise step.refusal(f"joins sides of {' and '.join(map(str, sorted(sides)))}")
        return Axis.OTHER, max(sides)
    if fixed:
        raise step.refusal(f"joins the map with a constant of {max(fixed)} pixels, which is fixed to one place")
    if Axis.BATCH in kinds and kinds <= {Axis.BATCH, Axis.OTHER} and len(sides - {1}) <= 1:
        return Axis.BATCH, max(sides)
    if len(kinds) > 1:
        raise step.refusal("lays rows, columns, channels or the images of a batch over each other")
    return kinds.pop(), max(sides)


def _merged(step: Step, lines: Sequence[Line]) -> Line:
    made = lines[0]
    for line in lines[1:]:
        if len(line) != len(made):
            raise step.refusal(f"joins maps of {len(made)} and {len(line)} pixels")
        if line.scale != made.scale:
            raise step.refusal(f"joins maps of one pixel for {made.scale} and for {line.scale} of the image")
        made = made.merged(line)
    return made


def concatenation(step: Step) -> tuple[Value, ...]:
    """Concat along channels, as skip connections have it."""
    tensors = [item for item in step.operands if isinstance(item, Tensor)]
    first = tensors[0]
    axis = step.axis(step.node.number("axis", 1), first.rank)
    if first.axes[axis] is not Axis.OTHER:
        raise step.refusal(f"sets maps side by side along the {first.axes[axis].value} axis")
    if any(item.axes != first.axes for item in tensors):
        raise step.refusal("lays rows, columns, channels or the images of a batch over each other")
    side = 0
    for item in step.operands:
        shape = item.shape if isinstance(item, Tensor) else _shape(step, item) if item else ()
        if len(shape) != first.rank:
            raise step.refusal(f"joins tensors of {first.rank} and {len(shape)} axes")
        side += shape[axis]
        if isinstance(item, Known):
            raise step.refusal("joins the map with a constant map, which is fixed to one place")
    lines = {kind: _merged(step, [item.lines[kind] for item in tensors]) for kind in SPATIAL}
    shape = tuple(side if place == axis else own for place, own in enumerate(first.shape))
    return (Tensor(shape, first.axes, lines),)


def softmax(step: Step) -> tuple[Value, ...]:
    """Softmax, LogSoftmax and Hardmax: along one axis, and before opset 13 along all from that one on, as if one."""
    tensor, old = step.tensor, step.opset < 13
    axis = step.axis(step.node.number("axis", 1 if old else -1), tensor.rank)
    step.free(range(axis, tensor.rank) if old else [axis])
    return (tensor,)


def vector_normalisation(step: Step) -> tuple[Value, ...]:
    """LpNormalization: along one axis."""
    step.free([step.axis(step.node.number("axis", -1), step.tensor.rank)])
    return (step.tensor,)


def layer_normalisation(step: Step) -> tuple[Value, ...]:
    """LayerNormalization and RMSNormalization: over all axes from `axis` on."""
    step.free(range(step.axis(step.node.number("axis", -1), step.tensor.rank), step.tensor.rank))
    return (step.tensor,)


def across_channels(step: Step) -> tuple[Value, ...]:
    """LRN: over neighbours on the second axis."""
    step.free([1])
    return (step.tensor,)


def cumulation(step: Step) -> tuple[Value, ...]:
    """CumSum along channels."""
    axes = step.values(1)
    if axes is None:
        raise step.refusal("says no axis")
    step.free([step.axis(int(axes[0]), step.tensor.rank)])
    return (step.tensor,)


def reduction(step: Step) -> tuple[Value, ...]:
    """ReduceMean, ReduceSum and their like over channels."""
    tensor = step.tensor
    axes = step.ints(1, "axes")
    if axes is None and step.node.number("noop_with_empty_axes", 0):
        return (tensor,)
    return (_reduced(step, range(tensor.rank) if axes is None else axes),)


def arg_reduction(step: Step) -> tuple[Value, ...]:
    """ArgMax and ArgMin over channels."""
    return (_reduced(step, [step.node.number("axis", 0)]),)


def _reduced(step: Step, axes: Sequence[int]) -> Tensor:
    tensor = step.tensor
    gone = {step.axis(axis, tensor.rank) for axis in axes}
    step.free(sorted(gone))
    if step.node.number("keepdims", 1):
        return tensor.arranged(tensor.axes, [1 if place in gone else side for place, side in enumerate(tensor.shape)])
    kept = [place for place in range(tensor.rank) if place not in gone]
    return tensor.arranged([tensor.axes[place] for place in kept], [tensor.shape[place] for place in kept])


def top_k(step: Step) -> tuple[Value, ...]:
    """TopK along channels: values and places."""
    tensor = step.tensor
    axis = step.axis(step.node.number("axis", -1), tensor.rank)
    step.free([axis])
    said = step.values(1)
    count = step.node.number("k", 0) if said is None else int(said[0])
    made = tensor.arranged(tensor.axes, [count if place == axis else own for place, own in enumerate(tensor.shape)])
    return made, made


def product(step: Step) -> tuple[Value, ...]:
    """MatMul of channels with constant weights; of two maps, it is attention and mixes all pixels."""
    left, right = step.operands[0], step.operands[1]
    if isinstance(left, Tensor) and isinstance(right, Known):
        return (_times_weights(step, left, _shape(step, right), left.rank - 1, -1),)
    if isinstance(right, Tensor) and isinstance(left, Known) and right.rank > 1:
        return (_times_weights(step, right, _shape(step, left), right.rank - 2, -2),)
    raise step.refusal("multiplies all pixels with each other, as attention does")


def _times_weights(step: Step, tensor: Tensor, weights: tuple[int, ...], axis: int, kept: int) -> Tensor:
    if tensor.axes[axis] is not Axis.OTHER:
        raise step.refusal(f"mixes all {tensor.axes[axis].value} of the map")
    if len(weights) < 2 or any(side != 1 for side in weights[:-2]) or len(weights) > tensor.rank:
        raise step.refusal(f"has weights of shape {weights}, which are not one matrix")
    shape = [weights[kept] if place == axis else side for place, side in enumerate(tensor.shape)]
    return tensor.arranged(tensor.axes, shape)


def _each(names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), elementwise)


def mixing(why: str) -> Rule:
    """Make the rule of an operator that no margin helps."""

    def rule(step: Step) -> tuple[Value, ...]:
        raise step.refusal(why)

    return rule


POINTWISE: dict[str, Rule] = {
    **_each("Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Elu Erf Exp Floor"),
    **_each("Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not PRelu Reciprocal Relu Round"),
    **_each("Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"),
    **_each("Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min"),
    **_each("Mod Mul Or Pow Sub Sum Where Xor QuickGelu FastGelu BiasGelu"),
    **dict.fromkeys(["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"], reduction),
    **dict.fromkeys(["ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"], reduction),
    "ArgMax": arg_reduction,
    "ArgMin": arg_reduction,
    "BatchNormalization": batch_normalisation,
    "Concat": concatenation,
    "CumSum": cumulation,
    "DequantizeLinear": quantisation,
    "Dropout": dropout,
    "Hardmax": softmax,
    "LRN": across_channels,
    "LayerNormalization": layer_normalisation,
    "LogSoftmax": softmax,
    "LpNormalization": vector_normalisation,
    "MatMul": product,
    "QLinearAdd": quantised_pair,
    "QLinearLeakyRelu": first_alone,
    "QLinearMul": quantised_pair,
    "QLinearSigmoid": first_alone,
    "QuantizeLinear": quantisation,
    "RMSNormalization": layer_normalisation,
    "SimplifiedLayerNormalization": layer_normalisation,
    "Softmax": softmax,
    "TopK": top_k,
    "Attention": mixing("is attention, in which every pixel sees every other"),
    "DynamicQuantizeLinear": mixing("takes its range from the whole window"),
    "Einsum": mixing("may multiply all pixels with each other"),
    "GlobalAveragePool": mixing("takes the mean of the whole map"),
    "GlobalLpPool": mixing("takes the norm of the whole map"),
    "GlobalMaxPool": mixing("takes the maximum of the whole map"),
    "GroupNormalization": mixing("takes its statistics from the whole map"),
    "InstanceNormalization": mixing("takes its statistics from the whole map"),
    "MeanVarianceNormalization": mixing("takes its statistics from the whole map"),
    "MultiHeadAttention": mixing("is attention, in which every pixel sees every other"),
}
