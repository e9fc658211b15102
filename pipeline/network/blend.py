"""Blending: the mean of all windows that cover a pixel, for networks that no margin makes exact.

Each window has a say in each of its pixels, by a Gaussian weight that is largest in its middle and positive everywhere,
so that every pixel has a mean. The sums of a pixel are taken in float32, in the order of the windows' origins in the
scene, by operations on single pixels: they come out the same, bit for bit, whatever part of the scene is asked for.
At most one window's height of rows is held, over the width that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect

SIGMA = 0.125  # of the window's side, as MONAI's sliding window has it
FLOOR = 1e-3  # the least weight, beside 1 in the middle: sums of smaller ones would drown in float32's rounding


@lru_cache(maxsize=8)
def weights(window: int) -> NDArray[np.float32]:
    """Say how much a window's pixels count: (window, window) float32 from FLOOR at the corners to 1 in the middle."""
    if window < 1:
        raise ValueError(f"a window has at least one pixel, not {window}")
    from_middle = np.arange(window, dtype=np.float64) - (window - 1) / 2
    along = np.exp(-0.5 * (from_middle / (SIGMA * window)) ** 2)
    table: NDArray[np.float32] = np.maximum(np.outer(along, along) / along.max() ** 2, FLOOR).astype(np.float32)
    table.flags.writeable = False  # it is shared by all who ask
    return table


def blended(
    owned: Rect, predictions: Iterable[tuple[Rect, NDArray[np.float32]]]
) -> Iterator[tuple[Rect, NDArray[np.float32], NDArray[np.float32]]]:
    """Blend the windows that cover `owned`, a band of rows at a time.

    Parameters
    ----------
    owned
        The rectangle of the scene to fill.
    predictions
        (window, values) in the order of the windows' origins, row by row: square windows of one side, values
        (channel, side, side) float32. Every window of the scene that meets `owned` must come, and may only come once.

    Yields (band, mean, spread) from top to bottom: bands of rows that tile `owned`, mean (channel, row, col) float32,
    and spread (row, col) float32, the largest difference over the channels between the windows that cover the pixel
    (0 where one alone does). Raises ValueError where windows come out of order or leave a pixel uncovered.

    """
    band: _Band | None = None
    last = None
    for window, values in predictions:
        if window.intersect(owned).area == 0:
            continue
        if last is not None and (window.top, window.left) <= last:
            raise ValueError(f"the window at {(window.top, window.left)} came after the one at {last}")
        last = (window.top, window.left)
        if band is None:
            band = _Band(owned, values.shape[0], window.height)
        if window.top > band.top:
            yield band.finished(window.top)
        band.add(window, values)
    if band is None:
        raise ValueError(f"no window covers {owned}")
    yield band.finished(owned.bottom)


class _Band:
    """The rows of `owned` that windows still to come may change, and the running sums of their pixels."""

    def __init__(self, owned: Rect, channels: int, side: int) -> None:
        rows = min(side, owned.height)
        self.owned = owned
        self.top = owned.top  # the scene's row of the buffers' row 0
        self.sums = np.zeros((channels, rows, owned.width), np.float32)
        self.total = np.zeros((rows, owned.width), np.float32)
        self.high = np.full_like(self.sums, -np.inf)
        self.low = np.full_like(self.sums, np.inf)

    def add(self, window: Rect, values: NDArray[np.float32]) -> None:
        """Lay one window's part of `owned` over the sums."""
        part = window.intersect(self.owned)
        here, there = part.slices(window), (part.top - self.top, part.left - self.owned.left)
        buffer = slice(there[0], there[0] + part.height), slice(there[1], there[1] + part.width)
        seen, weight = values[:, *here], weights(window.height)[here]
        self.sums[:, *buffer] += seen * weight
        self.total[buffer] += weight
        np.maximum(self.high[:, *buffer], seen, out=self.high[:, *buffer])
        np.minimum(self.low[:, *buffer], seen, out=self.low[:, *buffer])

    def finished(self, bottom: int) -> tuple[Rect, NDArray[np.float32], NDArray[np.float32]]:
        """Give away the rows above the scene's row `bottom` and make room for as many below."""
        rows = bottom - self.top
        band = Rect(self.top, self.owned.left, bottom, self.owned.right)
        total = self.total[:rows]
        if rows > len(total) or not total.all():
            raise ValueError(f"not every pixel of {band} is covered by a window")
        mean = self.sums[:, :rows] / total
        spread = (self.high[:, :rows] - self.low[:, :rows]).max(axis=0)
        for buffer, empty in ((self.sums, 0), (self.total, 0), (self.high, -np.inf), (self.low, np.inf)):
            kept = buffer.shape[-2] - rows
            buffer[..., :kept, :] = buffer[..., rows:, :]
            buffer[..., kept:, :] = empty
        self.top = bottom
        return band, mean, spread
