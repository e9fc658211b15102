"""Mean and standard deviation of each band over a scene's valid pixels, in one pass and constant memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Rect
from pipeline.raster.area import Inside
from pipeline.raster.reader import Pixels, Reader, Valid
from pipeline.raster.source import Scene

PIECE = 1 << 22  # pixels looked at once, unless one tile has more


def statistics(
    scene: Scene, *, joint: bool = False, fence: Inside | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (mean, standard deviation), each float64 (band,), over the finite values of the valid pixels.

    The deviation is the population's. Pieces along the file's tiles are merged in a fixed order, after Chan, Golub and
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979). A band of one value
    has deviation 0 exactly; a scene without a valid pixel has 0 for both. Raises BlockError where the file cannot be
    read. `joint` takes all bands for one; with a fence, only what is inside counts.
    """
    bands = len(scene.bands)
    count, mean, squares = np.zeros(bands), np.zeros(bands), np.zeros(bands)
    shift: list[float | None] = [None] * bands  # a value of the band: numbers near 0 lose least
    for pixels, valid in seen(scene, fence):
        for band in range(bands):
            values = pixels[band][valid].astype(np.float64)
            if not values.size:
                continue
            first = shift[band]
            if first is None:
                first = shift[band] = float(values[0])
            values -= first
            own = values.mean()
            total, delta = count[band] + values.size, own - mean[band]
            values -= own
            squares[band] += np.square(values).sum() + delta**2 * count[band] * values.size / total
            mean[band] += delta * values.size / total
            count[band] = total
    mean += [first or 0.0 for first in shift]
    if joint:
        mean, squares, count = _pooled(mean, squares, count)
    return mean, np.sqrt(squares / np.maximum(count, 1))


def _pooled(
    mean: NDArray[np.float64], squares: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Put all bands together; each band is given the same three numbers."""
    total = max(count.sum(), 1.0)
    middle = (mean * count).sum() / total if mean.min() != mean.max() else mean[0]
    about = squares.sum() + ((mean - middle) ** 2 * count).sum()
    return np.full_like(mean, middle), np.full_like(mean, about), np.full_like(mean, total)


def seen(scene: Scene, fence: Inside | None) -> Iterator[tuple[Pixels, Valid]]:
    """Pixels and which of them count, piece after piece; a piece that is wholly outside is not read."""
    with Reader(scene) as reader:
        for piece in pieces(scene):
            inside = True if fence is None else fence.inside(piece)
            if inside is not False:
                pixels, valid = reader.read(piece)
                yield pixels, valid & inside


def pieces(scene: Scene) -> Iterator[Rect]:
    """Cut a scene into rectangles of whole tiles and at most PIECE pixels (or one tile's rows), row by row."""
    rows, cols = (min(side, whole) for side, whole in zip(scene.tile, scene.rect.shape, strict=True))
    width = min(scene.width, cols * max(1, 2048 // cols))
    height = rows * max(1, PIECE // (width * rows))
    height = min(height, max(1, PIECE // width), scene.height)  # a single strip or tile may be the whole image
    for top in range(0, scene.height, height):
        for left in range(0, scene.width, width):
            yield Rect(top, left, top + height, left + width).intersect(scene.rect)
