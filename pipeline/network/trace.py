"""What is carried from node to node while a graph is followed: tensors as they lie over the image, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.network.graph import Known, Node
from pipeline.network.lines import Line

LONGEST = 1 << 18  # elements along an axis; a stranger's graph cannot make us hold more


class Axis(Enum):
    """What an axis of a tensor is."""

    BATCH = "batch"
    ROWS = "rows"
    COLS = "columns"
    OTHER = "channels"  # whatever may be mixed freely


SPATIAL = (Axis.ROWS, Axis.COLS)


class MixesError(Exception):
    """No margin makes this network exact. The message names the node and says why; it never leaves this wing."""


class VanishesError(MixesError):
    """A map has no element left: the image was too small to tell."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that depends on the image's pixels; it always has rows and columns.

    `shape` and `axes` say each axis' side and kind, in order; `lines` hold how rows and columns lie over the image.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    lines: Mapping[Axis, Line]

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.axes)

    def arranged(self, axes: Sequence[Axis], shape: Sequence[int]) -> Tensor:
        """Order or group the axes anew; rows and columns stay as they are."""
        return Tensor(tuple(shape), tuple(axes), self.lines)


Value: TypeAlias = Tensor | Known
Rule: TypeAlias = Callable[["Step"], tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Note:
    """What a node with sizes in it did at the size that the model was made for: its operand's shape, its numbers.

    `sources` is for reshaping: for each axis made, the operand's axis that it is, or None.
    """

    shape: tuple[int, ...]
    numbers: tuple[int, ...]
    sources: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """Numbers to put in the place of an operand that was written for another size of image."""

    position: int
    numbers: NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Step:
    """One node with its operands: what a rule sees, and where it leaves what else there is to say.

    `meant` is the note that the same node left at the size that the model was made for; None where sizes are free.
    """

    node: Node
    operands: Sequence[Value | None]
    opset: int
    meant: Note | None = None
    note: Note | None = None
    repair: Repair | None = None
    inexact: str | None = None

    def refusal(self, why: str) -> MixesError:
        """Make the error that says why no margin helps."""
        return MixesError(f"{self.node.title} {why}")

    @property
    def tensor(self) -> Tensor:
        """The first operand, which must be the only one that depends on the image."""
        if any(isinstance(item, Tensor) for item in self.operands[1:]):
            raise self.refusal("takes its weights or sizes from the image's pixels")
        first = self.operands[0]
        if not isinstance(first, Tensor):
            raise self.refusal("has a constant where the image belongs")
        return first

    def operand(self, position: int) -> Known | None:
        """Get a constant operand; None where it is left out."""
        item = self.operands[position] if position < len(self.operands) else None
        if isinstance(item, Tensor):
            raise self.refusal("takes its weights or sizes from the image's pixels")
        return item

    def values(self, position: int) -> NDArray[Any] | None:
        """Get a constant operand's values, flat; None where it is left out or empty."""
        item = self.operand(position)
        if item is None or item.shape == (0,):
            return None
        if item.values is None:
            raise self.refusal(f"has an operand, number {position + 1}, that cannot be worked out beforehand")
        return item.values.ravel()

    def ints(self, position: int, attribute: str) -> list[int] | None:
        """Get whole numbers from an attribute (old opsets) or else from an operand (new ones)."""
        said = self.node.numbers(attribute)
        if said is not None:
            return said
        values = self.values(position)
        return None if values is None else [int(item) for item in values]

    def axis(self, number: int, rank: int) -> int:
        """Resolve an axis' number, counted from the end where it is negative."""
        if not -rank <= number < rank:
            raise self.refusal(f"names axis {number} of a tensor that has {rank}")
        return number % rank

    def free(self, axes: Sequence[int]) -> None:
        """Refuse to mix along rows, columns or the images of a batch."""
        tensor = self.tensor
        for axis in axes:
            kind = tensor.axes[axis]
            if kind is not Axis.OTHER:
                what = "the images of a batch" if kind is Axis.BATCH else f"all {kind.value} of the map"
                raise self.refusal(f"mixes {what}")

    def longest(self, size: int) -> int:
        """Let a side pass that a map can have."""
        if size < 1:
            raise VanishesError(f"{self.node.title} leaves no pixel of the map")
        if size > LONGEST:
            raise self.refusal(f"makes a map of {size} pixels, which is more than {LONGEST}")
        return size
