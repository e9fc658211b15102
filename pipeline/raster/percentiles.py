"""Percentiles of each band over a scene's valid pixels: exact, in constant memory, whatever the order of the pieces.

Numbers are turned into unsigned keys that sort as they do, and the wanted ranks are found 16 bits at a time from the
top: one pass over an image of 8 or 16 bits, two over one of 32, four over one of 64. Each pass counts, for each prefix
that a wanted rank lies under, how many keys go on in which way; counts can be added in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.raster.area import Inside
from pipeline.raster.source import Scene
from pipeline.raster.statistics import seen

_BITS = 16
_WAYS = 1 << _BITS


def percentiles(
    scene: Scene, parts: Sequence[tuple[float, float]], *, joint: bool = False, fence: Inside | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (low, high), each float64 (band,), over the finite values of the valid pixels.

    `parts` are the two percentiles that are wanted of each band, from 0 to 100; between two pixels they are
    interpolated as numpy.percentile does by default. `joint` takes all bands for one, with the first band's parts;
    with a fence, only what is inside counts. A scene without a valid pixel has 0 for both. Raises BlockError where the
    file cannot be read.
    """
    dtype = np.dtype(scene.dtype)
    dtype = np.dtype(f"{dtype.kind}{max(2, dtype.itemsize)}")  # 8 bits are counted as 16
    searches = [_Search(dtype, pair) for pair in (parts[:1] if joint else parts)]
    for digit in reversed(range(dtype.itemsize * 8 // _BITS)):
        for band, values in _values(scene, fence):
            searches[0 if joint else band].count(_keys(values.astype(dtype, copy=False)), digit)
        for search in searches:
            search.narrow()
    found = np.array([search.found() for search in searches]).T
    low, high = np.broadcast_to(found, (2, len(scene.bands)))
    return low, high


def _values(scene: Scene, fence: Inside | None) -> Iterator[tuple[int, NDArray[Any]]]:
    """(band, its values of valid pixels), piece by piece."""
    for pixels, valid in seen(scene, fence):
        for band, whole in enumerate(pixels):
            yield band, whole[valid]


def _keys(values: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers that sort as the values do."""
    size = values.dtype.itemsize
    top = np.dtype(f"u{size}").type(1 << (8 * size - 1))
    keys: NDArray[Any] = values.view(f"u{size}")
    if values.dtype.kind == "i":
        keys = keys ^ top
    elif values.dtype.kind == "f":
        keys = np.where(keys & top, ~keys, keys | top)  # negative floats sort backwards by their bits
    return keys


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """The inverse of _keys."""
    size = dtype.itemsize
    top = 1 << (8 * size - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else ~key & (2 * top - 1)
    return float(np.array(key, f"u{size}").view(dtype))


class _Search:
    """The search for two percentiles of one population: for each wanted rank, the bits of its key that are known."""

    def __init__(self, dtype: np.dtype[Any], pair: tuple[float, float]) -> None:
        self._dtype = dtype
        self._pair = pair
        self._weights: list[float] = []  # how far each percentile lies from the first of its two ranks to the second
        self._ranks: list[tuple[int, int]] = []  # (prefix, rank among the keys of this prefix), two by percentile
        self._counts: dict[int, NDArray[np.int64]] = {0: np.zeros(_WAYS, np.int64)}
        self._first = True

    def count(self, keys: NDArray[Any], digit: int) -> None:
        """Count how the keys of each prefix go on."""
        for prefix, counts in self._counts.items():
            chosen = keys if self._first else keys[keys >> (_BITS * (digit + 1)) == prefix]
            ways = chosen >> (_BITS * digit) & (_WAYS - 1)
            self._counts[prefix] = counts + np.bincount(ways.astype(np.intp), minlength=_WAYS)

    def narrow(self) -> None:
        """Lengthen each rank's prefix by what was counted."""
        if self._first:
            self._first = False
            self._ranks = self._wanted(int(self._counts[0].sum()))
        longer = []
        for prefix, rank in self._ranks:
            upto = self._counts[prefix].cumsum()
            way = int(np.searchsorted(upto, rank, side="right"))
            longer.append((prefix << _BITS | way, rank - int(upto[way - 1] if way else 0)))
        self._ranks = longer
        self._counts = {prefix: np.zeros(_WAYS, np.int64) for prefix, _ in longer}

    def _wanted(self, count: int) -> list[tuple[int, int]]:
        if not count:
            return []
        places = [part / 100 * (count - 1) for part in self._pair]
        self._weights = [place - floor(place) for place in places]
        return [(0, min(floor(place) + more, count - 1)) for place in places for more in (0, 1)]

    def found(self) -> tuple[float, float]:
        """The two percentiles; 0 where there was nothing to count."""
        if not self._ranks:
            return 0.0, 0.0
        below, above, under, over = (_value(prefix, self._dtype) for prefix, _ in self._ranks)
        return _between(below, above, self._weights[0]), _between(under, over, self._weights[1])


def _between(below: float, above: float, weight: float) -> float:
    """Interpolate as numpy does, so that neither end is missed by rounding."""
    if weight < 0.5:
        return below + (above - below) * weight
    return above - (above - below) * (1 - weight)
