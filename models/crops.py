"""Crops to train on: square cuts of one image and its truth, at random, half of them around what is rare.

Everything here is numpy; a crop carries no context of its own beyond its sides, so the loss leaves its rim out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)

IGNORED = 255
"""The class of a pixel that the loss leaves out."""

_GAIN, _OFFSET = 0.05, 2.0  # how far a crop's colours are shifted: a share of the value, and grey levels


@dataclass(frozen=True, slots=True)
class Crops:
    """Where crops come from.

    Parameters
    ----------
    image
        uint8 (bands, rows, cols).
    truth
        uint8 (rows, cols): classes, or IGNORED.
    rare
        The class that half of the crops are cut around.
    side, rim
        The crop's side, and how many pixels at each of its edges are not learnt from.
    shift, factor
        float32 (bands,): scaled = (raw − shift) × factor.

    Raises ValueError where the arrays do not match, where the image is smaller than a crop, or where no pixel is rare.

    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    rare: int
    side: int
    rim: int
    shift: NDArray[np.float32]
    factor: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.image.shape[1:] != self.truth.shape:
            raise ValueError(
                f"the image is {self.image.shape[1:]} pixels and the truth {self.truth.shape}; make them equal"
            )
        if not 0 <= 2 * self.rim < self.side <= min(self.truth.shape):
            raise ValueError(
                f"a crop of {self.side} pixels with a rim of {self.rim} does not fit {self.truth.shape} pixels"
            )
        if not (self.truth == self.rare).any():
            raise ValueError(f"no pixel of the truth has the class {self.rare}, around which crops are cut")

    def rare_places(self) -> NDArray[np.intp]:
        """(n, 2): row and column of every pixel of the rare class; to be found once and given to `draw`."""
        return np.argwhere(self.truth == self.rare)

    def draw(
        self, random: np.random.Generator, places: NDArray[np.intp], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Draw `count` crops: (pixels float32 (count, bands, side, side), scaled, truth int64 (count, side, side)).

        Every second one is cut around one of `places`; the others anywhere, each pixel of the image alike.
        """
        pairs = [self._one(random, places if each % 2 else None) for each in range(count)]
        return np.stack([pixels for pixels, _ in pairs]), np.stack([truth for _, truth in pairs])

    def _one(
        self, random: np.random.Generator, places: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        row, col = self._corner(random, places)
        cut = slice(row, row + self.side), slice(col, col + self.side)
        pixels = self._coloured(random, self.image[:, *cut].astype(np.float32))
        truth = np.full((self.side, self.side), IGNORED, np.int64)
        inner = slice(self.rim, self.side - self.rim)
        truth[inner, inner] = self.truth[cut][inner, inner]
        return turned(int(random.integers(8)), pixels, truth)

    def _corner(self, random: np.random.Generator, places: NDArray[np.intp] | None) -> tuple[int, int]:
        """(row, col) of a crop's upper left pixel; around one of `places` it lies anywhere within the rim."""
        free = np.array(self.truth.shape) - self.side
        if places is None:
            row, col = random.integers(free + 1)
        else:
            back = random.integers(self.rim, self.side - self.rim, 2)
            row, col = np.clip(places[random.integers(len(places))] - back, 0, free)
        return int(row), int(col)

    def _coloured(self, random: np.random.Generator, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shift the colours a little, as another day's light would, and scale them."""
        bands = (len(pixels), 1, 1)
        gain = 1 + random.uniform(-_GAIN, _GAIN, bands).astype(np.float32)
        offset = random.uniform(-_OFFSET, _OFFSET, bands).astype(np.float32)
        scaled: NDArray[np.float32] = (pixels * gain + offset - self.shift.reshape(bands)) * self.factor.reshape(bands)
        return scaled


def turned(
    way: int, pixels: NDArray[np.float32], truth: NDArray[Number]
) -> tuple[NDArray[np.float32], NDArray[Number]]:
    """Turn and mirror both in one of the eight ways of a square, 0 to 7."""
    if way >= 4:
        pixels, truth = pixels[..., ::-1], truth[..., ::-1]
    return np.rot90(pixels, way % 4, (-2, -1)), np.rot90(truth, way % 4, (-2, -1))
