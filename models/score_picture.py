"""What an evaluation came to as a PNG: the confusion matrix, and where the worst scenes are right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.evaluation import Evaluation
from models.scoring import KINDS, Scored
from models.summary import of_scene
from pipeline.sheet import font
from pipeline.store.objects import put_whole

SCENES, ACROSS = 6, 3  # maps that are drawn, and how many of them side by side
CLASSES = 16  # that a drawn matrix has room for
CELL, GAP, LINE = (96, 30), 12, 20  # px
FAINT = 0.5  # how red or orange a cell with one wrong pixel is
COLOURS = ((225, 225, 225), (0, 158, 115), (213, 94, 0), (230, 159, 0), (204, 121, 167), (96, 96, 96))
"""Of KINDS; Okabe and Ito's, which people with colour blindness tell apart."""

_WRONG = slice(2, 5)  # of KINDS


def draw(found: Evaluation, target: Path) -> None:
    """Draw `target`, whole. Raises RoomError where the disk is full, SettingsError for other refusals."""
    worst = sorted(found.scenes, key=lambda one: of_scene(one)["macro"]["iou"] or 0.0)[:SCENES]
    parts = [*(_matrix(found, band) for band in range(len(found.whole.matrices))), _maps(worst), _legend()]
    sheet = _below(parts)
    content = BytesIO()
    sheet.save(content, format="PNG")
    put_whole(target, content.getvalue())


def error_map(one: Scored) -> NDArray[np.uint8]:
    """Where a scene is right and wrong, (row, col, RGB): a cell is mixed from what its pixels are, errors stronger."""
    shares = one.errors.astype(np.float64)
    wrong = shares[_WRONG].sum(axis=0)
    stronger = np.where(wrong > 0, FAINT + (1 - FAINT) * wrong, 0)
    calm = 1 - wrong
    weights = np.where(calm > 0, shares / np.where(calm > 0, calm, 1) * (1 - stronger), shares)
    weights[_WRONG] = shares[_WRONG] / np.where(wrong > 0, wrong, 1) * stronger
    picture: NDArray[np.uint8] = (
        np.einsum("krc,kx->rcx", weights, np.array(COLOURS, np.float64)).round().astype(np.uint8)
    )
    return picture


def _maps(scenes: Sequence[Scored]) -> Image.Image:
    """Maps of errors beside and below each other, each with its scene's name."""
    tiles = [_titled(one.name, Image.fromarray(error_map(one))) for one in scenes]
    rows = [tiles[at : at + ACROSS] for at in range(0, len(tiles), ACROSS)]
    return _below([_beside(row) for row in rows], 0)


def _titled(name: str, picture: Image.Image) -> Image.Image:
    width = max(picture.width, 160)
    sheet = Image.new("RGB", (width, picture.height + LINE), "white")
    ImageDraw.Draw(sheet).text((0, 0), name[: width // 8], fill="black", font=font())
    sheet.paste(picture, (0, LINE))
    return sheet


def _matrix(found: Evaluation, band: int) -> Image.Image:
    """Pixels by truth (row) and mask (column), each row shaded by its shares."""
    whole = found.whole
    names = [one.name for one in whole.classes]
    names = [f"not {names[band + 1]}", names[band + 1]] if whole.layered else names[:CLASSES]
    counts = whole.scored[band][: len(names), : len(names)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    (wide, high), side = CELL, 150
    sheet = Image.new("RGB", (side + wide * len(names), LINE + high * (len(names) + 1)), "white")
    pen, letters = ImageDraw.Draw(sheet), font()
    pen.text((0, 0), f"pixels by truth (rows) and mask (columns); mean IoU {_told(found)}", fill="black", font=letters)
    for row, name in enumerate(names):
        top = LINE + high * (row + 1)
        pen.text((0, top + 7), name[:18], fill="black", font=letters)
        pen.text((side + wide * row + 4, LINE + 7), name[:11], fill="black", font=letters)
        for col in range(len(names)):
            left, share = side + wide * col, float(shares[row, col])
            full = np.array(COLOURS[1] if row == col else COLOURS[2])
            fill = tuple((255 - (255 - full) * share).astype(int).tolist())
            pen.rectangle((left, top, left + wide - 2, top + high - 2), fill=fill, outline="grey")
            pen.text((left + 4, top + 7), _short(int(counts[row, col]), share), fill="black", font=letters)
    return sheet


def _legend() -> Image.Image:
    sheet = Image.new("RGB", (500, LINE * len(KINDS)), "white")
    pen = ImageDraw.Draw(sheet)
    words = (
        "right: the first class",
        "right: another class",
        "missed: the mask says the first class",
        "false: the truth is the first class",
        "confused: one class for another",
        "not scored",
    )
    for at, (colour, said) in enumerate(zip(COLOURS, words, strict=True)):
        pen.rectangle((0, at * LINE + 2, 14, at * LINE + 16), fill=colour, outline="black")
        pen.text((24, at * LINE), said, fill="black", font=font())
    return sheet


def _below(parts: Sequence[Image.Image], rim: int = GAP) -> Image.Image:
    width = max(part.width for part in parts) + 2 * rim
    sheet = Image.new("RGB", (width, sum(part.height + GAP for part in parts) + rim), "white")
    top = rim
    for part in parts:
        sheet.paste(part, (rim, top))
        top += part.height + GAP
    return sheet


def _beside(parts: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(part.width + GAP for part in parts), max(part.height for part in parts)), "white")
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width + GAP
    return sheet


def _told(found: Evaluation) -> str:
    mean = found.as_dict()["macro"]["iou"]
    return "–" if mean is None else f"{mean:.3f}"


def _short(count: int, share: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit} {100 * share:.0f}%"
    return f"{count} {100 * share:.0f}%"
