"""The grid: how windows, cores and blocks lie over a scene. Integers only; needs numpy alone.

A scene of (height, width) pixels is cut into square *cores* of side `core`, the first at (0, 0). The network sees, for
each core, a *window* that reaches `margin` pixels further on every side. Cores and margins are multiples of the
network's total stride, so every window's origin is one too, and what a window says about its core does not depend on
which window it was. A *block* is a square of whole cores with one owner, who reads the block's `hull` and writes its
`core` rectangle.

Rectangles are half-open, (row, col), in pixels of the scene; windows may reach beyond it, where pixels are reflected.

Where the network wants another resolution than the scene has, windows and cores lie on a second grid, that of the
*view*: the scene in pixels of that resolution, `zoom` of them to a side of the scene's. Blocks stay the scene's. Each
pixel of the scene takes what the pixel of the view says in which its centre lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError

Index = TypeVar("Index", int, NDArray[np.int64])
CHUNK = 512  # px: the chunk's side where cores lie on another grid than the mask's


@dataclass(frozen=True, slots=True, order=True)
class Rect:
    """A half-open rectangle [top, bottom) × [left, right) in pixels; empty if a side is not positive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return max(0, self.bottom - self.top)

    @property
    def width(self) -> int:
        """Columns."""
        return max(0, self.right - self.left)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    def intersect(self, other: Rect) -> Rect:
        """What both cover; empty where they do not meet."""
        return Rect(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def contains(self, other: Rect) -> bool:
        """Whether `other` lies wholly inside."""
        return (
            self.top <= other.top
            and self.left <= other.left
            and self.bottom >= other.bottom
            and self.right >= other.right
        )

    def grown(self, pixels: int) -> Rect:
        """The rectangle with `pixels` more on every side."""
        return Rect(self.top - pixels, self.left - pixels, self.bottom + pixels, self.right + pixels)

    def slices(self, origin: Rect | None = None) -> tuple[slice, slice]:
        """(rows, cols) to index an array whose pixel (0, 0) is `origin`'s top left corner, or the scene's."""
        row, col = (origin.top, origin.left) if origin else (0, 0)
        return slice(self.top - row, self.bottom - row), slice(self.left - col, self.right - col)


class Stitch(StrEnum):
    """How windows become a mask."""

    EXACT = "exact"  # each core from its own window, the margin at least the reach
    BLEND = "blend"  # every window that covers a pixel has a say in it, by a positive weight


@dataclass(frozen=True, slots=True)
class Grid:
    """Cores, windows and blocks over one scene.

    Parameters
    ----------
    height, width
        The scene, in pixels.
    stride
        The network's total stride, in pixels.
    core, margin
        Sides in pixels; both multiples of `stride`. The window's side is core + 2 × margin.
    block
        Side in pixels of the scene; a whole number of cores, unless the view is of another resolution.
    stitch
        Which windows a block needs: those of its own cores, or all that reach into it.
    zoom
        Pixels of the view to a pixel of the scene, along each axis. Core, margin, stride and windows are in pixels of
        the view.

    Raises SettingsError where these laws do not hold.

    """

    height: int
    width: int
    stride: int
    core: int
    margin: int
    block: int
    stitch: Stitch = Stitch.EXACT
    zoom: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise SettingsError(f"The scene has {self.height} × {self.width} pixels; both sides must be at least 1.")
        if self.stride < 1:
            raise SettingsError(f"The stride is {self.stride}; it must be at least 1.")
        for name, side, least in (("core", self.core, self.stride), ("margin", self.margin, 0)):
            if side < least or side % self.stride:
                raise SettingsError(
                    f"The {name} is {side} pixels; it must be a multiple of the network's stride, {self.stride}, "
                    f"and at least {least}."
                )
        if self.zoom <= 0:
            raise SettingsError(f"The zoom is {self.zoom}; it must be above 0.")
        if self.zoom != 1:
            if self.block < 1 or self.block % self.chunk:
                raise SettingsError(
                    f"The block is {self.block} pixels; it must be a multiple of {CHUNK}, or at most that."
                )
        elif self.block < self.core or self.block % self.core:
            below = max(1, self.block // self.core) * self.core
            raise SettingsError(
                f"The block is {self.block} pixels; it must be a whole number of cores of {self.core}: "
                f"take {below} or {below + self.core}."
            )

    @property
    def window(self) -> int:
        """The window's side, in pixels."""
        return self.core + 2 * self.margin

    @property
    def chunk(self) -> int:
        """The side of what a reader of the mask decodes at once, in pixels of the scene; a block is a whole number."""
        return self.core if self.zoom == 1 else min(self.block, CHUNK)

    @property
    def scene(self) -> Rect:
        """The whole scene."""
        return Rect(0, 0, self.height, self.width)

    @property
    def view(self) -> Rect:
        """The whole scene in pixels of the view."""
        return Rect(0, 0, ceil(self.height * self.zoom), ceil(self.width * self.zoom))

    @property
    def blocks(self) -> tuple[int, int]:
        """How many blocks there are: (down, across)."""
        return -(-self.height // self.block), -(-self.width // self.block)

    @property
    def cores(self) -> tuple[int, int]:
        """How many cores there are: (down, across)."""
        return -(-self.view.height // self.core), -(-self.view.width // self.core)

    def __len__(self) -> int:
        """How many blocks there are in all."""
        down, across = self.blocks
        return down * across

    def position(self, block: int) -> tuple[int, int]:
        """(row, col) of a block among the blocks; blocks are numbered row by row from 0."""
        if not 0 <= block < len(self):
            raise IndexError(f"there is no block {block}: the grid has {len(self)}")
        return divmod(block, self.blocks[1])

    def owned(self, block: int) -> Rect:
        """The pixels that a block writes: its cores, clipped to the scene."""
        row, col = self.position(block)
        top, left = row * self.block, col * self.block
        return Rect(top, left, top + self.block, left + self.block).intersect(self.scene)

    def seen(self, block: int) -> Rect:
        """The pixels of the view that a block's pixels lie in."""
        owned = self.owned(block)
        first, last = self._place(owned.top), self._place(owned.bottom - 1)
        return Rect(first, self._place(owned.left), last + 1, self._place(owned.right - 1) + 1)

    def spread(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows, columns) of `seen` that the rows and columns of `owned` take their values from."""
        owned, seen = self.owned(block), self.seen(block)
        rows = self._place(np.arange(owned.top, owned.bottom, dtype=np.int64))
        return rows - seen.top, self._place(np.arange(owned.left, owned.right, dtype=np.int64)) - seen.left

    def _place(self, pixel: Index) -> Index:
        """In which pixel of the view the centre of a pixel of the scene lies, along one axis."""
        return (2 * pixel + 1) * self.zoom.numerator // (2 * self.zoom.denominator)

    def windows(self, block: int) -> Iterator[Rect]:
        """The windows that a block computes, in the order of their origins, row by row.

        Windows whose core lies outside the scene are never computed.
        """
        rows, cols = self._seen_by(block)
        for row in rows:
            for col in cols:
                yield self.window_of(row, col)

    def window_of(self, row: int, col: int) -> Rect:
        """The window around the core at (row, col) among the cores; it may reach beyond the scene."""
        top, left = row * self.core - self.margin, col * self.core - self.margin
        return Rect(top, left, top + self.window, left + self.window)

    def core_of(self, window: Rect) -> Rect:
        """What is kept of a window in exact mode, clipped to the view."""
        return window.grown(-self.margin).intersect(self.view)

    def hull(self, block: int) -> Rect:
        """What a block reads: the smallest rectangle around all its windows; it may reach beyond the scene."""
        rows, cols = self._seen_by(block)
        first, last = self.window_of(rows[0], cols[0]), self.window_of(rows[-1], cols[-1])
        return Rect(first.top, first.left, last.bottom, last.right)

    def hull_side(self) -> int:
        """The longest side that any hull can have, in pixels of the view."""
        cores = self.block // self.core
        if self.zoom != 1:  # a block may begin and end inside a core
            cores = ceil(self.block * self.zoom / self.core) + 1
        beyond = -(-self.margin // self.core) if self.stitch is Stitch.BLEND else 0
        return (cores + 2 * beyond) * self.core + 2 * self.margin

    def computed(self, blocks: Sequence[int] | None = None) -> int:
        """Pixels that the network sees in all, windows shared by blocks counted as often as they are computed.

        Of all blocks, or of those that are given.
        """
        if blocks is not None and len(blocks) < len(self):
            return sum(len(rows) * len(cols) for rows, cols in map(self._seen_by, blocks)) * self.window**2
        down, across = self.blocks
        # A block has rows × columns of windows, so the sum over all blocks is a product of two sums.
        rows = sum(len(self._seen_by(row * across)[0]) for row in range(down))
        cols = sum(len(self._seen_by(col)[1]) for col in range(across))
        return rows * cols * self.window**2

    def _seen_by(self, block: int) -> tuple[range, range]:
        """(rows, columns) of the cores whose windows a block computes."""
        seen = self.seen(block)
        reach = self.margin if self.stitch is Stitch.BLEND else 0
        return (
            self._cores_reaching(seen.top, seen.bottom, reach, self.cores[0]),
            self._cores_reaching(seen.left, seen.right, reach, self.cores[1]),
        )

    def _cores_reaching(self, start: int, stop: int, reach: int, count: int) -> range:
        """Which cores along one axis, grown by `reach`, meet [start, stop)."""
        first = (start - reach) // self.core  # the first whose end + reach lies beyond start
        last = -(-(stop + reach) // self.core)
        return range(max(0, first), min(count, last))


def reflected(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Where the pixels start…stop−1 of an axis lie in [0, size), mirrored at its ends without repeating the end pixel.

    The period is 2 (size − 1), as numpy.pad's mode "reflect" repeats it; an axis of one pixel repeats it.
    """
    if size < 1:
        raise ValueError(f"an axis has at least one pixel, not {size}")
    index = np.arange(start, stop)
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    index = np.mod(index, period)
    return np.minimum(index, period - index)
