"""A whole scene at a coarse resolution, in memory: each pixel the mean of what it covers, invalid pixels left out."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect
from pipeline.raster.layer import resized
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene

PIECE = 1024  # px of the scene, or of the slide's level, that are read at once


def overview(scene: Scene, factor: Fraction) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(bands (band, row, col), validity (row, col)) of all of `resized(scene, factor)`, read in small squares.

    Raises BlockError where the image cannot be read.
    """
    view = resized(scene, factor)
    pixels = np.zeros((len(scene.bands), *view.rect.shape), scene.dtype)
    valid = np.zeros(view.rect.shape, np.bool_)
    side = max(1, int(PIECE / max(max(layer.scale) for layer in view.layers)))
    with Reader(view) as reader:
        for top, left in product(range(0, view.height, side), range(0, view.width, side)):
            part = Rect(top, left, top + side, left + side).intersect(view.rect)
            pixels[:, *part.slices()], valid[part.slices()] = reader.read(part)
    return pixels, valid
