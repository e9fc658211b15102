"""Two models' masks of the same scenes, side by side: where they agree, what changes, where they differ most.

Masks are read piece by piece from their GeoTIFFs, so memory does not grow with the scene.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from models.evaluate import Matrix, iou
from models.masks import MASK, classes_told
from models.matched import Table, table_of
from models.same_grid import demand_same_grid
from pipeline.errors import InputError, SettingsError
from pipeline.grid import Rect
from pipeline.raster import ground
from pipeline.raster.access import environment
from pipeline.raster.complaints import GDAL_ERRORS, reason

CELL, ROWS, COLS = 256, 512, 4096  # px: where masks differ is told by cells; a piece is some rows and columns of cells
WORST, SIDE = 10, 640  # cells that are named; px of a map of differences


@dataclass(slots=True)
class Compared:
    """Two masks of one scene.

    Attributes
    ----------
    matrix
        Pixels by their name's number in A (row) and in B (column).
    cells
        (pixels that differ, top, left) of those cells in which most do.
    differences
        Where they differ, (row, col): the part of the pixels of each cell of a small map, from 0 to 1.

    """

    scene: str
    folders: tuple[Path, Path]
    table: Table
    shape: tuple[int, int]
    matrix: Matrix
    cells: list[tuple[int, int, int]] = field(default_factory=list)
    differences: NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    areas: tuple[Mapping[str, float | None], Mapping[str, float | None]] = ({}, {})

    @property
    def both(self) -> Matrix:
        """Pixels that are a class in both."""
        return self.matrix[: self.table.classes, : self.table.classes]

    @property
    def agreement(self) -> float | None:
        """The part of the pixels that are a class in both and the same class; None where there are none."""
        pixels = int(self.both.sum())
        return int(np.trace(self.both)) / pixels if pixels else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON. Areas are m², shares 0 to 1; windows are [top, left, bottom, right]."""
        return {
            "scene": self.scene,
            "pixels": self.shape[0] * self.shape[1],
            "compared": int(self.both.sum()),
            "agreement": self.agreement,
            "classes": self._classes(),
            "confusion": {"names": list(self.table.names), "pixels": self.matrix.tolist()},
            "differ_most": [self._cell(*cell) for cell in self.cells],
            "notes": list(self.table.notes),
        }

    def _classes(self) -> list[dict[str, Any]]:
        scores, said = iou(self.both), []
        for number, name in enumerate(self.table.names[: self.table.classes]):
            pixels = int(self.matrix[number].sum()), int(self.matrix[:, number].sum())
            areas = [one.get(name) for one in self.areas]
            said.append(
                {
                    "class": name,
                    "pixels_a": pixels[0],
                    "pixels_b": pixels[1],
                    "area_a": areas[0],
                    "area_b": areas[1],
                    "change": pixels[1] / pixels[0] - 1 if pixels[0] else None,
                    "iou": None if np.isnan(scores[number]) else float(scores[number]),
                }
            )
        return said

    def _cell(self, differ: int, top: int, left: int) -> dict[str, Any]:
        bottom, right = min(top + CELL, self.shape[0]), min(left + CELL, self.shape[1])
        cell = Rect(top, left, bottom, right)
        bounds = ground.bounds(self.transform, cell)
        return {
            "window": [top, left, bottom, right],
            "bounds": bounds and list(bounds),
            "differ": differ,
            "share": differ / cell.area,
        }


