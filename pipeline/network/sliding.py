"""The rules of operators that look around along rows and columns: convolutions, poolings, resizing, padding.

Each rule takes a Step and gives the node's results, or raises MixesError. `lines.py` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from pipeline.network.lines import (
    Kernel,
    Line,
    Span,
    Stretch,
    automatic_padding,
    slid,
    slid_size,
    spread,
    spread_size,
)
from pipeline.network.trace import SPATIAL, Axis, Note, Repair, Rule, Step, Tensor, Value

LOCAL_COORDINATES = {"half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "tf_half_pixel_for_nn"}
SIMPLE = 64  # the largest numerator and denominator of a resizing factor that is taken for one


def _weights(step: Step, position: int) -> tuple[int, ...]:
    weights = step.operand(position)
    if weights is None or weights.shape is None or len(weights.shape) != step.tensor.rank:
        raise step.refusal("has weights of a shape that cannot be worked out beforehand")
    return weights.shape


def _kernels(step: Step, sizes: Sequence[int]) -> list[Kernel]:
    """Read strides, dilations and pads, one kernel for each axis from the third on."""
    tensor, count = step.tensor, len(sizes)
    if tensor.axes[1] is not Axis.OTHER or tensor.rank != count + 2:
        raise step.refusal(f"expects channels on the second axis and {count} axes to slide along")
    strides = step.node.numbers("strides") or [1] * count
    dilations = step.node.numbers("dilations") or [1] * count
    pads = step.node.numbers("pads") or [0] * 2 * count
    if not len(strides) == len(dilations) == len(pads) // 2 == count or min(*strides, *dilations, *sizes) < 1:
        raise step.refusal("has strides, dilations, pads and kernel sides that do not fit each other")
    kernels = [Kernel(*item) for item in zip(sizes, strides, dilations, pads[:count], pads[count:], strict=True)]
    auto = step.node.text("auto_pad", "NOTSET")
    if auto.startswith("SAME") and any(kernel.dilation > 1 or kernel.size < kernel.stride for kernel in kernels):
        # ONNX Runtime refuses dilation here, and lets kernels smaller than the stride begin within the map.
        raise step.refusal(f"has a padding ({auto}) that does not go with its dilation or its small kernel")
    return kernels


def _mapped(step: Step, made: Sequence[int], spans: Callable[[int], tuple[Span, Fraction]], channels: int) -> Tensor:
    """Put the axes from the third on through their spans; `spans(i)` is asked for rows and columns alone."""
    tensor = step.tensor
    lines: dict[Axis, Line] = dict(tensor.lines)
    for place, kind in enumerate(tensor.axes[2:]):
        if kind is Axis.BATCH:
            raise step.refusal("mixes the images of a batch")
        step.longest(made[place])
        if kind in SPATIAL:
            lines[kind] = tensor.lines[kind].through(*spans(place))
    return Tensor((tensor.shape[0], channels, *made), tensor.axes, lines)


def _slide(step: Step, sizes: Sequence[int], channels: int, *, ceil: bool = False) -> Tensor:
    sides, auto = step.tensor.shape[2:], step.node.text("auto_pad", "NOTSET")
    kernels = [automatic_padding(auto, side, kernel) for side, kernel in zip(sides, _kernels(step, sizes), strict=True)]
    made = [slid_size(side, kernel, ceil=ceil) for side, kernel in zip(sides, kernels, strict=True)]

    def spans(place: int) -> tuple[Span, Fraction]:
        return slid(sides[place], kernels[place], ceil=ceil), Fraction(kernels[place].stride)

    return _mapped(step, made, spans, channels)


def convolution(weights: int) -> Rule:
    """Make the rule of a convolution whose weights are operand `weights`."""

    def rule(step: Step) -> tuple[Value, ...]:
        shape = _weights(step, weights)
        return (_slide(step, shape[2:], shape[0]),)

    return rule


def pooling(step: Step) -> tuple[Value, ...]:
    """MaxPool, AveragePool, LpPool: a kernel over each channel."""
    sizes = step.node.numbers("kernel_shape")
    if sizes is None:
        raise step.refusal("says no kernel_shape")
    if len(step.node.outputs) > 1 and step.node.outputs[1]:
        raise step.refusal("gives the places of the maxima in the whole map")
    return (_slide(step, sizes, step.tensor.shape[1], ceil=bool(step.node.number("ceil_mode", 0))),)


def transposed_convolution(step: Step) -> tuple[Value, ...]:
    """ConvTranspose."""
    shape, sides, auto = _weights(step, 1), step.tensor.shape[2:], step.node.text("auto_pad", "NOTSET")
    if step.node.numbers("output_shape"):
        raise step.refusal("makes a map of a fixed size (output_shape)")
    kernels = _kernels(step, shape[2:])
    more = step.node.numbers("output_padding") or [0] * len(sides)
    if len(more) != len(sides):
        raise step.refusal("has an output_padding that does not fit its kernel")
    paired = list(zip(sides, kernels, more, strict=True))
    same = auto.startswith("SAME")
    made = [side * kernel.stride if same else spread_size(side, kernel, extra) for side, kernel, extra in paired]

    def span(place: int) -> tuple[Span, Fraction]:
        kernel = kernels[place]
        if not same:
            return spread(made[place], kernel), Fraction(1, kernel.stride)
        total = max(0, kernel.extent + more[place] - kernel.stride)
        return _either(made[place], kernel, total // 2, -(-total // 2)), Fraction(1, kernel.stride)

    return (_mapped(step, made, span, shape[1] * step.node.number("group", 1)),)


def _either(made: int, kernel: Kernel, least: int, most: int) -> Span:
    """See what either padding lets an element see: versions disagree on which end gets the odd one."""
    early, late = (spread(made, kernel._replace(before=before)) for before in (least, most))
    return Span(early.first, late.last)


def depth_to_space(step: Step) -> tuple[Value, ...]:
    """DepthToSpace, the pixel shuffle: each pixel becomes a square of side blocksize, made of its channels."""
    tensor, block = step.tensor, step.node.number("blocksize", 0)
    if tensor.rank != 4 or tensor.axes[1] is not Axis.OTHER or block < 1 or tensor.shape[1] % block**2:
        raise step.refusal(f"cannot make squares of {block} pixels out of a tensor of shape {tensor.shape}")
    made = [side * block for side in tensor.shape[2:]]

    def span(place: int) -> tuple[Span, Fraction]:
        index = np.arange(made[place]) // block
        return Span(index, index), Fraction(1, block)

    return (_mapped(step, made, span, tensor.shape[1] // block**2),)


def space_to_depth(step: Step) -> tuple[Value, ...]:
    """SpaceToDepth: each square of side blocksize becomes the channels of one pixel."""
    tensor, block = step.tensor, step.node.number("blocksize", 0)
    if tensor.rank != 4 or tensor.axes[1] is not Axis.OTHER or block < 1 or any(s % block for s in tensor.shape[2:]):
        raise step.refusal(f"cannot cut a tensor of shape {tensor.shape} into squares of {block} pixels")
    made = [side // block for side in tensor.shape[2:]]

    def span(place: int) -> tuple[Span, Fraction]:
        return slid(tensor.shape[2 + place], Kernel(block, block, 1, 0, 0)), Fraction(block)

    return (_mapped(step, made, span, tensor.shape[1] * block**2),)


def padding(step: Step) -> tuple[Value, ...]:
    """Pad, in any mode; negative pads crop."""
    tensor = step.tensor
    pads = step.ints(1, "pads") or []
    axes = [step.axis(axis, tensor.rank) for axis in step.ints(3, "axes") or range(tensor.rank)]
    if len(pads) != 2 * len(axes):
        raise step.refusal(f"has {len(pads)} pads for {len(axes)} axes")
    shape, lines = list(tensor.shape), dict(tensor.lines)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        kind = tensor.axes[axis]
        if kind is Axis.BATCH and (before or after):
            raise step.refusal("adds images to a batch")
        shape[axis] = step.longest(shape[axis] + before + after)
        if kind in SPATIAL and (before or after):
            index = np.arange(shape[axis]) - before
            lines[kind] = lines[kind].through(Span(index, index), Fraction(1))
    return (Tensor(tuple(shape), tensor.axes, lines),)


def resize(step: Step) -> tuple[Value, ...]:
    """Resize of any opset and its forerunner Upsample."""
    tensor = step.tensor
    old = step.node.op == "Upsample" or step.opset < 11
    if step.node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.refusal("keeps the aspect ratio of the whole map")
    axes = [step.axis(axis, tensor.rank) for axis in step.node.numbers("axes") or range(tensor.rank)]
    sizes = None if old else step.ints(3, "sizes")
    made = _made_by_scales(step, axes, old=old) if sizes is None else _made_by_sizes(step, axes, sizes)
    shape, lines = list(tensor.shape), dict(tensor.lines)
    for axis, (size, factor) in made.items():
        kind = tensor.axes[axis]
        if kind not in SPATIAL and size != shape[axis]:
            raise step.refusal(f"stretches the {kind.value} axis")
        shape[axis] = step.longest(size)
        if kind in SPATIAL and factor != 1:
            lines[kind] = _stretched(step, lines[kind], size, factor, old=old)
    return (Tensor(tuple(shape), tensor.axes, lines),)


def _made_by_scales(step: Step, axes: Sequence[int], *, old: bool) -> dict[int, tuple[int, Fraction]]:
    said = step.node.attributes.get("scales")
    values = step.values(1 if old else 2) if said is None else np.asarray(said)
    if values is None or len(values) != len(axes):
        raise step.refusal("has neither scales nor sizes that can be worked out beforehand")
    made = {}
    for axis, value in zip(axes, values, strict=True):
        scale = float(np.float32(value))
        factor = Fraction(scale).limit_denominator(SIMPLE) if 0 < scale <= SIMPLE else Fraction(0)
        if not factor or abs(float(factor) - scale) > 1e-6 * scale or factor.numerator > SIMPLE:
            raise step.refusal(f"stretches by {scale:g}, which is no simple ratio")
        # ^ runtimes multiply in float32, so a third may make one element less than a third: the sizes will show it
        made[axis] = (int(np.float32(step.tensor.shape[axis]) * np.float32(value)), factor)
    return made


def _made_by_sizes(step: Step, axes: Sequence[int], sizes: list[int]) -> dict[int, tuple[int, Fraction]]:
    """Read sizes; where they were written for one size of image, their ratio to it is what they mean."""
    shape, said = step.tensor.shape, tuple(sizes)
    if len(sizes) != len(axes):
        raise step.refusal(f"has {len(sizes)} sizes for {len(axes)} axes")
    step.note = Note(shape, said)
    for place, axis in enumerate(axes):
        meant = step.meant
        if meant and sizes[place] == meant.numbers[place] and shape[axis] != meant.shape[axis]:
            size = Fraction(shape[axis] * sizes[place], meant.shape[axis])
            if size.denominator != 1:
                raise step.refusal(f"stretches {meant.shape[axis]} pixels to {sizes[place]}, which is no simple ratio")
            sizes[place] = int(size)
    if tuple(sizes) != said:
        step.repair = Repair(3, np.asarray(sizes, np.int64))
    return {axis: (size, Fraction(size, shape[axis])) for axis, size in zip(axes, sizes, strict=True)}


def _stretched(step: Step, line: Line, size: int, factor: Fraction, *, old: bool) -> Line:
    coordinates = "asymmetric" if old else step.node.text("coordinate_transformation_mode", "half_pixel")
    rounding = "simple" if old else step.node.text("nearest_mode", "round_prefer_floor")
    stretch = Stretch(factor, step.node.text("mode", "nearest"), coordinates, rounding)
    if max(factor.numerator, factor.denominator) > SIMPLE:
        raise step.refusal(f"makes {size} pixels of {len(line)}: no simple ratio, or sizes that follow no image")
    if coordinates not in LOCAL_COORDINATES:
        raise step.refusal(f"lays the corners of the whole map over each other ({coordinates})")
    if stretch.mode not in {"nearest", "linear", "cubic"}:
        raise step.refusal(f"has a mode, {stretch.mode}, that is not known")
    if step.node.number("antialias", 0) and factor < 1:
        raise step.refusal("smooths before it shrinks (antialias), which depends on where the map begins")
    if not stretch.steady(size):
        raise step.refusal(f"takes the nearest pixel by a factor, {factor}, that is rounded otherwise here and there")
    if not stretch.exact:
        step.inexact = f"{step.node.title} is {stretch.mode} by a factor, {factor}, that is no power of two"
    return line.through(stretch.span(size), 1 / factor)


SLIDING: dict[str, Rule] = {
    "Conv": convolution(1),
    "ConvInteger": convolution(1),
    "FusedConv": convolution(1),
    "QLinearConv": convolution(3),
    "ConvTranspose": transposed_convolution,
    "MaxPool": pooling,
    "AveragePool": pooling,
    "LpPool": pooling,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Pad": padding,
    "Resize": resize,
    "Upsample": resize,
}
