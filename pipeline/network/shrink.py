"""An engine that answers a lack of memory with half the batch.

Shapes are fixed, so a smaller batch is another session. On the CPU it says the same, byte for byte. A GPU may take its
sums otherwise, as it may with less memory at hand: there results agree, see `pipeline.verify`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.network.engine import Engine, EngineOutOfMemory

_log = logging.getLogger("maskmill")


class Shrinking:
    """Runs up to `batch` windows, by an engine that `build` makes for as many at once as memory has held so far.

    Once halved, the batch stays so. `run` may be called from several threads.
    """

    def __init__(self, build: Callable[[int], Engine], batch: int) -> None:
        self.batch = batch
        self._build, self._at_once = build, batch
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._current()

    @property
    def at_once(self) -> int:
        """How many windows memory has held so far."""
        return self._at_once

    @property
    def numeric_class(self) -> str:
        """What results share: the engine's."""
        return self._current().numeric_class

    def run(
        self,
        pixels: NDArray[Any] | Sequence[NDArray[Any]],
        valid: NDArray[np.bool_] | Sequence[NDArray[np.bool_]],
        shift: NDArray[np.float32],
        factor: NDArray[np.float32],
    ) -> dict[str, NDArray[Any]]:
        """As `Engine.run`, up to `batch` windows. Raises EngineOutOfMemory where memory does not hold one."""
        while True:
            engine = self._current()
            try:
                return _in_parts(engine, pixels, valid, shift, factor)
            except EngineOutOfMemory as error:
                if engine.batch == 1:
                    raise
                at_once, said = engine.batch, error.message
            del engine  # its memory goes with it
            self._halve(at_once, said)

    def _current(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._build(self._at_once)
            return self._engine

    def _halve(self, at_once: int, said: str) -> None:
        with self._lock:
            if self._at_once != at_once:  # another thread has done it
                return
            self._at_once, self._engine = at_once // 2, None
        _log.warning("%s This process goes on with %d at once.", said, at_once // 2)


def _in_parts(
    engine: Engine,
    pixels: NDArray[Any] | Sequence[NDArray[Any]],
    valid: NDArray[np.bool_] | Sequence[NDArray[np.bool_]],
    shift: NDArray[np.float32],
    factor: NDArray[np.float32],
) -> dict[str, NDArray[Any]]:
    starts = range(0, len(pixels), engine.batch)
    parts = [engine.run(pixels[at : at + engine.batch], valid[at : at + engine.batch], shift, factor) for at in starts]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
