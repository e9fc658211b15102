"""What is held out, and where windows are cut: spatially apart, so that no held-out pixel is ever learnt from.

Many images are held out whole. Of fewer than WHOLE, square plots are, in which each class has about its share; a
window to train on never comes nearer to one than a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.survey import Survey
from pipeline.errors import SettingsError
from pipeline.grid import Rect

WHOLE = 5  # images, from which on they are held out whole
TRIES = 64  # random choices, of which the one is taken whose classes are held out most evenly
PLOTS = 20  # that an image is cut into, where it is large enough
RARE = 0.1  # share of the labelled pixels below which a class is looked for


@dataclass(frozen=True, slots=True)
class Plot:
    """A part of an image that is held out: the image's place, and the rectangle."""

    image: int
    rect: Rect


def held_out(surveys: Sequence[Survey], sides: Sequence[Rect], window: int, share: float, seed: int) -> list[Plot]:
    """Choose what is held out. `sides` are the images' rectangles.

    Raises SettingsError where the images are too few and too small to hold something out.
    """
    plots = [plot for at, rect in enumerate(sides) for plot in _plots(at, rect, window, len(sides), surveys[at].cell)]
    counts = np.array([_labelled(surveys[plot.image], plot.rect) for plot in plots], np.float64)
    known = counts.sum(axis=1) > 0
    plots, counts = [plot for plot, there in zip(plots, known, strict=True) if there], counts[known]
    if len(plots) < 2:
        raise SettingsError(
            f"The images are too few and too small to hold {share:.0%} out of them by plots of {window} px: name what "
            "to validate on by --validation, or make --window smaller."
        )
    random, total = np.random.default_rng([seed, 1]), np.maximum(counts.sum(axis=0), 1)
    best: tuple[float, list[int]] | None = None
    for _ in range(TRIES):
        order = random.permutation(len(plots))
        reached = np.cumsum(counts[order].sum(axis=1)) / counts.sum()
        taken = order[: min(len(plots) - 1, int(np.searchsorted(reached, share - 1e-9)) + 1)].tolist()
        uneven = float(np.abs(counts[taken].sum(axis=0) / total - share).sum())
        if best is None or uneven < best[0]:
            best = uneven, taken
    assert best  # for the type checker: there are tries
    return [plots[at] for at in sorted(best[1])]


def windows_of(plot: Plot, window: int) -> list[Rect]:
    """The windows by which a plot is looked at; the last ones of a row or column may reach beyond it."""
    rect = plot.rect
    return [
        Rect(top, left, top + window, left + window)
        for top in range(rect.top, rect.bottom, window)
        for left in range(rect.left, rect.right, window)
    ]


@dataclass(frozen=True, slots=True)
class Field:
    """Where windows of one image may begin, in cells: flat places on a lattice, and the pixels of each class there.

    `places` are (n, 2), the row and column of cells; `rising` are float64 (classes, n), sums that rise.
    """

    places: NDArray[np.int32]
    rising: NDArray[np.float64]
    pixels: NDArray[np.int64]


