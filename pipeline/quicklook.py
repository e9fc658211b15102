"""One picture for a person in a hurry: image, mask and overlay side by side, with a legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import BlockError, SceneError
from pipeline.grid import Rect
from pipeline.paint import Painting
from pipeline.raster.access import PUBLISH_CACHE_BYTES, environment, open_file
from pipeline.raster.complaints import GDAL_ERRORS
from pipeline.raster.overview import overview
from pipeline.raster.source import Scene
from pipeline.store.objects import sentences

SIDE = 640  # px: the longer side of each of the three pictures
GAP, LINE = 12, 22
LOW, HIGH = 2, 98  # percentiles that become black and white
OPACITY = 0.45
PNG_LEVEL = 3  # half the seconds of zlib's own 6 for a file that is 6 % larger
PART_BYTES = PUBLISH_CACHE_BYTES // 2  # of a row of tiles, which has to stay in the cache beside what else is in it


def picture_size(scene: Scene) -> tuple[int, int]:
    """(rows, cols) of each of the three pictures."""
    factor = max(scene.height, scene.width) / SIDE
    return max(1, round(scene.height / factor)), max(1, round(scene.width / factor))


def image_of(scene: Scene, within: Rect | None = None) -> NDArray[np.uint8]:
    """The scene as a picture (row, col, RGB): its first three bands, or the first, stretched between two percentiles.

    Read at the picture's size, from overviews where the file has some, else from every tile: on a large scene this
    takes as long as reading it, so it is done while something else waits for the disk. Black where invalid; all black
    where the image cannot be read, whose blocks are named holes by then. What lies beyond `within` is black and not
    read, unless the image is a slide.
    """
    size = picture_size(scene)
    picture = np.zeros((*size, 3), np.uint8)
    try:
        if scene.levels or scene.layers:
            places = [0, 1, 2] if len(scene.bands) >= 3 else [0, 0, 0]
            shown = tuple(layer for layer in scene.layers if set(places) & set(layer.places))
            factor = Fraction(max(size), max(scene.height, scene.width))
            looked, valid = overview(replace(scene, layers=shown), factor)
            raw, valid = looked[places, : size[0], : size[1]].astype(np.float64), valid[: size[0], : size[1]]
        else:
            bands = list(scene.bands[:3]) if len(scene.bands) >= 3 else [scene.bands[0]] * 3
            with environment(scene.uri), open_file(scene.uri, scene.allow) as file:
                frame = _frame(scene, size, within or scene.rect)
                parts = [_read(file, bands, *part) for part in _upright_parts(scene, size, frame)]
            raw, valid = (_placed(np.concatenate(all_of, axis=-1), size, frame) for all_of in zip(*parts, strict=True))
    except (BlockError, SceneError, *GDAL_ERRORS):
        return picture
    valid &= np.isfinite(raw).all(axis=0)
    if not valid.any():
        return picture
    for number, band in enumerate(raw):
        low, high = np.percentile(band[valid], [LOW, HIGH])
        spread = high - low or 1.0
        picture[..., number] = np.where(valid, np.clip((band - low) / spread, 0, 1) * 255, 0)
    return picture


def _frame(scene: Scene, size: tuple[int, int], within: Rect) -> Rect:
    """The picture's pixels that show a rectangle of the scene."""
    (rows, cols), (height, width) = size, scene.rect.shape
    top, left = within.top * rows // height, within.left * cols // width
    return Rect(top, left, -(-within.bottom * rows // height), -(-within.right * cols // width))


def _placed(part: NDArray[Any], size: tuple[int, int], frame: Rect) -> NDArray[Any]:
    """A part (…, row, col) of the picture where it belongs; 0 around it."""
    whole = np.zeros((*part.shape[:-2], *size), part.dtype)
    whole[..., *frame.slices()] = part
    return whole


def _upright_parts(scene: Scene, size: tuple[int, int], frame: Rect) -> Iterator[tuple[Window, tuple[int, int]]]:
    """(window of the scene, its size in the picture) of a frame of the picture, from left to right.

    GDAL reads a smaller picture line by line. A part is so narrow that its row of tiles stays in the cache
    meanwhile, or each tile would be decoded once for every line that it holds.
    """
    across = -(-scene.width // scene.tile[1])
    count = min(across, frame.width, -(-across * scene.tile_bytes // PART_BYTES))
    edges = [frame.left + frame.width * number // count for number in range(count + 1)]
    factor = scene.width / size[1]
    top, bottom = (row * scene.height / size[0] for row in (frame.top, frame.bottom))
    for left, right in pairwise(edges):
        yield Window(left * factor, top, (right - left) * factor, bottom - top), (frame.height, right - left)


def _read(
    file: DatasetReader, bands: Sequence[int], window: Window, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Bands (band, row, col) and validity (row, col) of a window at another size."""
    # rasterio reads bands of several types one by one only
    alike = len({file.dtypes[band - 1] for band in bands}) == 1
    together = [list(bands)] if alike else [[band] for band in bands]
    how: dict[str, Any] = {"window": window, "resampling": Resampling.nearest}
    read = [file.read(some, out_shape=(len(some), *size), **how) for some in together]
    return np.concatenate(read).astype(np.float64), file.dataset_mask(out_shape=size, **how) > 0


def draw(image: NDArray[np.uint8], painting: Painting, title: str, target: Path) -> None:
    """Draw `target`, a PNG, from the image's picture and that of the finished result, of the same size.

    Raises RoomError where the disk is full, SettingsError for other refusals.
    """
    painted, shows = painting.picture, painting.shows[..., None]
    overlay = np.where(shows, (1 - OPACITY) * image + OPACITY * painted, image).astype(np.uint8)
    sheet = _sheet([image, painted, overlay], [title, painting.title, "overlay"], painting.entries)
    with sentences(target):
        sheet.save(target, format="PNG", compress_level=PNG_LEVEL)


def _sheet(
    pictures: Sequence[NDArray[np.uint8]], titles: Sequence[str], entries: Sequence[tuple[tuple[int, int, int], str]]
) -> Image.Image:
    rows, cols = pictures[0].shape[:2]
    cols_drawn = max(cols, 160)
    width = len(pictures) * (cols_drawn + GAP) + GAP
    sheet = Image.new("RGB", (width, rows + 3 * GAP + LINE * (1 + len(entries))), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left = GAP + number * (cols_drawn + GAP)
        pen.text((left, GAP // 2), title[: cols_drawn // 8], fill="black", font=font)
        sheet.paste(Image.fromarray(picture), (left, LINE + GAP // 2))
    for number, (colour, words) in enumerate(entries):
        top = rows + LINE + 2 * GAP + number * LINE
        pen.rectangle((GAP, top, GAP + 16, top + 14), fill=colour, outline="black")
        pen.text((GAP + 26, top - 2), words, fill="black", font=font)
    return sheet
