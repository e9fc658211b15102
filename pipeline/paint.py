"""A mask as a picture: classes in their colours, numbers from black to white, and the legend that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from pipeline.cog import STATUS_COLOURS, rgb
from pipeline.document import MISSHAPEN
from pipeline.network.card import Card
from pipeline.network.legend import default_colour
from pipeline.settings import STEPS, statuses

LOW, HIGH = 2, 98  # percentiles of numbers that become black and white
NAMED = 40  # classes that a legend names; the report has them all
VALUES = 256  # of a raster that says nothing of itself; where it has more, they are numbers
WORDS = {"failed": "failed", "outside": "outside", "nodata": "no data"}
BEHIND = frozenset({"background", "none", "nothing", "other", "rest", "value 0"})  # classes that an overlay leaves bare

Colour = tuple[int, int, int]
Entry = tuple[Colour, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A class: its value, its name and its colour."""

    value: int
    name: str
    colour: Colour


@dataclass(frozen=True, slots=True)
class Key:
    """What the values of a raster mean.

    Parameters
    ----------
    title
        What it is called.
    kinds
        Its classes; of layers, the first is where none of the others is, and each other has a band of 0 and 1.
    statuses
        The values that are none: failed, outside, nodata.
    layered
        Whether it has a band for each class but the first.
    unit
        What its numbers count, as a number; None where it holds classes.
    palette
        Colours of values that no class is known for.

    """

    title: str = "mask"
    kinds: tuple[Kind, ...] = ()
    statuses: Mapping[int, str] = field(default_factory=dict)
    layered: bool = False
    unit: float | None = None
    palette: Mapping[int, Colour] = field(default_factory=dict)

    @property
    def bands(self) -> list[int]:
        """The bands to read."""
        return list(range(1, len(self.kinds))) if self.layered else [1]

    @classmethod
    def of_card(cls, card: Card) -> Self:
        """The key of what a network with this card makes."""
        known = statuses(card.mask_dtype).named()
        if card.says == "values":
            return cls(f"values of {card.labels[0]}", statuses=known, unit=1.0)
        kinds = tuple(Kind(one.value, one.name, rgb(one.colour)) for one in card.classes)
        return cls("mask", kinds, known, card.layered)

    @classmethod
    def of_file(cls, file: DatasetReader) -> Self:
        """The key of any raster, by what it says of itself."""
        kind = np.dtype(file.dtypes[0])
        known = statuses(kind).named() if kind.kind == "u" else {}
        if kind.kind == "f":
            return cls(f"values of {file.descriptions[0]}" if file.descriptions[0] else "values", unit=1.0)
        if file.scales[0] == 1 / STEPS:
            return cls(file.descriptions[0] or "steps", statuses=known, unit=1 / STEPS)
        try:
            if layers := _layers_told(file):
                return cls("mask", layers, known, layered=True)
            if kinds := _classes_told(file):
                return cls("mask", kinds, known)
        except MISSHAPEN:
            pass  # somebody else's tags of these names
        nodata = file.nodatavals[0]
        return cls(statuses={} if nodata is None else {int(nodata): "nodata"}, palette=_palette_of(file))

    def beside(self, mask: Key) -> Self:
        """The key of numbers beside which a mask says where there are none."""
        return replace(self, statuses=mask.statuses)

    def with_all_of(self, mask: NDArray[Any]) -> Self:
        """The key with a class for each value of a mask (row, col) that it has none for; with very many, numbers."""
        if self.unit is not None or self.layered:
            return self
        known = {one.value for one in self.kinds} | set(self.statuses)
        new = [value for value in np.unique(mask).tolist() if value not in known]
        if len(new) > VALUES:
            return replace(self, title="values", kinds=(), unit=1.0)
        more = (Kind(one, f"value {one}", self.palette.get(one, rgb(default_colour(abs(one))))) for one in new)
        return replace(self, kinds=(*self.kinds, *more))

    def counts(self, raster: NDArray[Any]) -> dict[int, int]:
        """Pixels of a raster (band, row, col) by value, those of layers by their class's."""
        values, numbers = np.unique(raster[0], return_counts=True)
        counted = dict(zip(values.tolist(), numbers.tolist(), strict=True))
        if not self.layered:
            return counted
        none, *classes = self.kinds
        found = {one.value: int(np.count_nonzero(band == 1)) for band, one in zip(raster, classes, strict=True)}
        nowhere = int(np.count_nonzero((raster == 0).all(axis=0)))
        return (
            {value: number for value, number in counted.items() if value in self.statuses}
            | found
            | {none.value: nowhere}
        )


