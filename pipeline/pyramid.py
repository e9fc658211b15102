"""The coarser levels of a result: each shard made once, from the finished level below."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product as pairs
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect
from pipeline.settings import STEPS, statuses
from pipeline.store.hierarchy import Product
from pipeline.store.objects import Shard
from pipeline.store.sink import Sink

ROWS = 64  # that are made at a time: what comes and goes meanwhile stays in the processor's cache
Unsigned = TypeVar("Unsigned", np.uint8, np.uint16)


def mode(raster: NDArray[Unsigned]) -> NDArray[Unsigned]:
    """Halve a raster of classes, (rows, cols): the most frequent value of each 2 × 2, ties to the lowest.

    Nodata, the highest number of its type, has no vote, and completes a side that is odd.
    """
    nodata = np.iinfo(raster.dtype).max
    a, b, c, d = _quarters(raster)
    # Sort the four (a network of five comparisons): nodata, the highest value, comes last.
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    later = np.where((b == c) & (b != nodata), b, np.where((c == d) & (c != nodata), c, a))
    halved: NDArray[Unsigned] = np.where(a == b, a, later).astype(raster.dtype, copy=False)
    return halved


def mode_by_band(raster: NDArray[Unsigned]) -> NDArray[Unsigned]:
    """Halve bands of 0, 1 and statuses that all bands share, (class, rows, cols).

    Where the mode is a status, all bands have it; else 1 where more of the predicted pixels are 1 than 0.
    """
    failed = int(statuses(raster.dtype).failed)
    alone: NDArray[Unsigned] = np.where(raster[0] < failed, 0, raster[0]).astype(raster.dtype, copy=False)
    status: NDArray[Unsigned] = mode(alone)
    halved: NDArray[Unsigned] = np.empty((len(raster), *status.shape), raster.dtype)
    for band, made in zip(raster, halved, strict=True):
        ones, noughts = (sum((part == n).astype(np.int8) for part in _quarters(band)) for n in (1, 0))
        made[:] = np.where(status < failed, ones > noughts, status)
    return halved


def mean(raster: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve a raster of steps, (…, rows, cols): the mean of those of each 2 × 2 that hold one, rounded half up.

    Where none does, the lowest status.
    """
    four = np.stack(_quarters(raster)).astype(np.uint16)
    holds = four <= STEPS
    count = holds.sum(axis=0, dtype=np.uint16)
    total = (four * holds).sum(axis=0, dtype=np.uint16)
    averaged = (2 * total + count) // np.maximum(2 * count, 1)
    halved: NDArray[np.uint8] = np.where(count > 0, averaged, four.min(axis=0)).astype(np.uint8)
    return halved


def mean_of_numbers(raster: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve a raster of numbers, (…, rows, cols): the mean of what is finite in each 2 × 2, summed in float64.

    Not a number where nothing is.
    """
    quarters = _quarters(raster)
    total, count = np.zeros(quarters[0].shape), np.zeros(quarters[0].shape, np.uint8)
    for part in quarters:
        finite = np.isfinite(part)
        np.add(total, part, out=total, where=finite)
        count += finite
    with np.errstate(invalid="ignore"):  # 0 / 0 is not a number, as it is to be
        halved: NDArray[np.float32] = np.divide(total, count).astype(np.float32)
    return halved


def halving(product: Product) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """How a product is brought to half its side."""
    if product.name == "mask":
        return mode_by_band if product.channels else mode
    return mean_of_numbers if product.numbers else mean


def _quarters(raster: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    rows, cols = raster.shape[-2:]
    if rows % 2 or cols % 2:
        flat = [(0, 0)] * (raster.ndim - 2)
        fill = statuses(raster.dtype).nodata
        raster = np.pad(raster, [*flat, (0, rows % 2), (0, cols % 2)], constant_values=fill)
    # Copies, side by side in memory: what is computed of them is faster by more than they cost.
    return tuple(np.ascontiguousarray(raster[..., row::2, col::2]) for row in (0, 1) for col in (0, 1))


def build_shard(sink: Sink, product: Product, level: int, rect: Rect) -> Shard:
    """Make one shard of a coarser level, `rect` in that level's pixels, from the finished level below.

    Beside the shard memory holds a quarter of what it is made of. Raises BlockError where a shard below is damaged.
    """
    halve = halving(product)
    rows, cols = sink.shape(product.name, level - 1)[-2:]
    made = np.empty(product.shape(*rect.shape), product.dtype)
    half = Rect(0, 0, -(-rect.height // 2), -(-rect.width // 2))
    for top, left in pairs((0, half.height), (0, half.width)):
        part = Rect(top, left, top + half.height, left + half.width).intersect(Rect(0, 0, *rect.shape))
        at = Rect(rect.top + part.top, rect.left + part.left, rect.top + part.bottom, rect.left + part.right)
        below = Rect(2 * at.top, 2 * at.left, 2 * at.bottom, 2 * at.right).intersect(Rect(0, 0, rows, cols))
        if part.area:
            raster = sink.read(product.name, below, level - 1)
            for row in range(0, part.height, ROWS):
                stripe = made[..., part.top + row : min(part.top + row + ROWS, part.bottom), part.left : part.right]
                stripe[...] = halve(raster[..., 2 * row : 2 * (row + ROWS), :])
    return sink.put_level(product.name, level, rect, made)
