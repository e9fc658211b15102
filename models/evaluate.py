"""How well a mask agrees with the truth: one confusion matrix, and the scores that are read off it.

Matrices of parts of a mask add up to the matrix of the whole, so a mask of any size is scored in pieces. numpy alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
"""(classes, classes): pixels by their class in the truth (row) and in the mask (column)."""


def confusion(truth: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> Matrix:
    """Count the pixels of each pair of classes, as int64 (classes, classes), truth by row.

    truth and found have one shape and hold classes 0 to classes − 1. A truth outside of that leaves its pixel out.
    Raises ValueError where the shapes differ, or where the mask has no class for a pixel whose truth is known: a hole
    counts as neither right nor wrong, so it may not be scored in silence.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise ValueError(
            f"the truth has the shape {truth.shape} and the mask {found.shape}; they must be the same pixels"
        )
    known = (truth >= 0) & (truth < classes)
    rows, cols = truth[known].astype(np.int64), found[known].astype(np.int64)
    holes = (cols < 0) | (cols >= classes)
    if holes.any():
        raise ValueError(
            f"the mask has no class at {np.count_nonzero(holes)} of {holes.size} pixels (values "
            f"{', '.join(map(str, np.unique(cols[holes])[:5]))}); leave them out of the truth to score the others"
        )
    return np.bincount(rows * classes + cols, minlength=classes * classes).reshape(classes, classes)


def iou(matrix: Matrix) -> NDArray[np.float64]:
    """Give each class its pixels in both truth and mask over those in either; nan where neither has the class."""
    both = np.diagonal(matrix)
    return ratio(both, matrix.sum(axis=0) + matrix.sum(axis=1) - both)


def precision(matrix: Matrix) -> NDArray[np.float64]:
    """Give each class the share of its pixels in the mask that are right; nan where the mask has none."""
    return ratio(np.diagonal(matrix), matrix.sum(axis=0))


def recall(matrix: Matrix) -> NDArray[np.float64]:
    """Give each class the share of its pixels in the truth that were found; nan where the truth has none."""
    return ratio(np.diagonal(matrix), matrix.sum(axis=1))


def f1(matrix: Matrix) -> NDArray[np.float64]:
    """Give each class the harmonic mean of precision and recall; nan where neither truth nor mask has it."""
    return ratio(2 * np.diagonal(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def accuracy(matrix: Matrix) -> float:
    """Give the share of pixels that are right; nan for no pixels."""
    return float(ratio(np.trace(matrix), matrix.sum()))


def kappa(matrix: Matrix) -> float:
    """Cohen's kappa: agreement beyond what chance would give, 1 at most; nan where chance alone explains everything.

    Source: Cohen, A coefficient of agreement for nominal scales (1960), equation 1.
    """
    total = float(matrix.sum())
    if total == 0:
        return float("nan")
    by_chance = float((matrix.sum(axis=0) / total) @ (matrix.sum(axis=1) / total))
    return float(ratio(accuracy(matrix) - by_chance, 1 - by_chance))


def ratio(part: object, whole: object) -> NDArray[np.float64]:
    """Divide in float64; nan where the whole is 0."""
    above, below = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shares = np.full(above.shape, np.nan)
    np.divide(above, below, out=shares, where=below != 0)
    return shares
