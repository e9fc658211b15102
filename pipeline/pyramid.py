"""The coarser levels of a result: each shard made once, from the finished level below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as pairs

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect
from pipeline.settings import NODATA, STEPS
from pipeline.store.hierarchy import Product, levels
from pipeline.store.objects import Shard
from pipeline.store.sink import Sink


def mode(raster: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve a raster of classes, (rows, cols): the most frequent value of each 2 × 2, ties to the lowest.

    NODATA has no vote, and completes a side that is odd.
    """
    a, b, c, d = _quarters(raster)
    # Sort the four (a network of five comparisons): NODATA, the highest value, comes last.
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    later = np.where((b == c) & (b != NODATA), b, np.where((c == d) & (c != NODATA), c, a))
    return np.where(a == b, a, later).astype(np.uint8, copy=False)


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


def _quarters(raster: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    rows, cols = raster.shape[-2:]
    flat = [(0, 0)] * (raster.ndim - 2)
    even = np.pad(raster, [*flat, (0, rows % 2), (0, cols % 2)], constant_values=NODATA)
    return tuple(even[..., row::2, col::2] for row in (0, 1) for col in (0, 1))


def build(
    sink: Sink, products: tuple[Product, ...], height: int, width: int, shard: int
) -> Iterator[tuple[int, dict[str, Shard]]]:
    """Make all coarser levels, finest first.

    Yields, for each place of a shard, the pixels made and what was put, by "product/level/row/col".
    """
    sizes = levels(height, width)
    for level, (rows, cols) in enumerate(sizes[1:], start=1):
        below = Rect(0, 0, *sizes[level - 1])
        for top, left in pairs(range(0, rows, shard), range(0, cols, shard)):
            rect = Rect(top, left, top + shard, left + shard).intersect(Rect(0, 0, rows, cols))
            source = Rect(2 * rect.top, 2 * rect.left, 2 * rect.bottom, 2 * rect.right).intersect(below)
            made = {}
            for one in products:
                halve = mode if one.name == "mask" else mean
                key = f"{one.name}/{level}/{top // shard}/{left // shard}"
                made[key] = sink.put_level(one.name, level, rect, halve(sink.read(one.name, source, level - 1)))
            yield rect.area, made
