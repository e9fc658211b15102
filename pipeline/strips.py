"""A block's hull, read in bands of rows as its windows come down: a tall block takes no more memory than a low one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from pipeline.grid import Rect
from pipeline.raster.reader import Pixels, Reader, Valid


class Strips:
    """The rows of a hull that windows are being cut from.

    Windows must be asked for from top to bottom. Bands end where the source's tiles do, so that none is decoded twice.
    `seen` is told of every band that was read: its rectangle and its validity. `timed` is entered for each reading.
    """

    def __init__(
        self,
        reader: Reader,
        hull: Rect,
        seen: Callable[[Rect, Valid], None],
        timed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._reader, self._hull, self._seen, self._timed = reader, hull, seen, timed
        self._held = Rect(hull.top, hull.left, hull.top, hull.right)
        self._pixels: Pixels = np.empty((len(reader.scene.bands), 0, hull.width), reader.scene.dtype)
        self._valid: Valid = np.empty((0, hull.width), np.bool_)

    def of(self, window: Rect) -> tuple[Pixels, Valid]:
        """(pixels, valid) of a window inside the hull, (band, row, col) and (row, col): views, which stay as they are.

        Raises BlockError where the source cannot be read, ValueError for a window above one that was asked for.
        """
        if window.top < self._held.top:
            raise ValueError(f"the rows of {window} are no longer held; those of {self._held} are")
        if window.bottom > self._held.bottom:
            with self._timed():
                self._go_on(window)
        rows, cols = window.slices(self._held)
        return self._pixels[:, rows, cols], self._valid[rows, cols]

    def _go_on(self, window: Rect) -> None:
        """Read down to a window's bottom and let go of what lies above its top."""
        tile = self._reader.scene.tile[0]
        bottom = min(-(-window.bottom // tile) * tile, self._hull.bottom)
        band = Rect(self._held.bottom, self._hull.left, bottom, self._hull.right)
        pixels, valid = self._reader.read(band)
        above = window.top - self._held.top
        if above < self._held.height:
            pixels = np.concatenate([self._pixels[:, above:], pixels], axis=1)
            valid_too = np.concatenate([self._valid[above:], valid])
        else:
            valid_too = valid
        self._held = Rect(window.top, self._hull.left, bottom, self._hull.right)
        self._pixels, self._valid = pixels, valid_too
        self._seen(band, valid)
