"""A scale bar: a round length that fits under a picture, in metres on the ground, micrometres or pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.grid import Rect
from pipeline.raster import ground
from pipeline.raster.source import MICRO, Scene

PART = 0.35  # of the picture's width that a bar takes at most
_UNITS = ((1e3, "km"), (1.0, "m"), (1e-2, "cm"), (1e-3, "mm"), (1e-6, "µm"))


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of so many pixels of the picture, and what it is long."""

    pixels: int
    words: str


def bar_of(scene: Scene, view: Rect, cols: int) -> Bar:
    """The bar under a picture of a rectangle of a scene that is `cols` pixels wide.

    Metres are those in the middle of the rectangle; where the CRS is one of angles, whose pixels are not as wide in
    every row, the bar says so. A slide has micrometres; where nobody can say, the bar counts the scene's pixels.
    """
    per = cols / view.width  # pixels of the picture to one of the scene
    side = _metres(scene, view)
    if side is None:
        count = max(1, math.floor(_round_down(cols * PART / per)))
        return Bar(max(1, round(count * per)), f"{count:,} px".replace(",", " "))
    length = _round_down(cols * PART / per * side)
    unit, name = next((one for one in _UNITS if length >= one[0] * (1 - 1e-9)), _UNITS[-1])
    middle = " in the middle row" if scene.geographic else ""
    return Bar(max(1, round(length / side * per)), f"{length / unit:.6g} {name}{middle}")


def _metres(scene: Scene, view: Rect) -> float | None:
    """The width of a pixel of the scene, in metres; None where nobody can say."""
    if scene.levels:
        return scene.transform[0] * MICRO if scene.transform else None
    return ground.step(scene.crs, scene.transform, (view.top + view.bottom) / 2, (view.left + view.right) / 2)


def _round_down(length: float) -> float:
    """The greatest of 1, 2 and 5 times a power of ten that is not above a length."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(times * power for times in (1, 2, 5) if times * power <= length * (1 + 1e-9) or times == 1)
