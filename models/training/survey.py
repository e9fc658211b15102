"""A look at every pixel before the first epoch: where which class is, how bright it is, what cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.crops import IGNORED
from models.training.labelled import Labelled, demand_none
from pipeline.errors import BlockError, SettingsError
from pipeline.grid import Rect
from pipeline.raster.reader import Reader

READ = 1024  # px: about the side of what is looked at at once
LARGEST_CELL = 255  # px: a cell's pixels are counted in uint16


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies where in one image.

    Parameters
    ----------
    cell
        Side of a cell, px.
    counts
        uint16 (rows of cells, cols of cells, classes): labelled pixels.
    moments
        float64 (2, bands): sums of labelled pixels, and of their squares.

    """

    cell: int
    counts: NDArray[np.uint16]
    moments: NDArray[np.float64]

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Labelled pixels of each class."""
        return np.asarray(self.counts.sum(axis=(0, 1), dtype=np.int64))


def cell_of(window: int) -> int:
    """The side of cells that suits windows of this side."""
    return max(4, min(window // 4, LARGEST_CELL))


def survey_all(
    labelled: Sequence[Labelled], window: int, done: Callable[[int, int], None] | None = None
) -> list[Survey]:
    """Look at all images. `done` is told how many of how many are looked at.

    Raises SettingsError with what cannot be used, by name: files that cannot be read, values that are no class.
    """
    found: list[Survey] = []
    problems: list[str] = []
    for at, one in enumerate(labelled):
        try:
            found.append(_survey(one, cell_of(window)))
        except (BlockError, SettingsError) as error:
            problems.append(f"{one.name}: {error.message}")
        if done:
            done(at + 1, len(labelled))
    demand_none(problems, len(labelled))
    return found


def demand_classes(surveys: Sequence[Survey], names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Notes on masks without anything; SettingsError, with what is `known` of labels, where a class is nowhere."""
    pixels = np.sum([one.pixels for one in surveys], axis=0)
    missing = [name for name, count in zip(names, pixels, strict=True) if not count]
    if missing:
        raise SettingsError(
            f"No pixel of {len(surveys)} images is labelled {' or '.join(missing)}, so nothing can be learnt of it: "
            f"see whether --classes and --map say what the labels mean. {' '.join(known[:3])}".rstrip()
        )
    bare = sum(not one.pixels[1:].any() for one in surveys)
    return [f"{bare} of {len(surveys)} masks have {names[0]} alone, or nothing."] if bare else []


def brightness(surveys: Sequence[Survey]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each band over labelled pixels; a band of one value has the deviation 1."""
    count = int(sum(int(one.pixels.sum()) for one in surveys))
    total, squares = np.sum([one.moments for one in surveys], axis=0) / max(count, 1)
    deviation = np.sqrt(np.maximum(squares - total**2, 0))
    return total, np.where(deviation > 0, deviation, 1.0)


def _survey(one: Labelled, cell: int) -> Survey:
    height, width = one.scene.rect.shape
    counts = np.zeros((-(-height // cell), -(-width // cell), one.classes), np.uint16)
    moments = np.zeros((2, len(one.scene.bands)))
    side, strange = READ // cell * cell, 0
    with Reader(one.scene) as reader:
        for top in range(0, height, side):
            for left in range(0, width, side):
                rect = Rect(top, left, top + side, left + side).intersect(one.scene.rect)
                codes = one.truth.read(rect)
                strange += int((codes == one.classes + 2).sum())
                pixels, valid = reader.read(rect)
                truth = np.where(valid & (codes < one.classes), codes, IGNORED)
                seen = pixels[:, truth != IGNORED].astype(np.float64)
                moments += seen.sum(axis=1), (seen**2).sum(axis=1)
                counts[top // cell :, left // cell :][: -(-rect.height // cell), : -(-rect.width // cell)] = _by_cell(
                    truth, cell, one.classes
                )
    one.truth.close()
    one.truth.demand_known(strange)
    return Survey(cell, counts, moments)


def _by_cell(truth: NDArray[Any], cell: int, classes: int) -> NDArray[np.int64]:
    """Pixels of each class in each cell: (rows of cells, cols of cells, classes)."""
    rows, cols = (np.arange(0, side, cell) for side in truth.shape)
    return np.stack(
        [
            np.add.reduceat(np.add.reduceat((truth == each).astype(np.int64), rows, axis=0), cols, axis=1)
            for each in range(classes)
        ],
        axis=-1,
    )
