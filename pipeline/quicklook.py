"""One picture for a person in a hurry: image, mask and overlay side by side, with scale bar and legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import BlockError, SceneError
from pipeline.grid import Rect
from pipeline.network.card import Card
from pipeline.paint import Key, Painting, paint
from pipeline.raster.access import environment
from pipeline.raster.glimpse import Size, glimpse
from pipeline.raster.source import Scene
from pipeline.raster.spectrum import natural
from pipeline.scalebar import bar_of
from pipeline.sheet import Panel, picture_size, sheet
from pipeline.store.objects import put_whole

LOW, HIGH = 2, 98  # percentiles that become black and white
OPACITY = 0.45
PNG_LEVEL = 3  # half the seconds of zlib's own 6 for a file that is 6 % larger


def picture_of(
    scene: Scene, places: Sequence[int], view: Rect, size: Size, within: Rect | None = None
) -> NDArray[np.uint8]:
    """A rectangle of a scene as a picture (row, col, RGB) of the three of its bands at `places`, or of one.

    Each is stretched between two percentiles; bands of bytes together, so that colours stay what they are. Black where
    invalid. What lies beyond `within` is black and not read, unless the image is a slide. Raises BlockError and
    SceneError where the image cannot be read.
    """
    picture = np.zeros((*size, 3), np.uint8)
    raw, valid = glimpse(scene, places, view, size, within)
    if not valid.any():
        return picture
    ends = np.array([np.percentile(band[valid], [LOW, HIGH]) for band in raw])
    if scene.dtype == "uint8":
        ends[:] = ends[:, 0].min(), ends[:, 1].max()
    for number in range(3):
        place = min(number, len(raw) - 1)
        low, high = ends[place]
        picture[..., number] = np.where(valid, np.clip((raw[place] - low) / (high - low or 1.0), 0, 1) * 255, 0)
    return picture


def image_of(scene: Scene, card: Card, within: Rect | None = None) -> NDArray[np.uint8]:
    """The picture of a whole scene whose bands are those of a card: red, green and blue, the first three, or the first.

    On a large scene without overviews this takes as long as reading it, so it is done while something else waits for
    the disk. All black where the image cannot be read, whose blocks are named holes by then.
    """
    size = picture_size(scene.height, scene.width)
    try:
        return picture_of(scene, natural([band.name for band in card.bands]), scene.rect, size, within)
    except (BlockError, SceneError):
        return np.zeros((*size, 3), np.uint8)


def read_raster(file: DatasetReader, bands: Sequence[int], window: Window | None, size: Size) -> NDArray[Any]:
    """Bands (band, row, col) of a mask, or of a window of it, at another size, from its overviews."""
    how: dict[str, Any] = {"window": window, "resampling": Resampling.nearest}
    raster: NDArray[Any] = file.read(list(bands), out_shape=(len(bands), *size), **how)
    return raster


def compose(image: NDArray[np.uint8], painting: Painting, scene: Scene, view: Rect, caption: str = "") -> Image.Image:
    """The sheet of the image's picture, the painting of the same size, and one over the other."""
    shows = painting.shows[..., None]
    overlay = np.where(shows, (1 - OPACITY) * image + OPACITY * painting.picture, image).astype(np.uint8)
    panels = (Panel(scene.name, image), Panel(painting.title, painting.picture), Panel("overlay", overlay))
    return sheet(panels, bar_of(scene, view, image.shape[1]), caption, painting.entries)


def as_png(picture: Image.Image) -> bytes:
    """A picture as a PNG's bytes, always the same."""
    written = BytesIO()
    picture.save(written, format="PNG", compress_level=PNG_LEVEL)
    return written.getvalue()


def draw(image: NDArray[np.uint8], scene: Scene, card: Card, counts: Mapping[int, int], folder: Path) -> None:
    """Draw a folder's quicklook.png from the image's picture and the GeoTIFFs that lie there.

    `counts` are pixels by value of the mask. Raises RoomError where the disk is full, SettingsError for other refusals.
    """
    key, size = Key.of_card(card), image.shape[:2]
    with environment(), rasterio.open(folder / "mask.tif") as file:
        mask = read_raster(file, key.bands, None, size)
    if card.says == "values":
        with environment(), rasterio.open(folder / "values.tif") as file:
            painting = paint(read_raster(file, [1], None, size), key, counts, scene.rect.area, mask[0])
    else:
        painting = paint(mask, key, counts, scene.rect.area)
    put_whole(folder / "quicklook.png", as_png(compose(image, painting, scene, scene.rect)))