@dataclass(slots=True)
class Comparison:
    """All scenes that two folders have in common, and why some were not compared."""

    scenes: list[Compared] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    only: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the scenes that agree least first."""
        ordered = sorted(self.scenes, key=lambda one: 2.0 if one.agreement is None else one.agreement)
        compared = sum(int(one.both.sum()) for one in self.scenes)
        same = sum(int(np.trace(one.both)) for one in self.scenes)
        return {
            "agreement": same / compared if compared else None,
            "compared": compared,
            "scenes": [one.as_dict() for one in ordered],
            "problems": self.problems,
            "only_in_a": list(self.only[0]),
            "only_in_b": list(self.only[1]),
            "exit_code": 3 if self.problems else 0,
        }


def compare(a: Path, b: Path) -> Comparison:
    """Compare the published masks of two folders of results, scene by scene, or of two scenes' folders.

    A scene whose masks cannot be compared is a problem. Raises SettingsError where none can.
    """
    first, second = scenes_of(a), scenes_of(b)
    if is_scene(a) and is_scene(b):
        second = {a.resolve().name: b}
    names = sorted(first.keys() & second.keys())
    if not names:
        raise SettingsError(
            f"{a} has {len(first)} published masks and {b} has {len(second)}, and no scene is in both: "
            "name two folders that --out named, or two scenes' folders."
        )
    found = Comparison(only=(sorted(first.keys() - second.keys()), sorted(second.keys() - first.keys())))
    for name in names:
        try:
            found.scenes.append(compare_scene(name, first[name], second[name]))
        except InputError as error:
            found.problems.append(f"{name} is not compared: {error.message}")
    if not found.scenes:
        raise SettingsError(" ".join(found.problems))
    return found


def compare_scene(name: str, a: Path, b: Path) -> Compared:
    """Compare two masks of a scene, given the folders of its results.

    Raises SettingsError where their grids differ, or one cannot be read or has a band for each class.
    """
    with ExitStack() as stack:
        stack.enter_context(environment())
        try:
            one, other = (stack.enter_context(rasterio.open(folder / MASK, driver="GTiff")) for folder in (a, b))
            for file in (one, other):
                _demand_one_band(file)
            demand_same_grid(one, other, ("A", "B"), "they must be of the same grid")
            table = table_of(_classes_of(one), _classes_of(other), one.dtypes[0], other.dtypes[0])
            found = Compared(name, (a, b), table, one.shape, np.zeros((len(table.names),) * 2, np.int64))
            found.crs = one.crs.to_string() if one.crs else None
            found.transform = None if one.transform.is_identity else _six(one)
            _count(found, one, other)
        except GDAL_ERRORS as error:
            raise SettingsError(f"A mask in {a} or {b} cannot be read: {reason(error)}.") from None
    found.areas = _areas(a), _areas(b)
    return found


def _count(found: Compared, one: DatasetReader, other: DatasetReader) -> None:
    """Count pairs of classes, and where they differ, piece by piece."""
    (height, width), table = found.shape, found.table
    factor = -(-max(height, width) // SIDE)
    counts = np.zeros((-(-height // factor), -(-width // factor)), np.int64)
    cells: list[tuple[int, int, int]] = []
    for window in _pieces(height, width):
        top, left = int(window.row_off), int(window.col_off)
        first, second = table.a[one.read(1, window=window)], table.b[other.read(1, window=window)]
        pairs = np.bincount((first * len(table.names) + second).ravel(), minlength=len(table.names) ** 2)
        found.matrix += pairs.reshape(found.matrix.shape)
        rows, cols = np.nonzero(first != second)
        np.add.at(counts, ((rows + top) // factor, (cols + left) // factor), 1)
        across = -(-COLS // CELL)
        differ = np.bincount(rows // CELL * across + cols // CELL).tolist()
        cells += [
            (-count, top + at // across * CELL, left + at % across * CELL) for at, count in enumerate(differ) if count
        ]
        cells = sorted(cells)[:WORST]
    found.cells = [(-differ, top, left) for differ, top, left in cells]
    found.differences = (counts / factor**2).astype(np.float32)


def _pieces(height: int, width: int) -> Iterator[Window]:
    for top in range(0, height, ROWS):
        for left in range(0, width, COLS):
            yield Window(left, top, min(COLS, width - left), min(ROWS, height - top))


def _demand_one_band(file: DatasetReader) -> None:
    if file.count != 1:
        raise SettingsError(f"{file.name} has {file.count} bands, one for each class: masks of one band are compared.")


def _six(file: DatasetReader) -> tuple[float, float, float, float, float, float]:
    one = file.transform
    return one.a, one.b, one.c, one.d, one.e, one.f


def _classes_of(file: DatasetReader) -> dict[int, str]:
    """The names of a mask's classes by value, without its statuses."""
    if told := classes_told(file):
        return {one.value: one.name for one in told}
    raise SettingsError(f"{file.name} does not say its classes, so it is no mask of maskmill.")


def _areas(folder: Path) -> dict[str, float | None]:
    """m² of each class, as the scene's report says; nothing where it says nothing."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {one["name"]: one["area"] for one in json.loads((folder / "report.json").read_bytes())["classes"]}
    return {}


def is_scene(folder: Path) -> bool:
    """Whether a folder holds the result of one scene."""
    return (folder / MASK).is_file()


def scenes_of(folder: Path) -> dict[str, Path]:
    """The folders with a published mask, by scene."""
    if is_scene(folder):
        return {folder.resolve().name: folder}
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder of results: name one that --out named, or a scene's folder.")
    return {one.name: one for one in sorted(folder.iterdir()) if not one.name.startswith(".") and is_scene(one)}
