"""Scenes that are made of others: bands that lie in several rasters, or one raster seen at another resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import numpy as np

from pipeline.grid import Rect
from pipeline.raster.ground import scaled
from pipeline.raster.source import Scene
from pipeline.raster.whole_slide import part_for

Pair = tuple[Fraction, Fraction]  # (down, across)
_SAME = (Fraction(1), Fraction(1))
TILE = 512  # px: the side of what is looked at together where the parts have tiles of their own


@dataclass(frozen=True, slots=True)
class Layer:
    """One raster of a scene, on a grid of its own.

    Parameters
    ----------
    part
        The raster, as a scene of one file.
    places
        Which of the whole's bands the part's bands are, from 0.
    scale, offset
        (down, across): pixel i of the whole covers [i × scale + offset, (i + 1) × scale + offset) of the part.

    """

    part: Scene
    places: tuple[int, ...]
    scale: Pair = _SAME
    offset: Pair = (Fraction(0), Fraction(0))

    def __post_init__(self) -> None:
        if len(self.places) != len(self.part.bands):
            raise ValueError(f"{len(self.part.bands)} bands cannot take the places {self.places}")
        if min(self.scale) <= 0:
            raise ValueError(f"a scale is above 0, not {self.scale}")

    @property
    def aligned(self) -> bool:
        """Whether each pixel of the whole is one of the part's."""
        return self.scale == _SAME and all(shift.denominator == 1 for shift in self.offset)

    def reaches(self, rect: Rect) -> Rect:
        """The part's pixels that a rectangle of the whole may need; empty where they do not meet."""
        edges = zip((rect.top, rect.left), (rect.bottom, rect.right), self.scale, self.offset, strict=True)
        down, across = ((floor(a * scale + to), ceil(b * scale + to)) for a, b, scale, to in edges)
        # The line between two centres reaches one further.
        beside = 0 if self.aligned else 1
        return Rect(down[0], across[0], down[1], across[1]).grown(beside).intersect(self.part.rect)

    def reading_bytes(self, side: int) -> int:
        """What reading a square of `side` px of the whole holds beside the result: the part's pixels, and sums."""
        down, across = (ceil(side * scale) + 2 for scale in self.scale)
        pixel = np.dtype(self.part.dtype).itemsize * len(self.part.bands) + 1  # and its validity
        # Of one band at a time, as float64: itself, the sums down and the sums across.
        sums = 0 if self.aligned else 8 * (2 * down * across + 2 * side * across + 4 * side * side)
        return down * across * pixel + sums


def resized(scene: Scene, factor: Fraction) -> Scene:
    """The same scene in pixels of which `factor` make one of its own, along each side.

    The last row and column may reach beyond the scene; what lies there has no weight. A slide is read at the coarsest
    of its levels that is fine enough.
    """
    if scene.layers:
        layers = tuple(replace(one, scale=(one.scale[0] / factor, one.scale[1] / factor)) for one in scene.layers)
    else:
        part, scale = part_for(scene, factor)
        layers = (Layer(part, tuple(range(len(scene.bands))), (scale[0] / factor, scale[1] / factor)),)
    return replace(
        scene,
        height=ceil(scene.height * factor),
        width=ceil(scene.width * factor),
        transform=scaled(scene.transform, factor, factor),
        layers=layers,
        tile=(TILE, TILE),
        tile_bytes=scene.tile_bytes * TILE * TILE // (scene.tile[0] * scene.tile[1]),
    )
