"""A raster brought to another grid, pixel by pixel by global coordinates: what a pixel becomes depends on no window.

Along each axis, a pixel i of the grid covers [i × scale + offset, (i + 1) × scale + offset) of the raster. Where the
raster is finer (scale above 1) the pixel is the mean of what it covers, each by the length covered; where it is
coarser, the line between the two nearest centres. Invalid pixels have no weight; a pixel is valid where any is left.

Every pixel is the same few products, added in the same order, wherever the rectangle begins: no matrix product, whose
order of summation depends on its shape. Coordinates are whole numbers over one denominator, so no rounding decides a
neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect

Read = Callable[[Rect], tuple[NDArray[Any], NDArray[np.bool_]]]


@dataclass(frozen=True, slots=True)
class Taps:
    """For each pixel along an axis of the grid: which pixels of the raster it is made of, and by which weights.

    `index` (tap, pixel) lies in [0, size); `weight` (tap, pixel) float64 is 0 for what is not there.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, start: int, stop: int, scale: Fraction, offset: Fraction, size: int) -> Taps:
        """The taps of the grid's pixels start…stop−1 along an axis of `size` pixels of the raster."""
        unit = lcm(2 * scale.denominator, offset.denominator)
        step, begin = int(scale * unit), int(offset * unit)
        left = np.arange(start, stop, dtype=np.int64) * step + begin  # in 1/unit of a pixel of the raster
        first, weights = (_covered if scale > 1 else _between)(left, step, unit)
        index = first + np.arange(len(weights), dtype=np.int64)[:, None]
        beyond = (left + step <= 0) | (left >= size * unit)
        if scale > 1:
            weights = np.where((index >= 0) & (index < size), weights, 0.0)
        return cls(np.clip(index, 0, size - 1), np.where(beyond, 0.0, weights))

    @property
    def span(self) -> tuple[int, int]:
        """The half-open range of the raster's pixels that are needed."""
        return int(self.index.min()), int(self.index.max()) + 1


def _covered(left: NDArray[np.int64], step: int, unit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each pixel of the raster by how much of it lies in [left, left + step)."""
    first = left // unit
    taps = first + np.arange(ceil(step / unit) + 1, dtype=np.int64)[:, None]
    shared = np.minimum((taps + 1) * unit, left + step) - np.maximum(taps * unit, left)
    return first, np.maximum(shared, 0) / step


def _between(left: NDArray[np.int64], step: int, unit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The two pixels whose centres are on both sides of the middle, each by the other's distance."""
    middle = left + step // 2 - unit // 2  # both are whole: unit is even, and a multiple of twice scale's denominator
    first = middle // unit
    part = (middle - first * unit) / unit
    return first, np.stack([1.0 - part, part])


def resampled(
    read: Read, rect: Rect, scale: tuple[Fraction, Fraction], offset: tuple[Fraction, Fraction], size: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a rectangle of the grid out of a raster.

    `read` gives (pixels (band, row, col), valid (row, col)) of a rectangle inside the raster, whose sides are `size`
    (rows, cols), all of them finite. Returns the same of `rect`, in the raster's dtype; whole numbers are rounded,
    halves upwards. What lies beyond the raster is invalid. Pixels that are invalid hold 0.
    """
    rows = Taps.of(rect.top, rect.bottom, scale[0], offset[0], size[0])
    cols = Taps.of(rect.left, rect.right, scale[1], offset[1], size[1])
    (top, bottom), (left, right) = rows.span, cols.span
    pixels, valid = read(Rect(top, left, bottom, right))
    everywhere = bool(valid.all())
    weights = _gathered(valid.astype(np.float64), rows, cols, top, left)
    inside = weights > 0
    divisor = np.where(inside, weights, 1.0)
    made = np.zeros((len(pixels), *rect.shape), pixels.dtype)
    for band, into in zip(pixels, made, strict=True):
        known = band.astype(np.float64)
        summed = _gathered(known if everywhere else np.where(valid, known, 0.0), rows, cols, top, left) / divisor
        into[...] = _held(np.where(inside, summed, 0.0), pixels.dtype)
    return made, inside


def _gathered(values: NDArray[np.float64], rows: Taps, cols: Taps, top: int, left: int) -> NDArray[np.float64]:
    """The weighted sums of `values` (row, col), first down, then across, tap by tap."""
    down = np.zeros((rows.index.shape[1], values.shape[1]))
    for index, weight in zip(rows.index - top, rows.weight, strict=True):
        down += values[index] * weight[:, None]
    made = np.zeros((down.shape[0], cols.index.shape[1]))
    for index, weight in zip(cols.index - left, cols.weight, strict=True):
        made += down[:, index] * weight
    return made


def _held(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.floor(values + 0.5), limits.min, limits.max).astype(dtype)
