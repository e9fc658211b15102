"""A mask to be scored: its classes, as the file says of itself or the user says, and its pixels as codes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from models.meaning import Codes, coded
from pipeline.errors import SettingsError
from pipeline.grid import Rect
from pipeline.network.legend import MaskClass, default_colour
from pipeline.raster.access import environment, open_file
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene, open_scene
from pipeline.settings import statuses

MASK = "mask.tif"
NONE = "none"  # what a mask with a band for each class calls the absence of all
HOLES = ("failed", "outside", "nodata", "no class")
"""What a pixel of a mask is that is no class: their codes follow those of the classes."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask on its grid; `layered` where it has a band of 0 and 1 for each class but the first.

    `tags` are the file's own.
    """

    path: Path
    scene: Scene
    classes: tuple[MaskClass, ...]
    layered: bool
    tags: Mapping[str, str]

    @property
    def bands(self) -> int:
        """How many answers a pixel has: one, or one for each class but the first."""
        return len(self.classes) - 1 if self.layered else 1

    @property
    def sides(self) -> int:
        """How many classes each answer chooses from."""
        return 2 if self.layered else len(self.classes)

    def read(self, reader: Reader, rect: Rect) -> Codes:
        """Codes (band, row, col) of a rectangle: places of classes, then those of HOLES. Raises BlockError."""
        pixels, valid = reader.read(rect)
        values = (0, 1) if self.layered else tuple(one.value for one in self.classes)
        places = {value: at for at, value in enumerate(values)}
        if self.tags and pixels.dtype.kind == "u":
            named = statuses(pixels.dtype).named()
            places |= {value: self.sides + HOLES.index(name) for value, name in named.items()}
        codes = coded(pixels, places, self.sides + HOLES.index("no class"))
        codes[:, ~valid] = self.sides + HOLES.index("nodata")
        return codes


def open_mask(path: Path, name: str, said: Sequence[str] = ()) -> Mask:
    """Open a mask. `said` names the classes of one that does not: `[sea, land]`, or `[0=sea, 7=land]`.

    Raises SceneError where it cannot be opened, SettingsError where nobody says its classes, or it has none to score.
    """
    scene = open_scene(str(path), None, name)
    with environment(), open_file(path) as file:
        told, layered, tags = _told(file)
    if told and said:
        raise SettingsError(f"{path} says its own classes, {_listed(told)}: leave --classes out.")
    classes = told or classes_said(said)
    if not classes:
        raise SettingsError(f"{path} does not say its classes: name them, as in --classes 0=background,1=building.")
    if len(classes) < 2:
        raise SettingsError(f"{path} has {len(classes)} class, {_listed(classes)}: there is nothing to tell apart.")
    if len(scene.bands) != (len(classes) - 1 if layered else 1):
        raise SettingsError(f"{path} has {len(scene.bands)} bands; a mask of these classes has one.")
    return Mask(path, scene, classes, layered, tags if told else {})


def classes_told(file: DatasetReader) -> tuple[MaskClass, ...]:
    """The classes that a mask of one band says it has, without its statuses; none where it says none."""
    with suppress(ValueError, KeyError, TypeError):
        told: Sequence[Mapping[str, Any]] = json.loads(file.tags()["classification_classes"])
        known = statuses(file.dtypes[0]).named()
        real = [one for one in told if int(one["value"]) not in known]
        return tuple(_class(at, int(one["value"]), one["name"], one.get("color_hint")) for at, one in enumerate(real))
    return ()


def _told(file: DatasetReader) -> tuple[tuple[MaskClass, ...], bool, dict[str, str]]:
    """(classes, whether each has a band, tags) of a mask of ours."""
    tags = dict(file.tags())
    if classes := classes_told(file):
        return classes, False, tags
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        colours: dict[str, str] = json.loads(tags["MASKMILL_COLOURS"])
        hints = {name: colour.lstrip("#") for name, colour in colours.items()}
        names = [NONE, *(str(name) for name in file.descriptions)]
        return tuple(_class(at, at, name, hints.get(name)) for at, name in enumerate(names)), True, tags
    return (), False, tags


def _class(index: int, value: int, name: str, hint: str | None) -> MaskClass:
    colour = f"#{hint}".lower() if hint and re.fullmatch("[0-9A-Fa-f]{6}", hint) else default_colour(index)
    return MaskClass(index=index, value=value, name=str(name), colour=colour)


def classes_said(said: Sequence[str]) -> tuple[MaskClass, ...]:
    """What `--classes` says: `[sea, land]`, or `[0=sea,7=land]`. Raises SettingsError for what it cannot mean."""
    classes: list[MaskClass] = []
    for at, part in enumerate(part.strip() for entry in said for part in entry.split(",")):
        value, equals, name = part.partition("=")
        if (equals and not value.strip().isdecimal()) or not part:
            raise SettingsError(f"`--classes` cannot be '{','.join(said)}': write 0=background,1=building.")
        classes.append(_class(at, int(value) if equals else at, name.strip() if equals else part, None))
    for key in ("value", "name"):
        if len({getattr(one, key) for one in classes}) < len(classes):
            raise SettingsError(f"`--classes` says a {key} twice: '{','.join(said)}'.")
    return tuple(classes)


def _listed(classes: Sequence[MaskClass]) -> str:
    return ", ".join(f"{one.value} {one.name}" for one in classes)
