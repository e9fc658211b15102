"""Where a slide has tissue: what is stained is coloured, and glass is not.

The slide is seen in cells of at least 16 px, 2048 at most along its longer side, each the mean of its pixels. Their
saturation (of the hexcone model: A. R. Smith, "Color Gamut Transform Pairs", 1978) falls into two parts at the
threshold of N. Otsu ("A Threshold Selection Method from Gray-Level Histograms", 1979), as in CLAM (Lu et al., 2021).
Otsu's threshold always finds two parts, also on a slide of tissue alone, so it is kept within limits; and the tissue
is grown by one cell, so that none is cut.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.grid import Rect
from pipeline.raster.area import Area, Form
from pipeline.raster.overview import overview
from pipeline.raster.source import Scene
from pipeline.settings import TISSUE

CELL = 16  # px, at least
MOST = 2048  # cells along the longer side
LOWEST, HIGHEST = 8, 40  # of 255: below is the colour of glass and of JPEG, above nobody doubts that it is stained
GROWN = 1  # cells


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """The cells of a scene that hold tissue, as an area of interest; see `pipeline.raster.area.Fence`.

    Parameters
    ----------
    scene
        All of the scene.
    cell
        Side of a cell in pixels of the scene.
    threshold
        The saturation above which a cell is tissue, of 255.
    cells
        (row, col): whether it is tissue.

    """

    scene: Rect
    cell: int
    threshold: int
    cells: NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """Of everything that decides which pixels are inside."""
        said = f"tissue {self.cell} {self.threshold} {self.cells.shape}".encode()
        return hashlib.blake2b(said + np.packbits(self.cells).tobytes(), digest_size=16).hexdigest()

    @property
    def extent(self) -> Rect:
        """The smallest rectangle around all tissue."""
        rows, cols = np.flatnonzero(self.cells.any(axis=1)), np.flatnonzero(self.cells.any(axis=0))
        if not len(rows):
            return Rect(0, 0, 0, 0)
        top, left, bottom, right = (int(at) * self.cell for at in (rows[0], cols[0], rows[-1] + 1, cols[-1] + 1))
        return Rect(top, left, bottom, right).intersect(self.scene)

    @property
    def held(self) -> int:
        """Bytes."""
        return self.cells.nbytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for tissue."""
        return (
            f"Tissue is {float(self.cells.mean()):.0%} of the image: what has a saturation above {self.threshold} of "
            f"255 in cells of {self.cell} px, grown by {GROWN}.",
        )

    @property
    def whereabouts(self) -> str:
        """What was looked for, for a sentence."""
        return f"nothing has a saturation above {self.threshold} of 255"

    def touches(self, rect: Rect) -> bool:
        """Whether any pixel of a rectangle within the scene is tissue."""
        return bool(self._around(rect).any())

    def inside(self, rect: Rect) -> NDArray[np.bool_] | bool:
        """Which pixels of a rectangle within the scene are tissue, (row, col); True or False where all or none are."""
        around = self._around(rect)
        if around.all() or not around.any():
            return bool(around.all())
        rows, cols = np.arange(rect.top, rect.bottom) // self.cell, np.arange(rect.left, rect.right) // self.cell
        found: NDArray[np.bool_] = self.cells[rows[:, None], cols]
        return found

    def _around(self, rect: Rect) -> NDArray[np.bool_]:
        side = self.cell
        rows, cols = slice(rect.top // side, -(-rect.bottom // side)), slice(rect.left // side, -(-rect.right // side))
        return self.cells[rows, cols]


def find(scene: Scene) -> Area:
    """The tissue of a scene as a plan keeps it. Raises as `tissue_of` does."""
    return Area(TISSUE, Form.TISSUE, None, tissue_of(scene).digest)


def lay(area: Area, scene: Scene) -> Tissue:
    """Find the tissue again. Raises SettingsError where it is no longer what was planned."""
    found = tissue_of(scene)
    if found.digest != area.digest:
        raise SettingsError(
            f"The tissue of {scene.shown} is not what it was when the run was planned: the file, or what reads it, has "
            "changed. Run with --overwrite."
        )
    return found


@lru_cache(maxsize=1)
def tissue_of(scene: Scene) -> Tissue:
    """Find the tissue of a slide, or of another image of three bands of uint8, read at a coarse resolution.

    Raises SettingsError for other images, BlockError where it cannot be read.
    """
    if scene.levels:
        scene = replace(scene, bands=(1, 2, 3), nodata=(None,) * 3)  # a slide has its colours, whichever are wanted
    if scene.dtype != "uint8" or sorted(scene.bands) != [1, 2, 3]:
        raise SettingsError(
            f"`aoi` cannot be tissue for {scene.shown}: tissue is told by its colour, of red, green and blue as uint8, "
            f"and the bands {', '.join(map(str, scene.bands))} of {scene.dtype} are chosen. Give a file with the area."
        )
    cell = CELL
    while max(scene.height, scene.width) > MOST * cell:
        cell *= 2
    pixels, valid = overview(scene, Fraction(1, cell))
    saturation = saturation_of(pixels)
    threshold = min(max(otsu(np.bincount(saturation[valid], minlength=256)), LOWEST), HIGHEST)
    return Tissue(scene.rect, cell, threshold, _grown((saturation > threshold) & valid))


def saturation_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Saturation (row, col) of red, green and blue (3, row, col), in steps of 1/255 rounded down; black has none."""
    highest, lowest = pixels.max(axis=0).astype(np.int32), pixels.min(axis=0).astype(np.int32)
    saturation: NDArray[np.uint8] = (255 * (highest - lowest) // np.maximum(highest, 1)).astype(np.uint8)
    return saturation


def otsu(counts: NDArray[np.int64]) -> int:
    """The highest value of the lower part, of the two parts of a histogram whose means are farthest apart.

    What is greatest is the variance between them, in whole numbers; the lowest threshold where several have it, 0 where
    one value is all there is.
    """
    total, weighed = int(counts.sum()), int(counts @ np.arange(len(counts)))
    best, most = 0, Fraction(0)
    below = below_weighed = 0
    for value, count in enumerate(counts.tolist()):
        below, below_weighed = below + count, below_weighed + value * count
        above = total - below
        if below and above:
            between = Fraction((weighed * below - total * below_weighed) ** 2, below * above)
            if between > most:
                best, most = value, between
    return best


def _grown(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With all cells within GROWN of one, diagonals too."""
    rows, cols = cells.shape
    padded = np.pad(cells, GROWN)
    grown = np.zeros_like(cells)
    for down in range(2 * GROWN + 1):
        for across in range(2 * GROWN + 1):
            grown |= padded[down : down + rows, across : across + cols]
    return grown
