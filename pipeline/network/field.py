"""How far a network looks, read off its ONNX graph: its stride, its reach, and how its output lies over its input.

With windows whose origins are multiples of the stride and whose margins are at least the reach, the cores are, bit for
bit, what one pass over the whole image gives. Where nothing of the kind holds, because some operator mixes all pixels
or is not known, the network is *unbounded* and the reason names the node.

The graph is followed at a few sizes of image, multiples of its stride, element by element (`walk.py`, `lines.py`): a
size that does not follow the image, or a reach that depends on it, shows as a difference between two walks.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm

import numpy as np
import onnx

from pipeline.errors import ModelError
from pipeline.network.graph import Graph, Layout, inlined, layout_of, read_graph
from pipeline.network.lines import Line
from pipeline.network.relax import relaxed, written
from pipeline.network.trace import Axis, MixesError, VanishesError
from pipeline.network.walk import Seen, Walk

__all__ = ["Field", "field_of", "layout_of", "relaxed"]

FREE = 3840  # the side at which a network of any size is followed first: 2⁸ × 15, so that most strides divide it
SIDES = (512, 2048, 8192, 32768)  # about how large the images are at which it is followed; more where it looks further
LARGEST_STRIDE = 4096


@dataclass(frozen=True, slots=True)
class Field:
    """How far a network looks. Pixels are the input's; all numbers hold for rows and for columns.

    Parameters
    ----------
    stride
        The smallest shift of the image that shifts every tensor by whole elements.
    reach
        How far an output pixel sees beyond the input pixels that it stands for, to each side: the largest over all
        output pixels and sides, and at least what padding at a window's rim can touch.
    scale
        Input pixels per output pixel; 1 where the sizes are the same.
    offset
        The input row and column of the output's first pixel: not 0 for networks without padding.
    inexact
        Why windows and one pass agree to rounding (1e-4) only; None where they agree bit for bit.
    unbounded
        Why no margin is enough, naming the node; None for a bounded network. Of the other numbers only `offset` then
        means something, for windows of the side at which it was measured.

    """

    stride: int = 1
    reach: int = 0
    scale: Fraction = Fraction(1)
    offset: int = 0
    inexact: str | None = None
    unbounded: str | None = None

    def __post_init__(self) -> None:
        if self.stride < 1 or self.reach < 0 or self.scale <= 0:
            raise ValueError(
                f"stride {self.stride} and scale {self.scale} must be positive, reach {self.reach} not less"
            )

    @property
    def bounded(self) -> bool:
        """Whether a margin makes windows exact."""
        return self.unbounded is None

    @property
    def margin(self) -> int:
        """The smallest margin that is exact and aligned: the reach, rounded up to a multiple of the stride."""
        return -(-self.reach // self.stride) * self.stride


def field_of(model: onnx.ModelProto, output: str | None = None, layout: Layout | None = None) -> Field:
    """Read stride, reach, scale and offset off a network.

    Parameters
    ----------
    model
        The network; one of a fixed size is read as `relaxed` makes it fit another.
    output
        The output's name; the first where it is not said.
    layout
        Where the channels stand in the input; told from the declared sides where it is not said.

    Raises ModelError where the network is broken or its output is no mask (no batch, rows and columns in this order).

    """
    graph = read_graph(inlined(model), output, layout)
    if graph.output_rank is not None and graph.output_rank not in {3, 4}:
        raise ModelError(
            f"The network's output `{graph.output}` has {graph.output_rank} axes; a mask has 4 (batch, classes, rows "
            "and columns) or 3 (batch, rows and columns)."
        )
    try:
        return _bounded(graph)
    except MixesError as reason:
        return Field(unbounded=str(reason))


def _bounded(graph: Graph) -> Field:
    meant = written(graph)
    first = meant or Walk.through(graph, FREE, FREE)
    _check_output(graph, first)
    stride = _stride(first.trail)
    for side in SIDES:
        count = max(8, side // stride)
        try:
            one = Walk.through(graph, count * stride, (count + 2) * stride, meant=meant)
            other = Walk.through(graph, (count + 3) * stride, (count + 1) * stride, meant=meant)
        except VanishesError:
            continue
        _check_sizes(one, other)
        looks = [_look(line, pixels, stride) for walk in (one, other) for line, pixels in _axes(walk)]
        known = [look for look in looks if look is not None]
        if len(known) == len(looks):
            return _summed(graph.output, stride, known, one.inexact)
    raise MixesError(f"its output `{graph.output}` sees further than {SIDES[-1] // 2} pixels")


def _axes(walk: Walk) -> list[tuple[Line, int]]:
    return [(walk.result.lines[Axis.ROWS], walk.height), (walk.result.lines[Axis.COLS], walk.width)]


def _check_output(graph: Graph, walk: Walk) -> None:
    axes = walk.result.axes
    if len(axes) not in {3, 4} or axes[0] is not Axis.BATCH or axes.index(Axis.ROWS) > axes.index(Axis.COLS):
        order = ", ".join(axis.value for axis in axes)
        raise ModelError(
            f"The network's output `{graph.output}` holds {order}; a mask holds batch, classes, rows and columns, or "
            "batch, rows, columns and classes, or batch, rows and columns."
        )


def _stride(trail: list[Seen]) -> int:
    """Find the smallest shift that is a whole number of elements in every tensor: the numerators' least multiple."""
    stride = 1
    for seen in trail:
        stride = lcm(stride, *(scale.numerator for scale in seen.scales))
        if stride > LARGEST_STRIDE:
            raise MixesError(f"{seen.title} makes the total stride larger than {LARGEST_STRIDE} pixels")
    return stride


