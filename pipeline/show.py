"""Any window of an image, its mask, and one over the other, as one picture: what `maskmill show` draws."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.paint import Key, Painting, paint
from pipeline.quicklook import compose, picture_of, read_raster
from pipeline.raster import ground
from pipeline.raster.access import environment, open_file
from pipeline.raster.address import shown
from pipeline.raster.complaints import told_of
from pipeline.raster.facts import transform_of
from pipeline.raster.glimpse import Size
from pipeline.raster.naming import scene_name
from pipeline.raster.source import Scene
from pipeline.sheet import picture_size

MASK, VALUES = "mask.tif", "values.tif"
_SLICES = re.compile(r"\s*(\d*)\s*:\s*(\d*)\s*,\s*(\d*)\s*:\s*(\d*)\s*")


@dataclass(frozen=True, slots=True)
class Masks:
    """A mask, and the numbers that it says where there are none of; the addresses of their files."""

    mask: str
    numbers: str | None = None


def masks_at(place: str, image: str) -> Masks:
    """What a person means by the mask of an image: a file, a scene's folder of results, or the folder that holds it.

    Raises SceneError where there is none.
    """
    if not os.path.isdir(place):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        return Masks(place)
    for folder in (Path(place), Path(place) / scene_name(image)):
        if (folder / MASK).is_file():
            numbers = folder / VALUES
            return Masks(str(folder / MASK), str(numbers) if numbers.is_file() else None)
    raise SceneError(
        f"There is no {MASK} in {place}, nor in a folder {scene_name(image)} there: name a mask, the folder of a "
        "scene's result that is finished, or what --out named."
    )


def window_of(text: str, scene: Scene) -> Rect:
    """The pixels that `top:bottom,left:right` names, half-open; what is left out is the image's end.

    Raises SettingsError where that cannot be understood or is none of the image.
    """
    said = _SLICES.fullmatch(text)
    if said is None:
        raise SettingsError(f"`--window` cannot be '{text}': say rows and columns, such as 1000:2000,500:1500.")
    ends = zip(said.groups(), (0, scene.height, 0, scene.width), strict=True)
    top, bottom, left, right = (int(end) if end else default for end, default in ends)
    return _part(f"`--window {text}`", Rect(top, left, bottom, right), scene)


def window_at(bounds: Sequence[float], scene: Scene) -> Rect:
    """The pixels that meet [left, bottom, right, top], in the image's coordinates (a slide's are micrometres).

    Raises SettingsError where the image has none, or that is no place in it.
    """
    said = "`--bounds " + ",".join(f"{number:.12g}" for number in bounds) + "`"
    if scene.transform is None:
        raise SettingsError(f"{said} is of no use: {scene.name} has no coordinates. Say rows and columns by --window.")
    into = ~Affine(*scene.transform)
    corners = [into * (x, y) for x in (bounds[0], bounds[2]) for y in (bounds[1], bounds[3])]
    cols, rows = zip(*corners, strict=True)
    slack = 1e-6  # px: what a coordinate on the edge of a pixel loses to rounding
    first = math.floor(min(rows) + slack), math.floor(min(cols) + slack)
    return _part(said, Rect(*first, math.ceil(max(rows) - slack), math.ceil(max(cols) - slack)), scene)


def _part(said: str, rect: Rect, scene: Scene) -> Rect:
    part = rect.intersect(scene.rect)
    if part.area:
        return part
    reach = ground.bounds(scene.transform, scene.rect) if said.startswith("`--bounds") else None
    place = f"; it reaches from {reach[0]:.9g} {reach[1]:.9g} to {reach[2]:.9g} {reach[3]:.9g}" if reach else ""
    raise SettingsError(f"{said} has no pixel of {scene.name}, which has {scene.height} × {scene.width}{place}.")


def show(scene: Scene, masks: Masks, view: Rect, side: int) -> Image.Image:
    """Draw a rectangle of a scene, which has three bands or one is shown, of its mask, and both, `side` px each.

    Shares in the legend are those of the pixels that are drawn. Raises SceneError where the two do not lie on each
    other, BlockError where the image cannot be read.
    """
    size = picture_size(*view.shape, side)
    painting = _painted(masks, scene, view, size)
    places = (0, 1, 2) if len(scene.bands) >= 3 else (0,)
    whole = "" if view == scene.rect else f" of {scene.height} × {scene.width}"
    caption = f"rows {view.top}:{view.bottom}, columns {view.left}:{view.right}{whole}"
    return compose(picture_of(scene, places, view, size), painting, scene, view, caption)


def _painted(masks: Masks, scene: Scene, view: Rect, size: Size) -> Painting:
    with told_of(shown(masks.mask)), environment(masks.mask), open_file(masks.mask) as file:
        key = Key.of_file(file)
        raster = read_raster(file, key.bands, _laid(file, masks.mask, scene, view), size)
    if masks.numbers is None:
        key = key.with_all_of(raster[0])
        return paint(raster, key, key.counts(raster), raster[0].size)
    with told_of(masks.numbers), environment(), open_file(masks.numbers) as file:
        numbers = read_raster(file, [1], _laid(file, masks.numbers, scene, view), size)
        said = Key.of_file(file).beside(key)
    return paint(numbers, said, key.counts(raster), raster[0].size, raster[0])


def _laid(file: DatasetReader, name: str, scene: Scene, view: Rect) -> Window:
    """The window of a raster that shows a rectangle of a scene: they cover the same, in pixels of any size.

    Raises SceneError where they do not.
    """
    here, there = scene.rect, Rect(0, 0, file.height, file.width)
    transform = transform_of(file)
    what = f"The mask {shown(name)} of {there.height} × {there.width} pixels"
    if transform and scene.transform:
        ends = np.array([ground.bounds(transform, there), ground.bounds(scene.transform, here)])
        pixel = max(abs(part) for one in (transform, scene.transform) for part in (one[0], one[1], one[3], one[4]))
        if np.abs(ends[0] - ends[1]).max() > pixel:
            raise SceneError(f"{what} lies elsewhere: {_corners(ends[0])}, and {scene.name} {_corners(ends[1])}.")
    elif here != there:
        raise SceneError(
            f"{what} is not that of {scene.name}, which has {here.height} × {here.width}: name the mask of this image."
        )
    down, across = there.height / here.height, there.width / here.width
    return Window(view.left * across, view.top * down, view.width * across, view.height * down)


def _corners(ends: NDArray[np.float64]) -> str:
    return "from {:.9g} {:.9g} to {:.9g} {:.9g}".format(*ends)
