"""What a tally comes to: scores of each class and of all, as plain data for JSON.

IoU, Dice (which is F1), precision and recall of a class over all its pixels, boundary F1 of its outline (see
models.boundary). `macro` is the plain mean over the classes that occur in truth or mask, the first among them, but for
a mask with a band for each class, where it is over the bands. Accuracy and Cohen's kappa are over all classes at once;
with a band for each class they are the means over the bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.boundary import boundary_f1
from models.evaluate import Matrix, accuracy, f1, iou, kappa, precision, recall
from models.masks import HOLES
from models.scoring import APART, Scored, Tally

SCORES: dict[str, Callable[[Matrix], NDArray[np.float64]]] = {
    "iou": iou,
    "dice": f1,
    "precision": precision,
    "recall": recall,
}
BOUNDARY = "boundary_f1"


def summary(tally: Tally) -> dict[str, Any]:
    """Scores of a tally."""
    classes = _classes(tally)
    names = [*SCORES, BOUNDARY]
    return {
        "pixels": tally.pixels,
        "scored": int(tally.scored.sum()) // len(tally.matrices),
        "apart": tally.apart(),
        "accuracy": _mean([accuracy(one) for one in tally.scored]),
        "kappa": _mean([kappa(one) for one in tally.scored]),
        "macro": {name: _mean([one[name] for one in classes]) for name in names},
        "classes": classes,
        "confusion": _confusion(tally),
    }


def of_scene(scored: Scored) -> dict[str, Any]:
    """Scores of one scene."""
    return {"scene": scored.name, **summary(scored.tally), "notes": list(scored.notes)}


def _classes(tally: Tally) -> list[dict[str, Any]]:
    """A mapping for each class that is scored: all of them, or in a mask with a band for each all but the first."""
    shown = tally.classes[1:] if tally.layered else tally.classes
    return [{"class": one.name, **_class(tally, *_place(tally, at))} for at, one in enumerate(shown)]


def _place(tally: Tally, at: int) -> tuple[int, int]:
    """(band, class in it) of a class that is scored."""
    return (at, 1) if tally.layered else (0, at)


def _class(tally: Tally, band: int, place: int) -> dict[str, Any]:
    matrix = tally.scored[band]
    return {
        "pixels_truth": int(matrix[place].sum()),
        "pixels_mask": int(matrix[:, place].sum()),
        **{name: _number(score(matrix)[place]) for name, score in SCORES.items()},
        BOUNDARY: _number(boundary_f1(tally.outlines[band])[place]),
    }


def _confusion(tally: Tally) -> list[dict[str, Any]]:
    """The whole matrices, with what is not scored."""
    said = []
    for band, matrix in enumerate(tally.matrices):
        names = [f"not {tally.classes[band + 1].name}", tally.classes[band + 1].name] if tally.layered else None
        names = names or [one.name for one in tally.classes]
        rows = [*names, *APART[:-1]]
        said.append({"truth": rows, "mask": [*names, *HOLES], "pixels": matrix[: len(rows)].tolist()})
    return said


def _mean(numbers: Sequence[float | None]) -> float | None:
    """The mean of those that are there; None where none is."""
    there = [number for number in numbers if number is not None and not np.isnan(number)]
    return sum(there) / len(there) if there else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