def _check_sizes(one: Walk, other: Walk) -> None:
    """Refuse tensors whose size does not follow the image's, by the first node that makes one."""
    for mine, theirs in zip(one.trail, other.trail, strict=True):
        if mine != theirs:
            raise MixesError(f"{mine.title} makes a map whose size does not follow the image's")


@dataclass(frozen=True, slots=True)
class _Look:
    """What one axis of the output says."""

    reach: int
    scale: Fraction
    offset: Fraction


def _look(line: Line, pixels: int, stride: int) -> _Look | None:
    """Measure reach and offset of the output along one axis; None where the image was too small to tell.

    An output pixel i stands for the input pixels from scale × i + offset on, `scale` of them, or for the one that it
    lies in. The offset is what makes the output lie in the middle of the input.
    """
    clean = np.flatnonzero(line.clean)
    if len(clean) * line.scale < 2 * stride:
        return None
    offset = (pixels - len(line) * line.scale) / 2
    shift = floor(offset)
    index, above, below = np.arange(len(line)), line.scale.numerator, line.scale.denominator
    start = index * above // below + shift
    stop = np.maximum(start, -(-(index + 1) * above // below) - 1 + shift)
    left = int(np.max(start[clean] - line.first[clean]))
    right = int(np.max(line.last[clean] - stop[clean]))
    # Padding reaches inwards to the first and from the last clean pixel; after a crop, that can be further.
    from_left = int(start[clean[0] - 1]) + 1 if clean[0] > 0 else 0
    from_right = pixels - int(start[clean[-1] + 1]) if clean[-1] + 1 < len(line) else 0
    return _Look(max(0, left, right, from_left, from_right, shift), line.scale, offset)


def _summed(output: str, stride: int, looks: list[_Look], inexact: str | None) -> Field:
    scales, offsets = {look.scale for look in looks}, {look.offset for look in looks}
    if len(scales) > 1:
        raise MixesError(
            f"its output `{output}` has other scales down and across: {' and '.join(map(str, sorted(scales)))}"
        )
    if len(offsets) > 1 or offsets.copy().pop().denominator != 1:
        raise MixesError(
            f"its output `{output}` lies {' and '.join(map(str, sorted(offsets)))} pixels inside its input"
        )
    offset = int(offsets.pop())
    return Field(stride, max(look.reach for look in looks), scales.pop(), offset, inexact)
