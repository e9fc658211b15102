"""Many scenes one behind another: while one's blocks are done, the one before is published and the next one planned.

A scene passes three stages, each of which has room for one. It leaves a stage when it has entered the next: so the
order stays, and no more than three scenes are held at any time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from enum import IntEnum
from queue import SimpleQueue
from typing import TypeVar

LOOK = 0.2  # seconds: how often who waits for a stage looks whether the run is being stopped
ENDING = 10.0  # seconds that scenes have to end by themselves when a run is stopped
Item = TypeVar("Item")


class Stage(IntEnum):
    """What is done with a scene, in order."""

    OPENING = 0
    BLOCKS = 1
    PUBLISHING = 2


class StoppedError(Exception):
    """The run is being stopped, and this scene with it."""


class Line:
    """The stages that scenes pass. Of a `whole` this is a part: it passes the same, and can be stopped by itself."""

    def __init__(self, whole: Line | None = None) -> None:
        self.stopping = threading.Event()
        self._whole = whole
        self._rooms: dict[Stage, threading.Lock] = whole._rooms if whole else {one: threading.Lock() for one in Stage}

    @contextmanager
    def passage(self) -> Iterator[Passage]:
        """A scene's way; at its end the scene leaves the stage where it is."""
        one = Passage(self)
        try:
            yield one
        finally:
            one.leave()

    def along(self, items: Iterator[Item], do: Callable[[Item, Passage], None]) -> None:
        """Have items done, one after another, each begun in the stage of opening: there the next is taken."""
        while True:
            with self.passage() as passage:
                passage.enter(Stage.OPENING)
                try:
                    item = next(items)
                except StopIteration:
                    return
                do(item, passage)

    def demand_going(self) -> None:
        """Raise StoppedError where the run is being stopped."""
        if self.stopping.is_set():
            raise StoppedError
        if self._whole:
            self._whole.demand_going()

    def take(self, stage: Stage) -> None:
        """Wait for a stage, and be in it. Raises StoppedError."""
        while not self._rooms[stage].acquire(timeout=LOOK):
            self.demand_going()

    def free(self, stage: Stage) -> None:
        """Let the next one in."""
        self._rooms[stage].release()


class Passage:
    """One scene's way along a line."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._at: Stage | None = None

    def enter(self, stage: Stage) -> float:
        """Go on to a stage when it is free, and free the one before; how many seconds that took.

        Raises StoppedError where the run is being stopped.
        """
        start = time.monotonic()
        self.line.take(stage)
        self.leave()
        self._at = stage
        self.line.demand_going()
        return time.monotonic() - start

    def leave(self) -> None:
        """Free the stage, if the scene is in any."""
        if self._at is not None:
            self.line.free(self._at)
            self._at = None


def run_lanes(
    line: Line, items: Iterator[Item], do: Callable[[Item, Passage], None], abort: Callable[[], None]
) -> None:
    """Have items done by as many threads as there are stages; `do` gets one and its passage, in the stage of opening.

    Raises the first error of any when all threads have come to a stop. Where this thread is interrupted, `abort` is to
    have whatever they wait for end; a thread that does not end then is left behind.
    """
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def go_along() -> None:
        try:
            line.along(items, do)
        except BaseException as error:  # noqa: BLE001  # the waiting thread raises it
            ended.put(error)
            line.stopping.set()
        else:
            ended.put(None)

    lanes = [
        threading.Thread(target=copy_context().run, args=(go_along,), name=f"lane-{number}", daemon=True)
        for number in range(len(Stage))
    ]
    for lane in lanes:
        lane.start()
    try:
        errors = [error for error in (ended.get() for _ in lanes) if error]
    except BaseException:
        line.stopping.set()
        abort()
        end = time.monotonic() + ENDING
        for lane in lanes:
            lane.join(max(0.0, end - time.monotonic()))
        raise
    if errors:
        raise next((error for error in errors if not isinstance(error, StoppedError)), errors[0])
