"""Blocks grow while they read too much, and no further than memory and an even share for all workers allow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid import Grid, Stitch
from pipeline.lay import ENOUGH_BLOCKS
from pipeline.probe import Probe
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.sides import LARGEST_BLOCK, LITTLE_TIME, MUCH_READING, block_of, bytes_read
from pipeline.tune import Tuner, seconds_per_byte
from tests.images import noise, write_image
from tests.test_plan import scene

PROBE = Probe("cpu", "cpu", "CPU", None, None, 1, 0, 0, 1.0)
MEMORY = 4 * 2**30


class Timed(Tuner):
    """Decoding takes what the test says."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def decoding(self, scene: object) -> float:
        return self.seconds


@given(
    side=st.integers(5_000, 400_000),
    tile=st.sampled_from([256, 512, 1024]),
    workers=st.integers(1, 64),
    decoding=st.floats(0, 1e-6),
    room=st.integers(0, 2**31),
)
def test_a_block_is_as_large_as_it_has_to_be_and_may_be(side, tile, workers, decoding, room):
    image = scene(side, side, tile=(tile, tile), tile_bytes=3 * tile**2)
    base = Grid(side, side, 8, 512, 24, 2048)
    job = Job(scenes=("a",), model="m", out="out", memory=MEMORY)

    def held(grid: Grid, each: int) -> int:
        return each * grid.block + (0 if grid.block**2 <= room else MEMORY)

    found = block_of(job, image, base, PROBE, Timed(decoding), workers, held)

    def must(grid: Grid) -> bool:
        decoded, once = bytes_read(image, grid, range(len(grid)))
        work = PROBE.seconds * grid.computed() / grid.window**2
        return decoded > MUCH_READING * once and decoded * decoding > LITTLE_TIME * work

    def may(grid: Grid) -> bool:
        enough = len(grid) >= max(ENOUGH_BLOCKS, 4 * workers)
        return grid.block <= LARGEST_BLOCK and enough and held(grid, workers) <= MEMORY / 4

    blocks = [Grid(side, side, 8, 512, 24, block) for block in (2048, 4096, 8192, 16384)]
    at = [grid.block for grid in blocks].index(found.block)
    assert all(must(smaller) and may(larger) for smaller, larger in pairwise(blocks[: at + 1]))
    assert at == 3 or not (must(blocks[at]) and may(blocks[at + 1]))


@given(st.integers(300, 40_000), st.integers(300, 40_000), st.integers(1, 16), st.sampled_from([64, 192, 384]))
def test_blended_blocks_are_those_that_are_done_soonest(height, width, workers, core):
    image = scene(height, width, tile=(512, 512), tile_bytes=512**2)
    base = Grid(height, width, 1, core, core // 6, core * max(1, 1024 // core), Stitch.BLEND)
    job = Job(scenes=("a",), model="m", out="out", memory=MEMORY)
    found = block_of(job, image, base, PROBE, Timed(0.0), workers, lambda grid, _: grid.block**2)

    def turns(grid: Grid) -> float:
        return -(-len(grid) // workers) * grid.computed() / len(grid)

    halves = (replace(base, block=core * -(-max(base.cores) // parts)) for parts in (1, 2, 3, 5, 16))
    assert all(turns(found) <= turns(grid) for grid in (base, *halves) if grid.block <= LARGEST_BLOCK)
    assert found.block <= LARGEST_BLOCK


def test_a_block_that_is_asked_for_stays():
    image, base = scene(99_999, 99_999, tile=(512, 512), tile_bytes=512**2), Grid(99_999, 99_999, 8, 512, 24, 512)
    job = Job(scenes=("a",), model="m", out="out", block=512, memory=MEMORY)
    assert block_of(job, image, base, PROBE, Timed(1.0), 1, lambda *_: 0) is base


@pytest.mark.parametrize("side", [40, 1500])
def test_decoding_is_timed_on_real_tiles(tmp_path, side):
    path = write_image(tmp_path / "scene.tif", noise(3, side, side), tiled=True, blockxsize=256, blockysize=256)
    with Tuner()._child:
        assert 0 < seconds_per_byte(open_scene(str(path), None)) < 1e-3


def test_what_cannot_be_decoded_takes_no_time(tmp_path):
    path = write_image(tmp_path / "scene.tif", noise(1, 900, 900), tiled=True, compress="DEFLATE")
    image = open_scene(str(path), None)
    content = np.fromfile(path, np.uint8)
    content[len(content) // 4 : len(content) * 3 // 4] = 7
    content.tofile(path)
    assert seconds_per_byte(image) == 0.0
