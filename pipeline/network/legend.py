"""The legend: what a card's bands and classes are, and how they may be said in short."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.settings import HIGHEST_CLASS

# Okabe and Ito's colours, which people with colour blindness tell apart; grey first, where background often stands.
_COLOURS = ("#999999", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")


class Part(BaseModel):
    """What the card and its parts share: unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Band(Part):
    """One channel of the input: its name, and which band of the file it is, from 1; None: by its place in the list."""

    name: str = Field(min_length=1)
    index: int | None = Field(default=None, ge=1)


class MaskClass(Part):
    """One class: its index in the network's answer, its value in the mask, its name and its colour (#rrggbb)."""

    index: int = Field(ge=0)
    value: int = Field(ge=0, le=HIGHEST_CLASS)
    name: str = Field(min_length=1)
    colour: Annotated[str, Field(pattern="^#[0-9a-f]{6}$"), BeforeValidator(lambda c: str(c).lower())]


VALUE = (MaskClass(index=0, value=0, name="value", colour=_COLOURS[0]),)
"""The legend of a mask beside rasters of numbers."""


def default_colour(index: int) -> str:
    """Give class `index` a colour of its own, always the same."""
    if index < len(_COLOURS):
        return _COLOURS[index]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.65, 0.9)  # golden angle: neighbours differ
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def bands_said(value: object) -> object:
    """Read `[red, green]` as names, and `[4, 3]` as bands of the file."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(_whole_band(item) for item in value)


def _whole_band(item: object) -> object:
    if isinstance(item, int):
        return {"name": f"band {item}", "index": item}
    return {"name": item} if isinstance(item, str) else item


def classes_said(value: object) -> object:
    """Read `[sea, land]`, `{0: sea, 1: land}` or full entries; index, value and colour follow from the place."""
    if isinstance(value, Mapping):
        try:
            value = [
                {"index": int(index), **(item if isinstance(item, Mapping) else {"name": item})}
                for index, item in value.items()
            ]
            value.sort(key=lambda item: item["index"])
        except (ValueError, TypeError, OverflowError):
            raise ValueError("classes must be keyed by their index, such as {0: sea, 1: land}") from None
    if not isinstance(value, list | tuple):
        return value
    return tuple(_whole_class(place, item) for place, item in enumerate(value))


def _whole_class(place: int, item: object) -> object:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping):
        return item
    index = item.get("index", place)
    return {"index": index, "value": index, "colour": default_colour(place), **item}
