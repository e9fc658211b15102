"""Boundary F1: how well the outlines of classes are met, within a tolerance.

The outline of a class are its pixels that have one of another class to their left, right, above or below. Precision is
the share of the mask's outline that lies at most `tolerance` pixels (Euclidean, from centre to centre) from the truth's
outline of the same class; recall the share of the truth's outline that lies so near to the mask's; their harmonic mean
is the score. Pixels that are not scored are no neighbours, so that neither the image's rim nor a hole is an outline.
Pixels are counted over everything that is scored, and divided once.

Source: Csurka, Larlus, Perronnin, What is a good evaluation measure for semantic segmentation?, BMVC 2013, section 2.2.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from models.evaluate import ratio
from models.meaning import Codes

Met = NDArray[np.int64]
"""(class, 4): pixels of the mask's outline, those of them near the truth's; of the truth's, those near the mask's."""

LARGEST = 64  # px: a tolerance; twice as many rows and columns are read twice


def reach(tolerance: int) -> int:
    """How far around a pixel the pixels lie that decide whether it is met."""
    return tolerance + 1


def met(truth: Codes, found: Codes, classes: int, tolerance: int, core: tuple[slice, slice]) -> Met:
    """Count the outlines' pixels of a part, int64 (class, 4), of which `core` is counted and the rest looked at.

    truth and found are codes (row, col); those from `classes` on are not scored.
    """
    scored = (truth < classes) & (found < classes)
    edges = outline(truth, scored), outline(found, scored)
    counts = np.zeros((classes, 4), np.int64)
    for one in np.union1d(truth[edges[0]], found[edges[1]]).tolist():
        real, said = edges[0] & (truth == one), edges[1] & (found == one)
        counts[one] = (
            np.count_nonzero(said[core]),
            np.count_nonzero((said & near(real, tolerance))[core]),
            np.count_nonzero(real[core]),
            np.count_nonzero((real & near(said, tolerance))[core]),
        )
    return counts


def boundary_f1(counts: Met) -> NDArray[np.float64]:
    """Give each class its boundary F1; nan where neither truth nor mask has an outline of it, 0 where one has none."""
    precision, recall = ratio(counts[:, 1], counts[:, 0]), ratio(counts[:, 3], counts[:, 2])
    score = ratio(2 * precision * recall, precision + recall)
    either, both = (counts[:, 0] + counts[:, 2]) > 0, (counts[:, 1] > 0) & (counts[:, 3] > 0)
    return np.where(either & ~both, 0.0, score)


def outline(codes: Codes, scored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which scored pixels (row, col) have a scored one of another class beside them."""
    found = np.zeros(codes.shape, np.bool_)
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differ = (codes[first] != codes[second]) & scored[first] & scored[second]
        found[first] |= differ
        found[second] |= differ
    return found


def near(marked: NDArray[np.bool_], tolerance: int) -> NDArray[np.bool_]:
    """Which pixels (row, col) lie at most `tolerance` from a marked one: row by row of the disc, by running sums."""
    found = np.zeros(marked.shape, np.bool_)
    if not marked.any():
        return found
    rows, cols = marked.shape
    sums = np.zeros((rows, cols + 1), np.int32)
    np.cumsum(marked, axis=1, out=sums[:, 1:])
    at = np.arange(cols)
    for down in range(min(tolerance, rows - 1) + 1):
        half = isqrt(tolerance**2 - down**2)
        wide = sums[:, np.minimum(at + half + 1, cols)] > sums[:, np.maximum(at - half, 0)]
        found[down:] |= wide[: rows - down]
        found[: rows - down] |= wide[down:]
    return found
