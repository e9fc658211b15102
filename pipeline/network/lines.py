"""How the elements of a tensor lie over the image, along one axis: rows or columns. Needs numpy alone.

A `Line` holds, for each element along the axis, the first and the last input pixel that it sees. Every local operator
is then one statement, "element i of the result is made of elements first[i] … last[i] of the operand", and the field
of a whole network is the composition of such statements. Where padding has a say, an element is marked as unclean,
and so is all that is made of it: what is clean has the same value in a window as in one pass over the whole image.

Sources: Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning" (sizes of convolutions,
poolings and transposed convolutions); the ONNX operator specification (Resize's coordinates, automatic padding).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

FAR = 1 << 40  # beyond any image: the bound of an element in which padding has a say

Index = NDArray[np.int64]


class Span(NamedTuple):
    """Which elements of the operand each element of the result is made of; they may lie beyond its ends."""

    first: Index
    last: Index


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One axis of a tensor, seen from the image.

    Parameters
    ----------
    scale
        Input pixels per element.
    first, last
        The first and the last input pixel that each element sees, int64; −FAR and FAR where padding has a say.

    """

    scale: Fraction
    first: Index
    last: Index

    @classmethod
    def image(cls, pixels: int) -> Self:
        """Make the line of the input itself: each pixel sees itself."""
        return cls(Fraction(1), np.arange(pixels), np.arange(pixels))

    def __len__(self) -> int:
        """How many elements there are."""
        return len(self.first)

    @property
    def clean(self) -> NDArray[np.bool_]:
        """Which elements are made of pixels of the image alone; padding comes from the ends, so they lie together."""
        return (self.first > -FAR) & (self.last < FAR)

    def through(self, span: Span, factor: Fraction) -> Line:
        """Compose with an operator whose result has `factor` times as many pixels per element."""
        inside = (span.first >= 0) & (span.last < len(self))
        first = self.first[np.clip(span.first, 0, len(self) - 1)]
        last = self.last[np.clip(span.last, 0, len(self) - 1)]
        return Line(self.scale * factor, np.where(inside, first, -FAR), np.where(inside, last, FAR))

    def merged(self, other: Line) -> Line:
        """See what either sees; both have the same scale and the same number of elements."""
        if self is other:
            return self
        return Line(self.scale, np.minimum(self.first, other.first), np.maximum(self.last, other.last))


class Kernel(NamedTuple):
    """A window that slides along one axis: of a convolution or a pooling. All in elements of the operand."""

    size: int
    stride: int
    dilation: int
    before: int  # padding
    after: int

    @property
    def extent(self) -> int:
        """From the kernel's first element to its last, both counted."""
        return self.dilation * (self.size - 1) + 1


def automatic_padding(kind: str, size: int, kernel: Kernel) -> Kernel:
    """Resolve `auto_pad`: VALID pads nothing; SAME makes ⌈size / stride⌉, an odd pad goes after (UPPER) or before."""
    if kind == "VALID":
        return kernel._replace(before=0, after=0)
    if kind not in {"SAME_UPPER", "SAME_LOWER"}:
        return kernel
    total = max(0, (-(-size // kernel.stride) - 1) * kernel.stride + kernel.extent - size)
    before = total // 2 if kind == "SAME_UPPER" else total - total // 2
    return kernel._replace(before=before, after=total - before)


def slid_size(size: int, kernel: Kernel, *, ceil: bool = False) -> int:
    """Say how many elements a convolution or pooling makes of `size`; not positive where the kernel does not fit."""
    room = size + kernel.before + kernel.after - kernel.extent
    if not ceil:
        return room // kernel.stride + 1
    made = -(-room // kernel.stride) + 1
    starts_beyond = (made - 1) * kernel.stride >= size + kernel.before
    return made - 1 if starts_beyond else made  # a window that holds padding alone is dropped


def slid(size: int, kernel: Kernel, *, ceil: bool = False) -> Span:
    """Span of a convolution or a pooling over `size` elements."""
    first = np.arange(slid_size(size, kernel, ceil=ceil)) * kernel.stride - kernel.before
    return Span(first, first + kernel.extent - 1)


def spread_size(size: int, kernel: Kernel, more: int) -> int:
    """Say how many elements a transposed convolution makes of `size`, with `more` as output padding."""
    return kernel.stride * (size - 1) + more + kernel.extent - kernel.before - kernel.after


def spread(made: int, kernel: Kernel) -> Span:
    """Span of a transposed convolution that makes `made` elements.

    Element i gathers j where i + before = stride × j + dilation × k for one of the kernel's k. Where the stride leaves
    gaps, an element sees nothing; it is taken to see its left neighbour's, which is more than the truth.
    """
    where = np.arange(made) + kernel.before
    last = where // kernel.stride
    return Span(np.minimum(last, -((kernel.extent - 1 - where) // kernel.stride)), last)


class Stretch(NamedTuple):
    """What a Resize does along one axis."""

    factor: Fraction  # elements made per element
    mode: str  # nearest, linear or cubic
    coordinates: str  # coordinate_transformation_mode
    rounding: str  # nearest_mode

    @property
    def exact(self) -> bool:
        """Whether float32 holds all coordinates, so that the weights are the same wherever a window begins."""
        return self.mode == "nearest" or _power_of_two(self.factor.numerator * self.factor.denominator)

    def numerators(self, made: int) -> Index:
        """Coordinates in the operand of the `made` elements, times twice the factor's numerator."""
        index, down = np.arange(made), self.factor.denominator
        if self.coordinates == "asymmetric":
            return 2 * index * down
        if self.coordinates == "tf_half_pixel_for_nn":
            return (2 * index + 1) * down
        return (2 * index + 1) * down - self.factor.numerator

    def span(self, made: int) -> Span:
        """Span of the `made` elements."""
        whole = 2 * self.factor.numerator
        at = self.numerators(made)
        if self.mode == "nearest":
            nearest = self._rounded(at, whole)
            return Span(nearest, nearest)
        floor = at // whole
        if self.mode == "cubic":
            return Span(floor - 1, floor + 2)
        return Span(floor, floor + (at % whole > 0))

    def steady(self, made: int) -> bool:
        """Whether rounding to the nearest element is the same everywhere, though float32 may not hold the factor."""
        if self.mode != "nearest" or _power_of_two(self.factor.denominator):
            return True
        shift = 0 if self.rounding in {"floor", "ceil", "simple"} else self.factor.numerator
        return bool(np.all((self.numerators(made) + shift) % (2 * self.factor.numerator)))

    def _rounded(self, at: Index, whole: int) -> Index:
        half = whole // 2
        if self.rounding == "floor":
            return at // whole
        if self.rounding == "ceil":
            return -(-at // whole)
        if self.rounding == "simple":  # before opset 11: upwards where the map shrinks
            return at // whole if self.factor >= 1 else -(-at // whole)
        if self.rounding == "round_prefer_ceil":
            return (at + half) // whole
        return -((half - at) // whole)


def _power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
