"""A sheet: pictures side by side, or one under the other where they are wide, with titles, scale bar and legend.

Letters are those of a font that lies here, so that a sheet is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.paint import Entry
from pipeline.scalebar import Bar

SIDE = 640  # px: the longer side of each picture, and of a wide or a high one more
GAP, LINE, SWATCH = 12, 22, 16
NARROWEST = 160  # px: what a title and a scale bar have room in
THINNEST = 16  # px: a side shorter than that is stretched to it, or nobody sees it
WIDE = 2.5  # a picture this many times as wide as high, or as high as wide, has a longer side
_LETTERS = 14  # px
_FAINT = (190, 190, 190)


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture (row, col, RGB) with its title."""

    title: str
    picture: NDArray[np.uint8]


def picture_size(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """(rows, cols) of each picture of a rectangle of so many pixels."""
    if width >= WIDE * height:
        side = 3 * side + 2 * GAP  # as wide as three side by side
    elif height >= WIDE * width:
        side *= 2
    factor = max(height, width) / side
    return max(THINNEST, round(height / factor)), max(THINNEST, round(width / factor))


def sheet(panels: Sequence[Panel], bar: Bar, caption: str, entries: Sequence[Entry]) -> Image.Image:
    """Draw pictures of one size with their titles; below, a scale bar for them, a caption, and a legend."""
    rows, cols = panels[0].picture.shape[:2]
    below = cols >= WIDE * rows
    across, down = max(cols, NARROWEST) + GAP, rows + LINE + GAP
    width = GAP + across * (1 if below else len(panels))
    foot = GAP + down * (len(panels) if below else 1)
    beside = not caption or bar.pixels + _width(bar.words) + _width(caption) + 4 * GAP <= width
    key = foot + LINE * (1 if beside else 2) + GAP
    room = min(max((_width(words) for _, words in entries), default=0) + SWATCH + 3 * GAP, width - GAP)
    lines = -(-len(entries) // ((width - GAP) // room))
    page = Image.new("RGB", (width, key + LINE * lines + GAP), "white")
    pen = ImageDraw.Draw(page)
    for number, panel in enumerate(panels):
        left, top = (GAP, GAP + number * down) if below else (GAP + number * across, GAP)
        _write(pen, left, top, panel.title, across - GAP)
        page.paste(Image.fromarray(panel.picture), (left, top + LINE))
        pen.rectangle((left - 1, top + LINE - 1, left + cols, top + LINE + rows), outline=_FAINT)
    _draw_bar(pen, bar, foot)
    if caption:
        left, top = (width - GAP - _width(caption), foot) if beside else (GAP, foot + LINE)
        _write(pen, left, top, caption, width - 2 * GAP)
    for number, (colour, words) in enumerate(entries):
        left, top = GAP + number // lines * room, key + number % lines * LINE
        pen.rectangle((left, top, left + SWATCH, top + SWATCH), fill=colour, outline="black")
        _write(pen, left + SWATCH + GAP, top, words, room - SWATCH - 2 * GAP)
    return page


def _draw_bar(pen: ImageDraw.ImageDraw, bar: Bar, top: int) -> None:
    """A bar with an upright at each end, and what it is long."""
    middle, right = top + LINE // 2 - 3, GAP + bar.pixels - 1
    pen.rectangle((GAP, middle - 1, right, middle + 1), fill="black")
    for end in (GAP, right):
        pen.line((end, middle - 5, end, middle + 5), fill="black")
    _write(pen, right + GAP, top, bar.words, None)


def _write(pen: ImageDraw.ImageDraw, left: int, top: int, words: str, room: int | None) -> None:
    """Write words on one line; what there is no room for, in pixels, is left out and an ellipsis says so."""
    if room is not None and _width(words) > room:
        while words and _width(words + "…") > room:
            words = words[:-1]
        words = words.rstrip() + "…"
    pen.text((left, top), words, fill="black", font=font())


def _width(words: str) -> int:
    return round(font().getlength(words))


@cache
def font() -> ImageFont.FreeTypeFont:
    """The letters of every picture."""
    file = BytesIO(resources.files("pipeline").joinpath("fonts/DejaVuSans.ttf").read_bytes())
    # The plain layout: what libraries a machine has for the other one changes no pixel.
    return ImageFont.truetype(file, _LETTERS, layout_engine=ImageFont.Layout.BASIC)
