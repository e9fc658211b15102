"""One mask against its labels, piece by piece: each pixel counts once, as a pair of classes or with the reason why not.

A piece is read with a rim as wide as outlines are looked for, so that its counts are those of the whole raster. Memory
does not grow with the scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.boundary import met, reach
from models.evaluate import Matrix
from models.masks import HOLES, Mask
from models.meaning import Codes, Meaning
from models.truth import Truth
from pipeline.grid import Rect
from pipeline.network.legend import MaskClass
from pipeline.raster.reader import Reader

ROWS, COLS = 512, 4096  # px: a piece
SIDE = 640  # px: the longer side of a map of errors
APART = ("ignored", "no label", "no class")
"""What a pixel of the labels is that is no class; of the last there is none in a finished tally."""

KINDS = ("right, first class", "right", "missed", "false", "confused", "not scored")
"""What a pixel of a map of errors is. Missed: the mask says the first class, where the truth is another; false: the
other way round; confused: both say a class other than the first, and not the same."""


@dataclass(slots=True)
class Tally:
    """What was counted; that of several masks of the same classes adds up.

    Attributes
    ----------
    matrices
        int64 (band, classes + 3, classes + 4): pixels by truth (row) and mask (column): classes, then APART and HOLES.
        A mask with a band for each class has a matrix of two classes for each; else there is one.
    outlines
        int64 (band, class, 4), see models.boundary.

    """

    classes: tuple[MaskClass, ...]
    layered: bool
    matrices: NDArray[np.int64]
    outlines: NDArray[np.int64]

    @classmethod
    def of(cls, mask: Mask) -> Tally:
        """Nothing counted yet."""
        sides = mask.sides
        matrices = np.zeros((mask.bands, sides + len(APART), sides + len(HOLES)), np.int64)
        return cls(mask.classes, mask.layered, matrices, np.zeros((mask.bands, sides, 4), np.int64))

    def add(self, other: Tally) -> None:
        """Take in what another has counted, of the same classes."""
        self.matrices += other.matrices
        self.outlines += other.outlines

    @property
    def sides(self) -> int:
        """Classes that each band chooses from."""
        return int(self.matrices.shape[1]) - len(APART)

    @property
    def scored(self) -> NDArray[np.int64]:
        """The matrices of pixels that are a class in both, (band, class, class)."""
        return self.matrices[:, : self.sides, : self.sides]

    @property
    def pixels(self) -> int:
        """All pixels, scored or not."""
        return int(self.matrices[0].sum())

    def apart(self) -> dict[str, int]:
        """Pixels that are not scored, by the reason; those of bands together. One without a label has that reason."""
        known = self.matrices.sum(axis=0)
        rows = {f"labels: {name}": known[self.sides + at].sum() for at, name in enumerate(APART)}
        columns = {f"mask: {name}": known[: self.sides, self.sides + at].sum() for at, name in enumerate(HOLES)}
        return {name: int(pixels) for name, pixels in (rows | columns).items() if pixels}


@dataclass(slots=True)
class Scored:
    """A mask against its labels.

    `errors` are the shares (kind, row, col) of KINDS in each cell of a small map, from 0 to 1.
    """

    name: str
    tally: Tally
    notes: tuple[str, ...] = ()
    errors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((len(KINDS), 1, 1), np.float32))


def score(mask: Mask, truth: Truth, meaning: Meaning, tolerance: int, source: Reader) -> Scored:
    """Count a whole mask, which `source` reads, against what is true.

    Raises BlockError where either cannot be read, SettingsError where a label means nothing.
    """
    tally, scene = Tally.of(mask), mask.scene
    factor = -(-max(scene.rect.shape) // SIDE)
    cells = np.zeros((len(KINDS), -(-scene.height // factor), -(-scene.width // factor)), np.int64)
    for piece in pieces(scene.rect):
        wide = widened(piece, reach(tolerance)).intersect(scene.rect)
        found = mask.read(source, wide)
        real = of_bands(truth.read(wide), mask, meaning)
        core = piece.slices(wide)
        for band, (one, other) in enumerate(zip(real, found, strict=True)):
            tally.matrices[band] += _pairs(one[core], other[core], tally.matrices.shape[1:])
            tally.outlines[band] += met(one, other, mask.sides, tolerance, core)
        _map(cells, kinds_of(real[:, *core], found[:, *core], mask.sides), piece, factor)
    strange = int(tally.matrices[0, -1].sum())
    truth.demand_known(strange)
    shares = cells / np.maximum(cells.sum(axis=0), 1)
    return Scored(mask.scene.name, tally, truth.notes, shares.astype(np.float32))


def pieces(rect: Rect) -> Iterator[Rect]:
    """Cut a rectangle into pieces, row by row."""
    for top in range(rect.top, rect.bottom, ROWS):
        for left in range(rect.left, rect.right, COLS):
            yield Rect(top, left, top + ROWS, left + COLS).intersect(rect)


def widened(rect: Rect, by: int) -> Rect:
    """A rectangle with a rim around it."""
    return Rect(rect.top - by, rect.left - by, rect.bottom + by, rect.right + by)


def of_bands(codes: Codes, mask: Mask, meaning: Meaning) -> Codes:
    """What is true for each band of a mask, (band, row, col), of what is true (row, col)."""
    if not mask.layered:
        return codes[None]
    classes = len(meaning.classes)
    apart = codes - classes + mask.sides
    return np.stack(
        [np.where(codes < classes, codes == place, apart).astype(np.int32) for place in range(1, mask.bands + 1)]
    )


def kinds_of(real: Codes, found: Codes, sides: int) -> NDArray[np.uint8]:
    """Which of KINDS each pixel (row, col) is, by codes (band, row, col): the worst of its bands."""
    scored = (real < sides) & (found < sides)
    wrong = np.where(found == 0, 2, np.where(real == 0, 3, 4))
    kinds = np.where(scored, np.where(real == found, real != 0, wrong), 5).astype(np.uint8)
    worst: NDArray[np.uint8] = kinds.max(axis=0)
    return np.where((worst == 3) & (kinds == 2).any(axis=0), np.uint8(4), worst)


def _pairs(real: Codes, found: Codes, shape: tuple[int, ...]) -> Matrix:
    return np.bincount((real * shape[1] + found).ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def _map(cells: NDArray[np.int64], kinds: NDArray[np.uint8], piece: Rect, factor: int) -> None:
    """Add a piece's kinds to the cells that it lies in."""
    top, left = piece.top // factor, piece.left // factor
    down = np.arange(piece.top, piece.bottom) // factor - top
    across = np.arange(piece.left, piece.right) // factor - left
    rows, cols = int(down[-1]) + 1, int(across[-1]) + 1
    at = (kinds.astype(np.int64) * rows + down[:, None]) * cols + across
    counts = np.bincount(at.ravel(), minlength=len(KINDS) * rows * cols).reshape(len(KINDS), rows, cols)
    cells[:, top : top + rows, left : left + cols] += counts