@dataclass(frozen=True, slots=True)
class Painting:
    """A picture (row, col, RGB), where an overlay shows it (row, col), and (colour, words) of a legend."""

    title: str
    picture: NDArray[np.uint8]
    shows: NDArray[np.bool_]
    entries: list[Entry]


def paint(
    raster: NDArray[Any], key: Key, counts: Mapping[int, int], total: int, mask: NDArray[Any] | None = None
) -> Painting:
    """Paint a raster (band, row, col).

    `counts` are pixels by value, of `total` in all. Beside numbers a `mask` (row, col) may say where there are none.
    """
    where = raster[0] if mask is None else mask
    bare = np.isin(where, [value for value, name in key.statuses.items() if name != "failed"])
    entries = list[Entry]()
    if key.unit is not None:
        bare |= ~np.isfinite(raster[0])
        picture, entries = _greys(raster[0], bare, key.unit)
    elif key.layered:
        bare |= ~(raster == 1).any(axis=0)
        picture = _layers(raster, key.kinds)
    else:
        bare |= np.isin(where, [one.value for one in key.kinds if one.name.lower() in BEHIND])
        picture = _classes(where, key.kinds)
    for value, name in key.statuses.items():
        picture[where == value] = STATUS_COLOURS[name]
    said = {one.value: (one.colour, one.name) for one in key.kinds}
    said |= {value: (STATUS_COLOURS[name], WORDS[name]) for value, name in key.statuses.items() if counts.get(value)}
    entries += [_entry(*words, counts.get(value, 0) / (total or 1)) for value, words in said.items()]
    return Painting(key.title, picture, ~bare | (where == _failed(key)), _shortened(entries))


def _failed(key: Key) -> int:
    """The value of what failed; one that no raster has where there is none."""
    return next((value for value, name in key.statuses.items() if name == "failed"), -1)


def _layers_told(file: DatasetReader) -> tuple[Kind, ...]:
    """The classes of a mask of ours with a band for each; none where it is another raster."""
    said = file.tags().get("MASKMILL_COLOURS", "")
    if not said.startswith("{"):  # of one band it is a sentence
        return ()
    colours = json.loads(said)
    named = (Kind(at, name, rgb(colours[name])) for at, name in enumerate(file.descriptions, start=1))
    return Kind(0, "none", rgb(default_colour(0))), *named


def _classes_told(file: DatasetReader) -> tuple[Kind, ...]:
    """The classes that STAC's classification extension lists; none where it says nothing."""
    said = json.loads(file.tags().get("classification_classes", "[]"))
    classes = (one for one in said if one["name"] not in WORDS)
    return tuple(Kind(int(one["value"]), str(one["name"]), rgb(f"#{one['color_hint']}")) for one in classes)


def _palette_of(file: DatasetReader) -> dict[int, Colour]:
    try:
        return {value: (red, green, blue) for value, (red, green, blue, _) in file.colormap(1).items()}
    except ValueError:
        return {}


def _classes(mask: NDArray[Any], kinds: tuple[Kind, ...]) -> NDArray[np.uint8]:
    """Each pixel in its class's colour."""
    values, places = np.unique(mask, return_inverse=True)
    colours = {one.value: one.colour for one in kinds}
    table = np.array([colours.get(value, (0, 0, 0)) for value in values.tolist()], np.uint8)
    return table[places.reshape(mask.shape)]


def _layers(mask: NDArray[Any], kinds: tuple[Kind, ...]) -> NDArray[np.uint8]:
    """Each class over those before it, where it is there; the first where none is."""
    none, *classes = kinds
    picture = np.full((*mask.shape[1:], 3), none.colour, np.uint8)
    for band, one in zip(mask, classes, strict=True):
        picture[band == 1] = one.colour
    return picture


def _greys(values: NDArray[Any], bare: NDArray[np.bool_], unit: float) -> tuple[NDArray[np.uint8], list[Entry]]:
    """Numbers stretched between two percentiles, and what black and white stand for."""
    numbers, there = values.astype(np.float64) * unit, ~bare
    low, high = np.percentile(numbers[there], [LOW, HIGH]) if there.any() else (0.0, 0.0)
    parts = np.clip((np.where(there, numbers, low) - low) / (high - low or 1.0), 0, 1)
    picture = np.repeat((255 * parts).astype(np.uint8)[..., None], 3, axis=-1)
    return picture, [((0, 0, 0), f"{low:.6g} and less"), ((255, 255, 255), f"{high:.6g} and more")]


def _entry(colour: Colour, name: str, part: float) -> Entry:
    return colour, f"{name}  {100 * part:.2f} %"


def _shortened(entries: list[Entry]) -> list[Entry]:
    """As many entries as a legend has room for."""
    more = len(entries) - NAMED
    return entries if more <= 0 else [*entries[:NAMED], ((255, 255, 255), f"and {more} more")]