class Windows:
    """Draws windows to train on, each by numbers alone: of one seed, epoch and place in it, always the same."""

    def __init__(
        self, surveys: Sequence[Survey], sides: Sequence[Rect], held: Sequence[Plot], window: int, seed: int
    ) -> None:
        self._sides, self._window, self._seed = sides, window, seed
        self._cell = surveys[0].cell
        apart: dict[int, list[Rect]] = {}
        for plot in held:
            apart.setdefault(plot.image, []).append(plot.rect)
        self._fields = [
            _field(one, rect, apart.get(at, []), window)
            for at, (one, rect) in enumerate(zip(surveys, sides, strict=True))
        ]
        self.pixels = np.sum([field.pixels for field in self._fields], axis=0)
        counts = [-(-int(field.pixels.sum()) // window**2) if len(field.places) else 0 for field in self._fields]
        self._each = np.repeat(np.arange(len(counts)), counts)
        if not len(self._each) or (self.pixels == 0).any():
            raise SettingsError(
                f"Beside what is held out, {self.pixels.tolist()} pixels of the classes are left to train on, in "
                f"windows of {window} px: make --held-out or --window smaller, or name --validation."
            )
        self._rare = np.flatnonzero(self.pixels < RARE * self.pixels.sum())

    def __len__(self) -> int:
        """Windows of an epoch: as many as hold the labelled pixels once."""
        return len(self._each)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """The image of each window of an epoch."""
        return np.asarray(np.random.default_rng([self._seed, 2, epoch]).permutation(self._each))

    def draw(self, random: np.random.Generator, image: int) -> tuple[int, Rect]:
        """(image, window): anywhere in the image, or, half of the time where a class is rare, around it in any."""
        weights = None
        if len(self._rare) and random.random() < 0.5:
            rare = int(random.choice(self._rare))
            ends = np.cumsum([field.rising[rare, -1] if len(field.places) else 0 for field in self._fields])
            image = int(np.searchsorted(ends, random.random() * ends[-1], side="right"))
            weights = self._fields[image].rising[rare]
        field = self._fields[image]
        if weights is None:
            at = int(random.integers(len(field.places)))
        else:
            at = min(int(np.searchsorted(weights, random.random() * weights[-1], side="right")), len(weights) - 1)
        jitter = random.integers(self._cell, size=2)
        row, col = (field.places[at] * self._cell + jitter).tolist()
        rect, side = self._sides[image], self._window
        top, left = min(row, max(0, rect.height - side)), min(col, max(0, rect.width - side))
        return image, Rect(top, left, top + side, left + side)


def _plots(image: int, rect: Rect, window: int, images: int, cell: int) -> list[Plot]:
    """The whole image, or squares of it with sides of whole windows."""
    if images >= WHOLE:
        return [Plot(image, rect)]
    side = window * max(1, int((rect.area / PLOTS) ** 0.5 / window))
    side = -(-side // cell) * cell  # plots are of whole cells
    return [
        Plot(image, Rect(top, left, top + side, left + side).intersect(rect))
        for top in range(0, rect.height, side)
        for left in range(0, rect.width, side)
    ]


def _labelled(survey: Survey, rect: Rect) -> NDArray[np.int64]:
    """Labelled pixels of each class in the cells of a rectangle that begins with one."""
    cell = survey.cell
    part = survey.counts[rect.top // cell : -(-rect.bottom // cell), rect.left // cell : -(-rect.right // cell)]
    return np.asarray(part.sum(axis=(0, 1), dtype=np.int64))


def _field(survey: Survey, rect: Rect, held: Sequence[Rect], window: int) -> Field:
    """Where windows may begin: a lattice of cells from which no jitter within one reaches what is held out."""
    cell, counts = survey.cell, survey.counts
    barred = np.zeros(counts.shape[:2], np.int64)
    for each in held:
        top, left = max(0, each.top // cell - 1), max(0, each.left // cell - 1)
        barred[top : -(-each.bottom // cell) + 1, left : -(-each.right // cell) + 1] = 1
    reach = -(-window // cell) + 1  # cells that a window may touch, wherever in its first one it begins
    rows, cols = (max(0, side - window) // cell + 1 for side in rect.shape)
    seen = _boxed(counts.astype(np.int64), reach, rows, cols)
    free = (_boxed(barred[..., None], reach, rows, cols)[..., 0] == 0) & (seen.sum(axis=-1) > 0)
    places = np.argwhere(free).astype(np.int32)
    pixels = np.where(barred[..., None] == 0, counts, 0).sum(axis=(0, 1), dtype=np.int64)
    if not len(places):
        pixels = np.zeros_like(pixels)
    return Field(places, np.cumsum(seen[free].T.astype(np.float64), axis=1), pixels)


def _boxed(values: NDArray[np.int64], reach: int, rows: int, cols: int) -> NDArray[np.int64]:
    """Sums over boxes of reach × reach cells, cut off at the rim, for the first rows × cols places."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1, values.shape[2]), np.int64)
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    top, left = np.arange(rows), np.arange(cols)
    bottom, right = np.minimum(top + reach, values.shape[0]), np.minimum(left + reach, values.shape[1])
    box: NDArray[np.int64] = (
        total[bottom][:, right] - total[top][:, right] - total[bottom][:, left] + total[top][:, left]
    )
    return box
