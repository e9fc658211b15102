"""A job's area of interest over one scene: what is inside, and which blocks it touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BlockError
from pipeline.grid import Grid, Rect
from pipeline.raster.area import Area, Fence, Inside, area_of, demand_met, open_area
from pipeline.raster.source import Scene
from pipeline.settings import Job, statuses

IMPORTS = 96 << 20  # bytes that reading vector files adds to a process


@dataclass(frozen=True, slots=True)
class Interest:
    """An area and what it leaves of a scene's blocks; without an area, all of them."""

    area: Area | None = None
    fence: Fence | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the area was understood."""
        return self.fence.notes if self.fence else ()

    @property
    def extent(self) -> Rect | None:
        """A rectangle that holds all that is inside; None where all of the scene is."""
        return self.fence.extent if self.fence else None

    @property
    def held(self) -> int:
        """Bytes that a process holds of it."""
        return IMPORTS + 5 * self.fence.held if self.fence else 0

    def seen_at(self, zoom: Fraction) -> Inside | None:
        """The fence in pixels of the view."""
        return self.fence if self.fence is None or zoom == 1 else Viewed(self.fence, zoom)

    def touched(self, grid: Grid) -> Sequence[int]:
        """The blocks that may hold a pixel inside, in order."""
        blocks = range(len(grid))
        if self.fence is None:
            return blocks
        return [block for block in blocks if self.fence.touches(grid.owned(block))]

    def pixels(self, grid: Grid) -> int | None:
        """How many pixels lie in those blocks; None where all do."""
        return None if self.fence is None else sum(grid.owned(block).area for block in self.touched(grid))


@dataclass(frozen=True, slots=True)
class Viewed:
    """A fence in pixels of a view: one of them is inside where the scene's pixel is in which its centre lies."""

    fence: Fence
    zoom: Fraction

    def inside(self, rect: Rect) -> NDArray[np.bool_] | bool:
        """Which pixels of a rectangle of the view are inside, (row, col); True or False where all or none are."""
        rows = self._under(rect.top, rect.bottom)
        cols = self._under(rect.left, rect.right)
        there = Rect(int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
        found = self.fence.inside(there)
        if isinstance(found, bool):
            return found
        return found.take(rows - there.top, axis=0).take(cols - there.left, axis=1)

    def _under(self, start: int, stop: int) -> NDArray[np.int64]:
        """The scene's rows or columns under those of the view."""
        return (2 * np.arange(start, stop) + 1) * self.zoom.denominator // (2 * self.zoom.numerator)


def interest_of(job: Job, scene: Scene) -> Interest:
    """Open a job's area over a scene.

    Raises SettingsError for what is no area, SceneError where it does not meet the scene, BlockError where a mask or
    the tissue cannot be read.
    """
    if job.aoi is None:
        return Interest()
    area = area_of(job.aoi, scene)
    fence = open_area(area, scene)
    demand_met(area, fence, scene)
    return Interest(area, fence)


@lru_cache(maxsize=1)  # blocks that are given up ask for it again and again
def fence_of(area: Area | None, scene: Scene) -> Fence | None:
    """A plan's area, opened in the process that asks. Raises SettingsError where its file has changed."""
    return open_area(area, scene) if area else None


def inside_of(fence: Fence | None, rect: Rect) -> NDArray[np.bool_] | bool:
    """Which pixels of a rectangle are inside; True or False where all or none are."""
    return True if fence is None else fence.inside(rect)


def fenced(raster: NDArray[Any], fence: Fence | None, rect: Rect) -> NDArray[Any]:
    """A raster (…, row, col) of a rectangle, outside the area its status; as it was where the area cannot be read."""
    try:
        inside = np.broadcast_to(inside_of(fence, rect), rect.shape)
    except BlockError:
        return raster
    return np.where(inside, raster, raster.dtype.type(statuses(raster.dtype).outside))
