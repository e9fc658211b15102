"""Polygons on a lattice of whole numbers, and which pixels' centres lie in them, by winding numbers.

Everything is counted in 1/64 of a pixel with integers, so that a pixel's answer is the same whichever rectangle is
asked for: there is no rounding that could differ. A centre on an edge belongs to the polygon on its right or below.
Shells count +1 and holes −1 whatever their direction, and polygons that overlap are one area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect

LATTICE = 64  # steps to a pixel; a vertex moves by 1/128 px at most
LARGEST = 1 << 22  # px: products of two coordinates must fit into 64 bits
AT_ONCE = 1 << 21  # pixels or crossings in hand
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges, one number in each array for each: they run down from (y1, x1) to (y2, x2), in 1/64 px.

    `turn` is what an edge adds to the winding number of what lies to its right. `first` and `last` are the half-open
    rows whose centres it passes, `left` and `right` the columns where its crossings begin and end to be inside.
    """

    y1: Whole
    x1: Whole
    y2: Whole
    x2: Whole
    turn: Whole
    first: Whole
    last: Whole
    left: Whole
    right: Whole

    def where(self, chosen: NDArray[np.bool_]) -> Edges:
        """The chosen edges."""
        return Edges(*(getattr(self, name)[chosen] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.turn)


def edges_of(points: NDArray[np.float64], ring: NDArray[np.int64], hole: NDArray[np.bool_]) -> Edges:
    """The edges of closed rings: `points` (point, 2) are (col, row) in pixels, `ring` the number of each point's ring.

    `hole` says for each ring whether it is one. Raises ValueError for points beyond 4 million pixels.
    """
    if len(points) and np.abs(points).max() > LARGEST:
        raise ValueError(f"a vertex lies more than {LARGEST} pixels from the scene's corner")
    x, y = np.rint(points.T * LATTICE).astype(np.int64)
    joined = ring[1:] == ring[:-1]
    x1, x2, y1, y2, of = x[:-1][joined], x[1:][joined], y[:-1][joined], y[1:][joined], ring[:-1][joined]
    starts = np.searchsorted(ring, np.arange(len(hole)))
    # Twice the signed area of each ring, about its own first point, where the numbers are small.
    ox, oy = x[starts][of], y[starts][of]
    twice = ((x1 - ox) * (y2 - oy) - (x2 - ox) * (y1 - oy)).astype(np.float64)
    sense = np.sign(np.bincount(of, weights=twice, minlength=len(hole))).astype(np.int64)
    sense[hole] *= -1
    turn = -np.sign(y2 - y1) * sense[of]
    up = y1 > y2
    y1, y2, x1, x2 = np.where(up, y2, y1), np.where(up, y1, y2), np.where(up, x2, x1), np.where(up, x1, x2)
    columns = _centre_from(np.minimum(x1, x2)), _centre_from(np.maximum(x1, x2))
    made = Edges(y1, x1, y2, x2, turn, _centre_from(y1), _centre_from(y2), *columns)
    return made.where((made.first < made.last) & (turn != 0))


def _centre_from(position: Whole) -> Whole:
    """The first pixel whose centre does not lie before a position."""
    return -((LATTICE // 2 - position) // LATTICE)


def disturbed(edges: Edges, rect: Rect) -> NDArray[np.bool_]:
    """Which edges, of those that meet the rectangle's rows, may change the winding number within one of them."""
    return (edges.right > rect.left) & (edges.left < rect.right)


def base_of(edges: Edges, rect: Rect) -> Whole:
    """The winding number at the left end of each row: what all edges to the left of the rectangle add up to."""
    before = edges.right <= rect.left
    steps = np.zeros(rect.height + 1, np.int64)
    np.add.at(steps, np.maximum(edges.first[before], rect.top) - rect.top, edges.turn[before])
    np.add.at(steps, np.minimum(edges.last[before], rect.bottom) - rect.top, -edges.turn[before])
    return steps.cumsum()[:-1]


def filled(edges: Edges, rect: Rect) -> NDArray[np.bool_]:
    """Which pixels of a rectangle are inside, (row, col); `edges` are all those that meet its rows."""
    inside = np.empty(rect.shape, np.bool_)
    base, crossing = base_of(edges, rect), edges.where(disturbed(edges, rect))
    rows = max(1, AT_ONCE // max(rect.width, len(crossing)))
    for top in range(rect.top, rect.bottom, rows):
        part = Rect(top, rect.left, min(top + rows, rect.bottom), rect.right)
        winding = _turns(crossing, part).cumsum(axis=1)[:, :-1]
        inside[part.slices(rect)] = winding + base[top - rect.top : part.bottom - rect.top, None] > 0
    return inside


def _turns(edges: Edges, rect: Rect) -> Whole:
    """By how much the winding number changes at each pixel, (row, col); one column more than the rectangle has."""
    turns = np.zeros((rect.height, rect.width + 1), np.int64)
    here = edges.where((edges.first < rect.bottom) & (edges.last > rect.top))
    first = np.maximum(here.first, rect.top)
    counts = np.minimum(here.last, rect.bottom) - first
    which = np.repeat(np.arange(len(here)), counts)
    row = np.arange(len(which)) - np.repeat(counts.cumsum() - counts, counts) + first[which]
    down, across = here.y2[which] - here.y1[which], here.x2[which] - here.x1[which]
    beyond = row * LATTICE + LATTICE // 2 - here.y1[which]
    # The edge is at x1 + beyond · across / down in this row; the first centre from there on, in whole numbers.
    column = -(-((here.x1[which] - LATTICE // 2) * down + beyond * across) // (LATTICE * down))
    np.add.at(turns, (row - rect.top, np.clip(column - rect.left, 0, rect.width)), here.turn[which])
    return turns
