"""Labels over a mask's pixels: a raster on its grid, one on another grid, or polygons.

On another grid the label under each pixel's centre counts; a pixel is in a polygon where its centre is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from rasterio.io import DatasetReader

from models.masks import Mask
from models.meaning import INSIDE, OUTSIDE, Codes, Meaning, coded
from models.same_grid import demand_same_grid, has_place
from pipeline.errors import SettingsError
from pipeline.grid import Rect
from pipeline.raster.access import environment, open_file
from pipeline.raster.area import Area, Fence, Form, find_area, open_area
from pipeline.raster.laid import Laid, Said
from pipeline.raster.placing import placed
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene, open_scene
from pipeline.raster.stage import reason_to_stage, stage

SHOWN = 5  # values in a message


class Truth(Protocol):
    """What can say of any rectangle of the mask what is true there."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the labels were understood."""

    def read(self, rect: Rect) -> Codes:
        """Codes (row, col) of a rectangle, as Meaning has them. Raises BlockError where the file cannot be read."""

    def demand_known(self, strange: int) -> None:
        """Raise SettingsError where `strange` pixels, more than none, had a value that means nothing."""

    def reopened(self) -> Truth:
        """The same labels with file handles of their own, for another thread."""

    def close(self) -> None:
        """Close what is open; reading opens again."""


class RasterTruth:
    """Labels of a raster; with `laid` on another grid than the mask's."""

    def __init__(self, labels: Scene, meaning: Meaning, laid: Laid | None, notes: tuple[str, ...]) -> None:
        self.notes = notes
        self._reader, self._meaning, self._laid = Reader(labels), meaning, laid
        self._strange: set[float] = set()

    def reopened(self) -> RasterTruth:
        """See Truth."""
        return RasterTruth(self._reader.scene, self._meaning, self._laid, self.notes)

    def close(self) -> None:
        """See Truth."""
        self._reader.close()

    def read(self, rect: Rect) -> Codes:
        """See Truth; no data, and what lies beyond the labels, is unlabelled."""
        meaning = self._meaning
        if self._laid is None:
            return self._codes(rect)[0]
        codes = np.full(rect.shape, meaning.unlabelled, np.int32)
        self._laid.look_up(rect, self._codes, (codes,))
        return codes

    def demand_known(self, strange: int) -> None:
        """See Truth."""
        if strange:
            values = sorted(self._strange)
            more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
            first = f"{values[0]:.10g}"
            raise SettingsError(
                f"The labels {self._reader.scene.shown} have values that are no class "
                f"({', '.join(f'{value:.10g}' for value in values[:SHOWN])}{more}) at {strange:,} pixels, where the "
                f"classes are {self._meaning.legend}: say what they are, as in --map {first}="
                f"{self._meaning.classes[-1]}, or leave them out by --ignore {first}."
            )

    def _codes(self, rect: Rect) -> Said:
        pixels, valid = self._reader.read(rect)
        codes = coded(pixels[0], self._meaning.numbers, self._meaning.strange)
        codes[~valid] = self._meaning.unlabelled
        odd = codes == self._meaning.strange
        if odd.any():
            self._strange |= set(np.unique(pixels[0][odd]).tolist())
        return (codes,)


class PolygonTruth:
    """Labels of polygons: inside is one class, outside another."""

    def __init__(self, fence: Fence, inside: int, outside: int) -> None:
        self.notes = fence.notes
        self._fence, self._codes = fence, (outside, inside)

    def read(self, rect: Rect) -> Codes:
        """See Truth."""
        inside = np.broadcast_to(self._fence.inside(rect), rect.shape)
        return np.array(self._codes, np.int32)[inside.astype(np.intp)]

    def demand_known(self, strange: int) -> None:
        """See Truth; polygons have no values."""

    def reopened(self) -> PolygonTruth:
        """See Truth; no file is open."""
        return self

    def close(self) -> None:
        """See Truth; no file is open."""


def open_truth(labels: str, mask: Mask, meaning: Meaning, align: bool, folder: Path, called: str = "mask") -> Truth:
    """Lay labels over a mask, or what it is `called`; `folder` is for a copy of those that are slow to read.

    Raises SettingsError where the grids differ and `align` is not asked for, or polygons are of no class; SceneError
    and SettingsError for files that are no labels.
    """
    area = find_area(labels)
    if area.form is Form.VECTOR:
        return _of_polygons(area, mask.scene, meaning)
    scene, notes = _without_told_nodata(open_scene(area.path, None, "labels"), meaning)
    with environment(), open_file(area.path) as file, open_file(mask.path) as other:
        note = _demand_laid(file, other, align, called)
    laid = _laid(scene, mask.scene) if align and not note else None
    return RasterTruth(quick(scene, folder), meaning, laid, tuple(one for one in (*notes, note) if one))


def quick(scene: Scene, folder: Path) -> Scene:
    """The scene as it is read fast by windows: itself, or a copy in a folder."""
    return stage(scene, folder) if reason_to_stage(scene) else scene


def _of_polygons(area: Area, scene: Scene, meaning: Meaning) -> PolygonTruth:
    if missing := [side for side in (INSIDE, OUTSIDE) if side not in meaning.places]:
        raise SettingsError(
            f"The polygons of {area.path} do not say which of {len(meaning.classes)} classes "
            f"{' and '.join(missing)} is: say it, as in --map {INSIDE}={meaning.classes[-1]},{OUTSIDE}="
            f"{meaning.classes[0]}."
        )
    return PolygonTruth(open_area(area, scene), meaning.places[INSIDE], meaning.places[OUTSIDE])


def _without_told_nodata(scene: Scene, meaning: Meaning) -> tuple[Scene, tuple[str, ...]]:
    """Labels whose value for no data the user has named as a class have none; one that is a class by itself is told."""
    nodata = scene.nodata[0]
    if nodata is None or nodata not in meaning.numbers:
        return scene, ()
    value = int(nodata)
    if value in meaning.told:
        return replace(scene, nodata=(None,)), ()
    name = meaning.classes[meaning.numbers[value]]
    return scene, (
        f"The labels {scene.shown} declare {value} to be no data, so those pixels are left out, though {value} is "
        f"{name} in the mask: --map {value}={name} counts them.",
    )


def _demand_laid(labels: DatasetReader, mask: DatasetReader, align: bool, called: str) -> str | None:
    """What is to be said of labels that have a mask's pixels without saying where they lie."""
    if labels.shape == mask.shape and not (has_place(labels) and has_place(mask)):
        if has_place(labels) == has_place(mask):
            return None
        who = f"The {called} has" if has_place(labels) else "The labels have"
        return f"{who} no georeference: the two are laid pixel by pixel."
    if not align:
        remedy = f"give labels of its grid, or --align to look up the label under each centre of the {called}'s pixels"
        demand_same_grid(mask, labels, (f"The {called}", f"{labels.name}"), remedy)
    return None


def _laid(labels: Scene, mask: Scene) -> Laid | None:
    if labels.transform is None or mask.transform is None:
        if labels.rect == mask.rect:
            return None
        raise SettingsError(
            f"The mask is {mask.height} × {mask.width} px and the labels {labels.shown} are {labels.height} × "
            f"{labels.width} px, and not both say where they lie: they cannot be aligned."
        )
    return Laid(mask, labels, placed(labels.uri, labels.crs, mask))
