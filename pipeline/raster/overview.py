"""A scene at a coarse resolution, in memory: each pixel the mean of what it covers, invalid pixels left out."""

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


def overview(scene: Scene, factor: Fraction, within: Rect | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(bands (band, row, col), validity (row, col)) of `resized(scene, factor)`, read in small squares.

    Of all of it, or of a rectangle of it. Raises BlockError where the image cannot be read.
    """
    view = resized(scene, factor)
    whole = within or view.rect
    pixels = np.zeros((len(scene.bands), *whole.shape), scene.dtype)
    valid = np.zeros(whole.shape, np.bool_)
    side = max(1, int(PIECE / max(max(layer.scale) for layer in view.layers)))
    with Reader(view) as reader:
        for top, left in product(range(whole.top, whole.bottom, side), range(whole.left, whole.right, side)):
            part = Rect(top, left, top + side, left + side).intersect(whole)
            pixels[:, *part.slices(whole)], valid[part.slices(whole)] = reader.read(part)
    return pixels, valid
