"""The curves of a training as a PNG: the losses, and the IoU of each class on what is held out, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

from pipeline.sheet import font

SIDES = (460, 300)  # px, of one panel
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 30, 34  # px, around what is plotted
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe and Ito's, which people with colour blindness tell apart."""

Line = Sequence[float | None]


def curves(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw both panels beside each other; `lines` are metrics.json's epochs."""
    losses = {"training": [one["loss"] for one in lines], "held out": [one["validation_loss"] for one in lines]}
    scores = {name: [one["iou"][name] for one in lines] for name in lines[0]["iou"]} if lines else {}
    most = max((value for line in losses.values() for value in line), default=1.0)
    sheet = Image.new("RGB", (2 * SIDES[0], SIDES[1]), "white")
    sheet.paste(_panel("Loss by epoch", losses, most or 1.0), (0, 0))
    sheet.paste(_panel("IoU on what is held out, by epoch", scores, 1.0), (SIDES[0], 0))
    content = BytesIO()
    sheet.save(content, format="PNG")
    return content.getvalue()


def _panel(title: str, named: Mapping[str, Line], most: float) -> Image.Image:
    picture = Image.new("RGB", SIDES, "white")
    pen, letters = ImageDraw.Draw(picture), font()
    width, height = SIDES[0] - LEFT - RIGHT, SIDES[1] - TOP - BOTTOM
    epochs = max((len(line) for line in named.values()), default=0)

    def place(at: int, value: float) -> tuple[float, float]:
        return LEFT + width * at / max(1, epochs - 1), TOP + height * (1 - value / most)

    pen.text((LEFT, 6), title, fill="black", font=letters)
    for part in range(5):
        level = most * part / 4
        _, y = place(0, level)
        pen.line([(LEFT, y), (LEFT + width, y)], fill="#dddddd")
        pen.text((6, y - 8), f"{level:.3g}", fill="black", font=letters)
    for at in sorted({0, (epochs - 1) // 2, epochs - 1} - {-1}):
        pen.text((place(at, 0)[0] - 4, SIDES[1] - BOTTOM + 8), str(at + 1), fill="black", font=letters)
    for number, (name, line) in enumerate(list(named.items())[: len(COLOURS)]):
        points = [place(at, value) for at, value in enumerate(line) if value is not None]
        pen.line(points, fill=COLOURS[number], width=2)
        for x, y in points if len(points) < 60 else ():
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=COLOURS[number])
        pen.text((LEFT + width - 120, TOP + 4 + 17 * number), name[:16], fill=COLOURS[number], font=letters)
    return picture
