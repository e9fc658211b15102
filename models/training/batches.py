"""Batches: windows read ahead by a few threads, turned and changed in their light, scaled as the card says.

Every window is made by numbers that come from the seed, the epoch and its place, so that no thread changes a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from models.crops import IGNORED, turned
from models.training.labelled import Labelled
from models.training.split import Plot, Windows, windows_of
from pipeline.grid import Rect

GAIN, OFFSET = 0.1, 0.1  # how far light is changed: a share of the value, and of a band's deviation
AHEAD = 3  # batches that are read while others are learnt from
THREADS = 4

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
"""(pixels (n, bands, side, side), scaled; truth (n, side, side), classes or IGNORED)."""

Window = tuple[NDArray[np.float32], NDArray[np.int64]]
"""One of a batch."""


@dataclass(frozen=True, slots=True)
class Scale:
    """scaled = (raw − shift) × factor, each float32 (bands,); `spread` is the deviation of what was scaled."""

    shift: NDArray[np.float32]
    factor: NDArray[np.float32]
    spread: NDArray[np.float32]


class Batches:
    """Cuts batches of labelled images."""

    def __init__(self, labelled: Sequence[Labelled], scale: Scale, size: int) -> None:
        self._labelled, self._scale, self._size = labelled, scale, size

    def to_train_on(self, windows: Windows, epoch: int, seed: int, augment: bool) -> Iterator[Batch]:
        """One epoch. A last batch that is not full is left out where there is a full one: it would weigh too much."""
        order = windows.order(epoch)
        whole = len(order) // self._size * self._size or len(order)

        def one(at: int) -> Window:
            random = np.random.default_rng([seed, 3, epoch, at])
            image, rect = windows.draw(random, int(order[at]))
            pixels, truth = self._read(image, rect, random if augment else None)
            if augment:
                pixels, truth = turned(int(random.integers(8)), pixels, truth)
            return pixels, truth.astype(np.int64)

        return self._stacked(one, range(whole))

    def to_validate(self, plots: Sequence[Plot], window: int) -> Iterator[Batch]:
        """All of what is held out, each pixel once."""
        parts = [(plot, rect) for plot in plots for rect in windows_of(plot, window)]

        def one(at: int) -> Window:
            plot, rect = parts[at]
            pixels, truth = self._read(plot.image, rect, None)
            inside = np.zeros(rect.shape, bool)
            inside[rect.intersect(plot.rect).slices(rect)] = True
            return pixels, np.where(inside, truth, IGNORED).astype(np.int64)

        return self._stacked(one, range(len(parts)))

    def _read(
        self, image: int, rect: Rect, light: np.random.Generator | None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Scaled pixels, 0 where they are invalid, and truth; with `light`, as on another day.

        Raises BlockError where a file cannot be read.
        """
        raw, valid, truth = self._labelled[image].read(rect)
        shift, factor = (each[:, None, None] for each in (self._scale.shift, self._scale.factor))
        scaled = (raw.astype(np.float32) - shift) * factor
        if light is not None:
            scaled = self._lit(light, scaled)
        return np.where(valid, scaled, np.float32(0)), truth

    def _lit(self, random: np.random.Generator, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Another day's light: all bands together, and each a little by itself."""
        bands = (len(pixels), 1, 1)
        gain = 1 + random.uniform(-GAIN, GAIN) + random.uniform(-GAIN, GAIN, bands) / 2
        offset = random.uniform(-OFFSET, OFFSET) + random.uniform(-OFFSET, OFFSET, bands) / 2
        changed: NDArray[np.float32] = (pixels * gain + offset * self._scale.spread.reshape(bands)).astype(np.float32)
        return changed

    def _stacked(self, one: Callable[[int], Window], places: range) -> Iterator[Batch]:
        groups = (places[at : at + self._size] for at in range(0, len(places), self._size))
        with ThreadPoolExecutor(THREADS) as pool:
            ahead = deque([pool.submit(one, at) for at in group] for group in islice(groups, AHEAD))
            while ahead:
                parts = [each.result() for each in ahead.popleft()]
                ahead.extend([pool.submit(one, at) for at in group] for group in islice(groups, 1))
                yield np.stack([pixels for pixels, _ in parts]), np.stack([truth for _, truth in parts])
