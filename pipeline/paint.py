"""A finished result as a picture: classes in their colours, numbers from black to white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pipeline.cog import STATUS_COLOURS, rgb
from pipeline.network.card import Card
from pipeline.raster.access import environment
from pipeline.settings import statuses

LOW, HIGH = 2, 98  # percentiles of numbers that become black and white
NAMED = 40  # classes that a legend names; the report has them all
WORDS = {"failed": "failed", "outside": "outside", "nodata": "no data"}

Entry = tuple[tuple[int, int, int], str]


@dataclass(frozen=True, slots=True)
class Painting:
    """A picture (row, col, RGB), where it shows something of the scene (row, col), and (colour, words) of a legend."""

    title: str
    picture: NDArray[np.uint8]
    shows: NDArray[np.bool_]
    entries: list[Entry]


def paint(folder: Path, card: Card, counts: Mapping[int, int], total: int, size: tuple[int, int]) -> Painting:
    """Paint the GeoTIFFs that lie in a folder at another size.

    `counts` are pixels by value of the mask, of `total` in all.
    """
    mask = _read(folder / "mask.tif", size, card.channels if card.layered else 1)
    named = statuses(card.mask_dtype).named()
    said = {value: (STATUS_COLOURS[name], WORDS[name]) for value, name in named.items() if counts.get(value)}
    title, entries = "mask", list[Entry]()
    if card.says == "values":
        title = f"values of {card.labels[0]}"
        picture, entries = _greys(_read(folder / "values.tif", size, 1)[0])
    else:
        picture = _layers(mask, card) if card.layered else _classes(mask[0], card)
        said = {one.value: (rgb(one.colour), one.name) for one in card.classes} | said
    for value, name in named.items():
        picture[mask[0] == value] = STATUS_COLOURS[name]
    entries += [_entry(*words, counts.get(value, 0) / (total or 1)) for value, words in said.items()]
    shows = ~np.isin(mask[0], [value for value, name in named.items() if name != "failed"])
    return Painting(title, picture, shows, _shortened(entries))


def _read(path: Path, size: tuple[int, int], bands: int) -> NDArray[Any]:
    """The first bands (band, row, col) at another size."""
    with environment(), rasterio.open(path) as file:
        wanted = list(range(1, bands + 1))
        raster: NDArray[Any] = file.read(wanted, out_shape=(bands, *size), resampling=Resampling.nearest)
        return raster


def _classes(mask: NDArray[Any], card: Card) -> NDArray[np.uint8]:
    """Each pixel in its class's colour."""
    palette = np.zeros((np.iinfo(mask.dtype).max + 1, 3), np.uint8)
    for one in card.classes:
        palette[one.value] = rgb(one.colour)
    picture: NDArray[np.uint8] = palette[mask]
    return picture


def _layers(mask: NDArray[Any], card: Card) -> NDArray[np.uint8]:
    """Each class over those before it, where it is there; the first where none is."""
    none, *classes = card.classes
    picture = np.full((*mask.shape[1:], 3), rgb(none.colour), np.uint8)
    for band, one in zip(mask, classes, strict=True):
        picture[band == 1] = rgb(one.colour)
    return picture


def _greys(values: NDArray[Any]) -> tuple[NDArray[np.uint8], list[Entry]]:
    """Numbers stretched between two percentiles, and what black and white stand for."""
    numbers = values.astype(np.float64)
    there = np.isfinite(numbers)
    low, high = np.percentile(numbers[there], [LOW, HIGH]) if there.any() else (0.0, 0.0)
    parts = np.clip((np.where(there, numbers, low) - low) / (high - low or 1.0), 0, 1)
    picture = np.repeat((255 * parts).astype(np.uint8)[..., None], 3, axis=-1)
    return picture, [((0, 0, 0), f"{low:.6g} and less"), ((255, 255, 255), f"{high:.6g} and more")]


def _entry(colour: tuple[int, int, int], name: str, part: float) -> Entry:
    return colour, f"{name}  {100 * part:.2f} %"


def _shortened(entries: list[Entry]) -> list[Entry]:
    """As many entries as a legend has room for."""
    more = len(entries) - NAMED
    return entries if more <= 0 else [*entries[:NAMED], ((255, 255, 255), f"and {more} more")]
