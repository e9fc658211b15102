"""What the values of labels mean: which class each of them is, and which are left out of every score.

A value is the class that has this value in the mask, unless `--map VALUE=CLASS` says another; `--ignore` leaves
one out. Polygons have two values, `inside` and `outside`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.network.legend import MaskClass

INSIDE, OUTSIDE = "inside", "outside"
Value = int | str

Codes = NDArray[np.int32]
"""Classes by their place from 0; then what is no class."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A class's place, or `ignored`, by the value that labels have for it; `told` are values that the user named.

    Codes of truth are 0 to classes − 1, then `ignored`, `unlabelled` (no data, or nothing there) and `strange` (a value
    that means nothing).
    """

    classes: tuple[str, ...]
    places: Mapping[Value, int]
    told: frozenset[Value]

    @property
    def ignored(self) -> int:
        """The code of what is left out by request."""
        return len(self.classes)

    @property
    def unlabelled(self) -> int:
        """The code of what labels say nothing of."""
        return len(self.classes) + 1

    @property
    def strange(self) -> int:
        """The code of a value that means nothing."""
        return len(self.classes) + 2

    @property
    def numbers(self) -> dict[int, int]:
        """Of `places` those of a raster's values."""
        return {value: place for value, place in self.places.items() if isinstance(value, int)}

    @property
    def legend(self) -> str:
        """Values and classes, for a sentence."""
        real = range(len(self.classes))
        return ", ".join(f"{value} {self.classes[at]}" for value, at in self.numbers.items() if at in real)


def meaning_of(classes: Sequence[MaskClass], mapped: Iterable[str] = (), ignored: Iterable[str] = ()) -> Meaning:
    """What labels of these classes mean, with `VALUE=CLASS` and values to be left out laid over it.

    Raises SettingsError for what is no value or no class.
    """
    names = tuple(one.name for one in classes)
    places: dict[Value, int] = {one.value: at for at, one in enumerate(classes)}
    if len(classes) == 2:
        places |= {OUTSIDE: 0, INSIDE: 1}
    told: dict[Value, int] = {}
    for entry in mapped:
        for value, name in _pairs(entry, names):
            told[value] = _place(name, classes)
    for entry in ignored:
        for text in entry.split(","):
            told[_value(text.strip(), "--ignore 255")] = len(classes)
    return Meaning(names, places | told, frozenset(told))


def coded(pixels: NDArray[Any], places: Mapping[int, int], otherwise: int) -> Codes:
    """Each pixel's place, of the shape that `pixels` has; `otherwise` for values that have none."""
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        table = np.full(np.iinfo(pixels.dtype).max + 1, otherwise, np.int32)
        for value, place in places.items():
            if 0 <= value < len(table):
                table[value] = place
        return np.asarray(table[pixels])
    values = np.array(sorted(places), np.float64)
    found = np.array([places[int(value)] for value in values], np.int32)
    at = np.minimum(np.searchsorted(values, pixels), len(values) - 1)
    return np.where(values[at] == pixels, found[at], np.int32(otherwise))


def _pairs(entry: str, names: Sequence[str]) -> list[tuple[Value, str]]:
    """(value, class) of `255=building,0=ground`; a class's own name may hold a comma."""
    value, equals, name = entry.partition("=")
    parts = [entry] if equals and name.strip() in names else entry.split(",")
    pairs: list[tuple[Value, str]] = []
    for part in parts:
        value, equals, name = part.partition("=")
        if not equals:
            raise SettingsError(f"`--map` cannot be '{entry}': give each value its class, as in --map 255=building.")
        pairs.append((_value(value.strip(), "--map 255=building"), name.strip()))
    return pairs


def _value(text: str, example: str) -> Value:
    if text in (INSIDE, OUTSIDE):
        return text
    if not re.fullmatch(r"[+-]?\d{1,15}", text):
        raise SettingsError(f"'{text}' is no value of labels: give whole numbers, inside or outside, as in {example}.")
    return int(text)


def _place(name: str, classes: Sequence[MaskClass]) -> int:
    """The place of a class by its name, else by its value."""
    for at, one in enumerate(classes):
        if one.name == name:
            return at
    for at, one in enumerate(classes):
        if str(one.value) == name:
            return at
    raise SettingsError(
        f"The mask has no class '{name}' for `--map`: it has {', '.join(f'{one.value} {one.name}' for one in classes)}."
    )
