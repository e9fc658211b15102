"""What is made of blocks as they are done: the same bytes in any order, by any maker, whatever some makers die of."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import CancelledError, Future
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BlockError, RoomError
from pipeline.grid import Grid, Rect
from pipeline.making import IN_FLIGHT, SHARDS, TILES, Making, Site, Task, make
from pipeline.settings import NODATA
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product, create, levels
from pipeline.store.sink import Sink
from tests.oracle import make_all, tree

PRODUCTS = (Product("mask"), Product("probabilities", 2, ("a", "b")))


def store_of(folder: Path, grid: Grid, seed: int = 0) -> Path:
    """A store whose blocks are all there, some of them empty."""
    random, store = np.random.default_rng(seed), folder / "mask.zarr"
    create(store, grid, PRODUCTS, grid.block // 2, georef=Georef(), classes=[(0, "a", "#000000")])
    sink = Sink(store)
    for block in range(len(grid)):
        owned = grid.owned(block)
        for product in PRODUCTS:
            values = np.array([0, 3, 250, NODATA] if random.random() < 0.8 else [NODATA], np.uint8)
            sink.put(product.name, owned, random.choice(values, product.shape(*owned.shape)))
    return store


class Makers:
    """Makers who do what they are given when told to, in an order drawn by chance, and fail at some of it."""

    def __init__(self, seed: int, failing: float) -> None:
        self.draw, self.failing = random.Random(seed), failing
        self.given: list[tuple[Future, tuple]] = []
        self.began: list[Task] = []

    def submit(self, function, *arguments):
        future = Future()
        self.given.append((future, (function, *arguments)))
        return future

    def work(self, count: int) -> None:
        for _ in range(min(count, len(self.given))):
            future, (function, site, task) = self.given.pop(self.draw.randrange(len(self.given)))
            self.began.append(task)
            if self.draw.random() < self.failing:
                future.set_exception(self.draw.choice([CancelledError(), RuntimeError("the worker died")]))
            else:
                future.set_result(function(site, task))


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 1500),
    width=st.integers(400, 1500),
    block=st.sampled_from([160, 512, 640, 2048]),
    failing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_any_order_of_blocks_and_makers_makes_the_same_bytes(tmp_path_factory, height, width, block, failing, seed):
    folder = tmp_path_factory.mktemp("making")
    grid = Grid(height, width, 1, block // 2, 0, block)
    one, other = (store_of(folder / name, grid, seed) for name in ("one", "other"))
    expected = make_all(one, PRODUCTS, grid, threads=1)

    makers, draw = Makers(seed, failing), random.Random(seed)
    order = draw.sample(range(len(grid)), len(grid))
    already = draw.randrange(len(grid) + 1)
    making = Making.begin(Site.of(other, other.parent, PRODUCTS, grid), makers.submit, order[:already])
    for done, block_done in enumerate(order[already:], start=already + 1):
        making.took(block_done)
        makers.work(draw.randrange(4))
        assert all(covered(making.site, task, order[:done]) for task in makers.began)
    making.finish(lambda *_: makers.work(1000))

    assert tree(other.parent) == tree(one.parent)
    assert making.shards == expected.shards
    assert making.pixels == making.total == expected.pixels
    if not failing:
        assert len(set(makers.began)) == len(makers.began)


def covered(site: Site, task: Task, done: list[int]) -> bool:
    """Whether the blocks that a task looks at are all done."""
    rect, times = site.rect(task), 2**task.level
    seen = Rect(rect.top * times, rect.left * times, rect.bottom * times, rect.right * times)
    touched = {number for number in range(len(site.grid)) if site.grid.owned(number).intersect(seen).area}
    return touched <= set(done)


def test_tiles_and_shards_cover_every_level_once():
    site = Site.of(Path("store"), Path("stage"), PRODUCTS, Grid(9000, 5000, 1, 500, 0, 1000))
    assert (site.side(SHARDS), site.side(TILES)) == (2000, 1024)
    for level, size in enumerate(levels(9000, 5000)):
        for kind in (SHARDS, TILES):
            rects = [site.rect(task) for task in site.tasks(kind, level, Rect(0, 0, *size))]
            assert sum(rect.area for rect in rects) == size[0] * size[1]
            assert len(set(rects)) == len(rects)


def test_no_more_is_handed_out_at_a_time_than_can_be_told_of(tmp_path):
    grid = Grid(40_000, 40_000, 1, 2048, 0, 2048)
    makers = Makers(0, 0.0)
    making = Making.begin(Site.of(tmp_path / "mask.zarr", tmp_path, PRODUCTS, grid), makers.submit, range(len(grid)))
    assert len(makers.given) == IN_FLIGHT
    making.close()
    assert all(future.cancelled() for future, _ in makers.given)


def test_what_no_maker_can_mend_is_raised(tmp_path):
    grid = Grid(600, 600, 1, 320, 0, 320)
    store = store_of(tmp_path, grid)
    shard = store / "mask" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(BlockError, match="a shard is damaged"):
        make_all(store, PRODUCTS, grid)


def test_what_the_user_can_mend_is_raised_at_once(tmp_path):
    grid = Grid(600, 600, 1, 320, 0, 320)
    making = Making.begin(Site.of(tmp_path / "mask.zarr", tmp_path, PRODUCTS, grid), Makers(0, 0).submit, range(4))
    task, future = next(iter(making._running.items()))
    future.set_result(RoomError("There is no room."))
    with pytest.raises(RoomError):
        making.finish(lambda *_: None)
    shutil.rmtree(tmp_path)
    tmp_path.write_bytes(b"")  # a file where folders should be
    assert "mask.zarr" in make(making.site, task).message
