"""Two models' masks side by side as one HTML file, with a picture of each scene: A, B, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling

from models.compare import Compared, Comparison
from models.masks import MASK
from pipeline.cog import rgb
from pipeline.page import Number, Raw, facts, figure, listed, page, section, small, table, tagged
from pipeline.raster.access import environment
from pipeline.store.objects import put_whole

PICTURES, SCENES = 24, 200  # that the page shows
_GAP, _FAINTEST = 8, 0.35  # px between pictures; how red a cell with one differing pixel is


def write_page(found: Comparison, a: Path, b: Path, target: Path) -> None:
    """Write the page, whole. Raises RoomError where the disk is full, SettingsError for other refusals."""
    said = found.as_dict()
    scenes = {one.scene: one for one in found.scenes}
    sections = [_scene(one, scenes[one["scene"]], at < PICTURES) for at, one in enumerate(said["scenes"][:SCENES])]
    alone = [f"Only in A: {name}" for name in said["only_in_a"]] + [f"Only in B: {name}" for name in said["only_in_b"]]
    more = f"And {len(said['scenes']) - SCENES} scenes more." if len(said["scenes"]) > SCENES else ""
    first = [("agree", _percent(said["agreement"])), ("scenes", f"{len(said['scenes']):,}")]
    text = page(
        "maskmill: two masks compared",
        tagged("h1", "Two masks compared"),
        tagged("p", f"A: {a}"),
        tagged("p", f"B: {b}"),
        facts([*first, ("megapixels", f"{said['compared'] / 1e6:,.2f}")]),
        section("Not compared", listed([*said["problems"], *alone][:SCENES])),
        *sections,
        tagged("p", more),
    )
    put_whole(target, text)


def _scene(said: Mapping[str, Any], one: Compared, pictured: bool) -> Raw:
    classes = [
        [
            each["class"],
            Number(f"{each['pixels_a']:,}"),
            Number(f"{each['pixels_b']:,}"),
            Number(_area(each["area_a"])),
            Number(_area(each["area_b"])),
            Number("–" if each["change"] is None else f"{100 * each['change']:+.2f} %"),
            Number("–" if each["iou"] is None else f"{each['iou']:.4f}"),
        ]
        for each in said["classes"]
    ]
    worst = [
        [
            f"rows {top} to {bottom}, columns {left} to {right}",
            "–" if each["bounds"] is None else ", ".join(f"{number:.10g}" for number in each["bounds"]),
            Number(_percent(each["share"])),
        ]
        for each in said["differ_most"]
        for top, left, bottom, right in [each["window"]]
    ]
    picture = small(_picture(one)) if pictured else None
    return section(
        f"{said['scene']}: {_percent(said['agreement'])} agree",
        listed(said["notes"]),
        figure(picture, f"{said['scene']}: A, B, and where they differ in red") if picture else Raw(""),
        table(("class", "pixels A", "pixels B", "area A", "area B", "change", "IoU"), classes),
        tagged("p", "Pixels by class in A (rows) and in B (columns)"),
        _matrix(said["confusion"]),
        tagged("p", "Where they differ most") if worst else Raw(""),
        table(("window", f"place ({one.crs or 'no CRS'})"[:60], "differ"), worst),
    )


def _matrix(said: Mapping[str, Any]) -> Raw:
    """The names that occur, and their pixels."""
    pixels = np.array(said["pixels"])
    shown = np.flatnonzero(pixels.sum(axis=0) + pixels.sum(axis=1))[:40]
    names = [said["names"][number] for number in shown]
    rows = [[said["names"][row], *(Number(f"{pixels[row, col]:,}") for col in shown)] for row in shown]
    return table(("A \\ B", *names), rows)


def _picture(one: Compared) -> Image.Image:
    """A, B and the differences, side by side."""
    size = one.differences.shape
    first = _coloured(one.folders[0] / MASK, (size[0], size[1]))
    second = _coloured(one.folders[1] / MASK, (size[0], size[1]))
    grey = np.repeat(first.mean(axis=-1, keepdims=True) * 0.3 + 160, 3, axis=-1)
    red = np.where(one.differences > 0, _FAINTEST + (1 - _FAINTEST) * one.differences, 0)[..., None]
    differs = (grey * (1 - red) + np.array([220, 0, 0]) * red).astype(np.uint8)
    gap = np.full((size[0], _GAP, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([first, gap, second, gap, differs], axis=1))


def _coloured(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask at another size (row, col, RGB), each class in its colour."""
    with environment(), rasterio.open(path, driver="GTiff") as file:
        mask = file.read(1, out_shape=size, resampling=Resampling.nearest)
        told = json.loads(file.tags()["classification_classes"])
    palette = np.zeros((np.iinfo(mask.dtype).max + 1, 3), np.uint8)
    for each in told:
        palette[each["value"]] = rgb(f"#{each['color_hint']}")
    picture: NDArray[np.uint8] = palette[mask]
    return picture


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3f} %"


def _area(square_metres: float | None) -> str:
    return "–" if square_metres is None else f"{square_metres / 1e6:,.6g} km²"
