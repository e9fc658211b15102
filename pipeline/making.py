"""What is made of blocks as soon as they are done: coarser levels, and the tiles of the GeoTIFFs, by whoever has time.

A level is looked at in *plots*, squares of whole shards. The plots of level 0 are blocks' work. When the up to four
below it are done, a plot of a coarser level can be made; when those that it covers are done, a *piece* of tiles can.
Each has one maker, who writes it whole; made twice or in another order, its bytes are the same. None of it is believed
after a kill: the next run makes all of it anew, by workers that have no block to do.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product as pairs
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pipeline.errors import InputError, portable
from pipeline.grid import Grid, Rect
from pipeline.pyramid import build_shard
from pipeline.store.hierarchy import Product, levels
from pipeline.store.objects import Shard
from pipeline.store.sink import Sink
from pipeline.tiles import Pieces, piece_side, put_piece

SHARDS, TILES = "pyramid", "tiles"  # what a task makes, and what its seconds are told as
PLOT = 2048  # px: the side that plots have at least
IN_FLIGHT = 256  # tasks handed out at a time: more wait where they cost nothing
TRIES = 3


@dataclass(frozen=True, slots=True)
class Site:
    """Where a result is made, and what a maker has to know of it."""

    store: Path
    pieces: Pieces
    products: tuple[Product, ...]
    grid: Grid

    @classmethod
    def of(cls, store: Path, stage: Path, products: tuple[Product, ...], grid: Grid) -> Site:
        """Lay it out: the pieces will lie in the stage."""
        return cls(store, Pieces(stage / "pieces", piece_side(products)), products, grid)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(rows, columns) of each level."""
        return levels(self.grid.height, self.grid.width)

    @property
    def plot(self) -> int:
        """The side of a plot in pixels: a whole number of shards."""
        return self.grid.block * max(1, PLOT // self.grid.block)

    def side(self, kind: str) -> int:
        """The side in pixels of what a task of a kind makes."""
        return self.plot if kind == SHARDS else self.pieces.side

    def rect(self, task: Task) -> Rect:
        """What a task makes, in pixels of its level."""
        side = self.side(task.kind)
        top, left = task.row * side, task.col * side
        return Rect(top, left, top + side, left + side).intersect(Rect(0, 0, *self.sizes[task.level]))

    def tasks(self, kind: str, level: int, within: Rect) -> Iterator[Task]:
        """The tasks of a kind whose part of a level meets a rectangle of it."""
        side, found = self.side(kind), within.intersect(Rect(0, 0, *self.sizes[level]))
        rows = range(found.top // side, -(-found.bottom // side))
        for row, col in pairs(rows, range(found.left // side, -(-found.right // side))):
            yield Task(kind, level, row, col)


@dataclass(frozen=True, slots=True)
class Task:
    """A plot or a piece: which, by its place among those of its level."""

    kind: str
    level: int
    row: int
    col: int


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a task: shards by "product/level/row/col", and the seconds it took."""

    shards: dict[str, Shard]
    seconds: float


Outcome = Made | Exception
Submit = Callable[..., "Future[Any]"]  # a function and its arguments, as `concurrent.futures` has them


def make(site: Site, task: Task) -> Outcome:
    """Do a task. An InputError comes back as a value, so that it leaves its causes behind.

    Raises BlockError where a shard that it reads is damaged.
    """
    start = time.perf_counter()
    try:
        sink, rect, shards = _sink(site), site.rect(task), dict[str, Shard]()
        for one in site.products:
            if task.kind == TILES:
                path = site.pieces.path(one.name, task.level, task.row, task.col)
                put_piece(sink, one, task.level, rect, path)
            else:
                shards |= _put_plot(site, sink, one, task.level, rect)
    except InputError as error:
        return portable(error)
    return Made(shards, time.perf_counter() - start)


@lru_cache(maxsize=1)
def _sink(site: Site) -> Sink:
    """Opened arrays, for the next task of the same result."""
    return Sink(site.store)


def _put_plot(site: Site, sink: Sink, product: Product, level: int, rect: Rect) -> dict[str, Shard]:
    """Make the shards of a plot of a coarser level."""
    side, made = site.grid.block, {}
    for top, left in pairs(range(rect.top, rect.bottom, side), range(rect.left, rect.right, side)):
        shard = Rect(top, left, top + side, left + side).intersect(rect)
        made[f"{product.name}/{level}/{top // side}/{left // side}"] = build_shard(sink, product, level, shard)
    return made


@dataclass(slots=True)
class Making:
    """Hands out each task when what it needs is there; used from one thread.

    `submit` has a function called with arguments elsewhere and gives its future. What a worker died of, or could not
    read, is tried again when all else is made, and at last here.
    """

    site: Site
    submit: Submit
    shards: dict[str, Shard] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of all makers together, by kind
    pixels: int = 0  # made so far
    _waits: dict[Task, int] = field(default_factory=dict)  # tasks begun to be ready, by how many they still wait for
    _ready: deque[Task] = field(default_factory=deque)
    _running: dict[Task, Future[Outcome]] = field(default_factory=dict)
    _ended: SimpleQueue[Task] = field(default_factory=SimpleQueue)
    _aside: list[Task] = field(default_factory=list)  # what was not made
    _tries: Counter[Task] = field(default_factory=Counter)

    @classmethod
    def begin(cls, site: Site, submit: Submit, done: Iterable[int]) -> Making:
        """Start anew, with the blocks that are done already."""
        shutil.rmtree(site.pieces.folder, ignore_errors=True)
        making = cls(site, submit)
        for block in done:
            making._is_there(block)
        making._go_on()
        return making

    @property
    def total(self) -> int:
        """The pixels that are to be made: every level as tiles, all but the first as shards."""
        areas = [rows * cols for rows, cols in self.site.sizes]
        return 2 * sum(areas) - areas[0]

    def took(self, block: int) -> None:
        """A block's shards are there to stay. Raises an InputError that a maker met."""
        self._is_there(block)
        self._go_on()

    def finish(self, tick: Callable[[int, int], None]) -> None:
        """Wait until all is made; `tick` hears (pixels made, in all). Raises what kept something from being made."""
        self._go_on()
        tick(self.pixels, self.total)
        while self._running or self._aside:
            if self._running:
                self._end(self._ended.get())
            else:
                self._try_again()
            self._go_on()
            tick(self.pixels, self.total)

    def close(self) -> None:
        """Hand out nothing more."""
        self._ready.clear()
        for future in self._running.values():
            future.cancel()

    def _is_there(self, block: int) -> None:
        row, col = self.site.grid.position(block)
        shards = self.site.plot // self.site.grid.block  # along a plot
        self._count(Task(SHARDS, 0, row // shards, col // shards))

    def _count(self, task: Task) -> None:
        """One of those that a task waits for is there; a plot of level 0 is done when its blocks are."""
        left = self._waits.pop(task, None) or self._needs(task)
        if left > 1:
            self._waits[task] = left - 1
        elif task.kind == SHARDS and task.level == 0:
            self._follow(task)
        else:
            self._ready.append(task)

    def _needs(self, task: Task) -> int:
        """How many blocks or plots a task waits for."""
        rect, block = self.site.rect(task), self.site.grid.block
        if task.kind == TILES:
            return sum(1 for _ in self.site.tasks(SHARDS, task.level, rect))
        if task.level == 0:
            return -(-rect.height // block) * -(-rect.width // block)
        below = Rect(2 * rect.top, 2 * rect.left, 2 * rect.bottom, 2 * rect.right)
        return sum(1 for _ in self.site.tasks(SHARDS, task.level - 1, below))

    def _follow(self, plot: Task) -> None:
        """A plot is done: tell those that wait for it."""
        for piece in self.site.tasks(TILES, plot.level, self.site.rect(plot)):
            self._count(piece)
        if plot.level + 1 < len(self.site.sizes):
            self._count(Task(SHARDS, plot.level + 1, plot.row // 2, plot.col // 2))

    def _go_on(self) -> None:
        """Take what has ended, and hand out what is ready."""
        try:
            while True:
                self._end(self._ended.get_nowait())
        except Empty:
            pass
        while self._ready and len(self._running) < IN_FLIGHT:
            self._hand_out(self._ready.popleft())

    def _hand_out(self, task: Task) -> None:
        future = self._running[task] = self.submit(make, self.site, task)
        future.add_done_callback(lambda _: self._ended.put(task))

    def _end(self, task: Task) -> None:
        future = self._running.pop(task)
        if future.cancelled() or future.exception() is not None:
            self._tries[task] += 1
            self._aside.append(task)
        else:
            self._take(task, future.result())

    def _try_again(self) -> None:
        """Hand out what was not made, or make it here, where its error is raised."""
        aside, self._aside = self._aside, []
        for task in aside:
            if self._tries[task] < TRIES:
                self._hand_out(task)
            else:
                self._take(task, make(self.site, task))

    def _take(self, task: Task, made: Outcome) -> None:
        if isinstance(made, Exception):
            raise made
        self.shards |= made.shards
        self.seconds[task.kind] = self.seconds.get(task.kind, 0.0) + made.seconds
        self.pixels += self.site.rect(task).area
        if task.kind == SHARDS:
            self._follow(task)
