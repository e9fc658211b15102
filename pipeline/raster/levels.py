"""The levels of a slide's pyramid, and which of them can be believed.

A pyramid says the sizes of its levels and what each is smaller by, and scanners have been wrong about both: levels out
of order, levels cropped or padded, factors that are means of two roundings. Here the sizes alone count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Shape = tuple[int, int]  # (rows, cols)
Scale = tuple[Fraction, Fraction]  # (down, across)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a slide.

    Parameters
    ----------
    number
        Its number in the file; 0 is the finest.
    height, width
        In pixels of the level.
    scale
        Pixels of the level in one pixel of level 0, (down, across): 1 for level 0, 1/4 for the usual next.

    """

    number: int
    height: int
    width: int
    scale: Scale

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or not all(0 < part <= 1 for part in self.scale):
            raise ValueError(f"level {self.number} has {self.height} × {self.width} pixels at {self.scale}")


def believed(shapes: Sequence[Shape]) -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """Return the levels that show the whole of level 0, finest first, and a sentence for each that does not.

    `shapes` are (rows, cols) by level number. A level is believed where its sides, each give or take one pixel, are
    those of level 0 divided by one number, and where it is smaller than every level that is believed before it. Where
    that number can be whole it is, and the sides were rounded; else the scale is the quotient of the sides.
    """
    rows, cols = shapes[0]
    levels = [Level(0, rows, cols, (Fraction(1), Fraction(1)))]
    notes = []
    for number, shape in enumerate(shapes[1:], start=1):
        scale = _scale(shapes[0], shape)
        last = levels[-1]
        if scale is None:
            why = f"it is no picture of the {rows} × {cols} pixels of level 0"
        elif shape[0] >= last.height or shape[1] >= last.width:
            why = f"it is not smaller than level {last.number} of {last.height} × {last.width}"
        else:
            levels.append(Level(number, *shape, scale))
            continue
        notes.append(f"Level {number} of the slide, {shape[0]} × {shape[1]} pixels, is not used: {why}.")
    return tuple(levels), tuple(notes)


def _scale(whole: Shape, part: Shape) -> Scale | None:
    """Pixels of `part` in one of `whole`, (down, across); None where one number does not divide both sides."""
    if min(part) < 1:
        return None
    least = max(Fraction(whole[axis], part[axis] + 1) for axis in (0, 1))
    most = min(Fraction(whole[axis], part[axis] - 1) if part[axis] > 1 else Fraction(whole[axis]) for axis in (0, 1))
    if least > most or most < 1:
        return None
    factor = _nearest_whole(least, most, Fraction(max(whole), max(part)))
    if factor is not None:
        return Fraction(1, factor), Fraction(1, factor)
    down, across = Fraction(part[0], whole[0]), Fraction(part[1], whole[1])
    return (down, across) if max(down, across) <= 1 else None


def _nearest_whole(least: Fraction, most: Fraction, said: Fraction) -> int | None:
    """The whole number in [least, most] that is nearest to `said`; None where there is none."""
    low, high = math.ceil(least), math.floor(most)
    if low > high:
        return None
    return min(max(low, math.floor(said + Fraction(1, 2))), high)
