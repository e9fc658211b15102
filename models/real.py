"""Windows of an image as the network eats them, for whoever runs a network outside of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.parity import Pixels
from pipeline.calibrate import affine_of, calibrated
from pipeline.network.card import Card
from pipeline.network.scaling import WindowStatistics
from pipeline.raster.reader import Reader, Valid
from pipeline.raster.source import Scene
from pipeline.tune import crops


def windows(card: Card, scene: Scene, side: int) -> Iterator[Pixels]:
    """At most six windows, spread over the image, one at a time; beyond its rim it is reflected.

    The scene's bands are the card's. Raises SceneError where its reflectance is not known, BlockError where it cannot
    be read.
    """
    card = calibrated(card, scene)
    shift, factor = (np.asarray(numbers, np.float32)[:, None, None] for numbers in affine_of(card, scene))
    with Reader(scene) as reader:
        for crop in crops(scene, side):
            raw, valid = reader.read(crop)
            yield scaled(card, (raw.astype(np.float32) - shift) * factor, valid)[None]


def scaled(card: Card, pixels: NDArray[np.float32], valid: Valid) -> Pixels:
    """What the card does to a window behind shift and factor: statistics of the window, clip and fill.

    pixels: (bands, rows, cols); valid: (rows, cols).
    """
    if isinstance(card.scaling, WindowStatistics) and valid.any():
        axes = None if card.scaling.joint else 1
        seen = pixels[:, valid]
        middle, spread = seen.mean(axis=axes, keepdims=True), seen.std(axis=axes, keepdims=True) + card.scaling.eps
        pixels = (pixels - middle[..., None]) / np.where(spread == 0, 1, spread)[..., None]
    if card.clip:
        pixels = pixels.clip(*card.clip)
    return np.where(valid, pixels, np.float32(card.fill)).astype(np.float32)
