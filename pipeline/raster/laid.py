"""A raster on any grid laid over a scene's pixels: each of them is looked up in the raster's pixel under its centre.

Every centre is brought to the raster by itself, so that no rectangle asked for changes an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster.placing import Placing
from pipeline.raster.source import Scene

AT_ONCE = 1 << 18  # centres in hand
MOST = 1 << 24  # pixels of the raster that are read at once
FINEST = 4096  # steps to a pixel of the raster, below which a difference is rounding

Said = tuple[NDArray[Any], ...]  # each (row, col)


@dataclass(frozen=True, slots=True)
class Laid:
    """A raster over a scene's pixels. Without a placing it has the scene's grid."""

    scene: Scene
    raster: Scene
    placing: Placing | None

    @property
    def extent(self) -> Rect:
        """A rectangle of the scene that holds all that lies under the raster."""
        if self.placing is None:
            return self.scene.rect
        scene, raster = self.scene.rect, self.raster
        steps = np.linspace(0, 1, 65)
        rim = [(t, s) for t in steps for s in (0, 1)] + [(s, t) for t in steps for s in (0, 1)]
        frame = np.array(rim) * (raster.width, raster.height)
        try:
            seen = self.placing.to_pixels(self._grid.from_pixels(frame))
        except SceneError:
            return scene
        low, high = np.floor(seen.min(axis=0)), np.ceil(seen.max(axis=0))
        slack = np.maximum(2, (high - low) / 20) if self.placing.there is not None else np.ones(2)
        limits = np.array([scene.width, scene.height])
        left, top = np.clip(low - slack, 0, limits).astype(int).tolist()
        right, bottom = np.clip(high + slack, 0, limits).astype(int).tolist()
        return Rect(top, left, bottom, right)

    def look_up(self, rect: Rect, fetch: Callable[[Rect], Said], into: Said) -> None:
        """Fill arrays of a rectangle of the scene by what `fetch` says of rectangles of the raster.

        What lies beyond the raster stays as it was. Done in parts whose place in the raster is small enough to be read.
        """
        parts = [rect]
        while parts:
            part = parts.pop()
            if part.area > AT_ONCE:
                parts += _halves(part)
                continue
            row, col = self._under(part)
            there = (row >= 0) & (row < self.raster.height) & (col >= 0) & (col < self.raster.width)
            if not there.any():
                continue
            row, col = row[there], col[there]
            place = Rect(int(row.min()), int(col.min()), int(row.max()) + 1, int(col.max()) + 1)
            if place.area > MOST and part.area > 1:
                parts += _halves(part)
                continue
            for found, said in zip(into, fetch(place), strict=True):
                found[part.slices(rect)][there] = said[row - place.top, col - place.left]

    @property
    def _grid(self) -> Placing:
        return Placing(Affine(*(self.raster.transform or Affine.identity()[:6])), None, None, None)

    def _under(self, rect: Rect) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, col) of the raster's pixels under the centres of a rectangle's."""
        rows, cols = np.mgrid[rect.top : rect.bottom, rect.left : rect.right]
        if self.placing is None:
            return rows, cols
        centres = np.stack([cols.reshape(-1) + 0.5, rows.reshape(-1) + 0.5], axis=1)
        places = self._grid.to_pixels(self.placing.from_pixels(centres))
        # A centre on the border of two of the raster's pixels is given to the right or lower one, whatever was rounded.
        x, y = np.floor(np.rint(places * FINEST) / FINEST).astype(np.int64).T
        return y.reshape(rect.shape), x.reshape(rect.shape)


def _halves(rect: Rect) -> tuple[Rect, Rect]:
    if rect.height >= rect.width:
        middle = (rect.top + rect.bottom) // 2
        return Rect(rect.top, rect.left, middle, rect.right), Rect(middle, rect.left, rect.bottom, rect.right)
    middle = (rect.left + rect.right) // 2
    return Rect(rect.top, rect.left, rect.bottom, middle), Rect(rect.top, middle, rect.bottom, rect.right)
