"""The grid's laws, each against counting pixel by pixel."""

from __future__ import annotations

import math
import pickle
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.grid import Grid, Rect, Stitch, reflected


@st.composite
def grids(draw, stitch: Stitch | None = None) -> Grid:
    stride = draw(st.integers(1, 8))
    core = stride * draw(st.integers(1, 6))
    return Grid(
        height=draw(st.integers(1, 6 * core)),
        width=draw(st.integers(1, 6 * core)),
        stride=stride,
        core=core,
        margin=stride * draw(st.integers(0, 9)),
        block=core * draw(st.integers(1, 4)),
        stitch=stitch or draw(st.sampled_from(Stitch)),
    )


@st.composite
def zoomed(draw) -> Grid:
    """Grids whose view has other pixels than the scene; at most 20 cores and 10 blocks to a side."""
    stride = draw(st.integers(1, 4))
    core = stride * draw(st.integers(1, 6))
    zoom = draw(st.fractions(Fraction(1, 12), 12, max_denominator=12).filter(lambda zoom: zoom != 1))
    longest = max(1, min(90, math.floor(20 * core / zoom)))
    height, width = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    return Grid(
        height=height,
        width=width,
        stride=stride,
        core=core,
        margin=stride * draw(st.integers(0, 5)),
        block=draw(st.integers(math.ceil(max(height, width) / 10), 60)),
        stitch=draw(st.sampled_from(Stitch)),
        zoom=zoom,
    )


def covered(rects, height: int, width: int) -> np.ndarray:
    """How many of the rectangles cover each pixel of a scene."""
    count = np.zeros((height, width), int)
    for rect in rects:
        assert rect.area
        count[rect.slices()] += 1
    return count


@given(grids())
def test_owned_rectangles_tile_the_scene_exactly_once(grid):
    assert (covered((grid.owned(block) for block in range(len(grid))), grid.height, grid.width) == 1).all()


@given(grids())
def test_a_hull_is_the_smallest_rectangle_around_owned_and_all_windows(grid):
    for block in range(len(grid)):
        hull, windows = grid.hull(block), list(grid.windows(block))
        assert hull.contains(grid.owned(block))
        assert hull.top == min(window.top for window in windows)
        assert hull.left == min(window.left for window in windows)
        assert hull.bottom == max(window.bottom for window in windows)
        assert hull.right == max(window.right for window in windows)


@given(grids())
def test_every_window_is_square_and_anchored_to_the_scene_by_the_stride(grid):
    for block in range(len(grid)):
        for window in grid.windows(block):
            assert window.shape == (grid.window, grid.window)
            assert (window.top + grid.margin) % grid.core == (window.left + grid.margin) % grid.core == 0
            assert window.top % grid.stride == window.left % grid.stride == 0


@given(grids(Stitch.EXACT))
def test_the_cores_of_a_blocks_windows_tile_what_it_owns(grid):
    for block in range(len(grid)):
        owned = grid.owned(block)
        cores = [grid.core_of(window) for window in grid.windows(block)]
        assert all(owned.contains(core) for core in cores)
        assert sum(core.area for core in cores) == owned.area
        assert (covered(cores, grid.height, grid.width)[owned.slices()] == 1).all()


@given(grids(Stitch.BLEND))
def test_a_blended_block_computes_every_window_of_the_scene_that_meets_it_in_order(grid):
    down, across = grid.cores
    everywhere = [grid.window_of(row, col) for row in range(down) for col in range(across)]
    for block in range(len(grid)):
        owned = grid.owned(block)
        meeting = [window for window in everywhere if window.intersect(owned).area]
        assert list(grid.windows(block)) == meeting == sorted(meeting)


@given(grids())
def test_what_is_computed_is_the_sum_over_all_blocks(grid):
    windows = sum(len(list(grid.windows(block))) for block in range(len(grid)))
    assert grid.computed() == windows * grid.window**2


@given(grids())
def test_no_hull_is_longer_than_the_grid_says(grid):
    assert max(max(grid.hull(block).shape) for block in range(len(grid))) <= grid.hull_side()


def test_the_bound_on_hulls_is_reached_inside_a_large_scene():
    for stitch in Stitch:
        grid = Grid(4000, 4000, stride=8, core=64, margin=24, block=256, stitch=stitch)
        assert max(grid.hull(block).height for block in range(len(grid))) == grid.hull_side()


def test_counting_what_a_million_blocks_compute_takes_no_time():
    grid = Grid(512_000, 512_000, stride=4, core=512, margin=24, block=512, stitch=Stitch.BLEND)
    start = time.perf_counter()
    assert grid.computed() == (3 * 1000 - 2) ** 2 * grid.window**2
    assert time.perf_counter() - start < 1


@given(grids())
def test_blocks_are_numbered_row_by_row(grid):
    down, across = grid.blocks
    assert [grid.position(block) for block in range(len(grid))] == [(r, c) for r in range(down) for c in range(across)]
    for beyond in (-1, len(grid)):
        with pytest.raises(IndexError, match=f"the grid has {len(grid)}"):
            grid.position(beyond)


@given(grids())
def test_a_grid_pickles_small(grid):
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert len(pickle.dumps(grid)) < 300


RECTS = st.builds(Rect, *[st.integers(-20, 20)] * 4)


@given(zoomed())
def test_every_pixel_of_the_scene_takes_the_pixel_of_the_view_that_its_centre_lies_in(grid):
    assert grid.view.shape == (math.ceil(grid.height * grid.zoom), math.ceil(grid.width * grid.zoom))
    for block in range(len(grid)):
        owned, seen = grid.owned(block), grid.seen(block)
        rows, cols = grid.spread(block)
        assert [row + seen.top for row in rows] == [
            math.floor((row + Fraction(1, 2)) * grid.zoom) for row in range(owned.top, owned.bottom)
        ]
        assert [col + seen.left for col in cols] == [
            math.floor((col + Fraction(1, 2)) * grid.zoom) for col in range(owned.left, owned.right)
        ]
        assert (rows.min(), rows.max() + 1) == (0, seen.height)
        assert (cols.min(), cols.max() + 1) == (0, seen.width)
        assert grid.view.contains(seen)


@given(zoomed())
def test_the_windows_of_a_block_hold_all_that_it_takes_from_the_view(grid):
    down, across = grid.cores
    everywhere = [grid.window_of(row, col) for row in range(down) for col in range(across)]
    for block in range(len(grid)):
        seen, hull, windows = grid.seen(block), grid.hull(block), list(grid.windows(block))
        if grid.stitch is Stitch.EXACT:
            cores = covered((grid.core_of(window) for window in windows), *grid.view.shape)
            assert (cores[seen.slices()] == 1).all()
        else:
            assert windows == [window for window in everywhere if window.intersect(seen).area]
        assert all(hull.contains(window) for window in windows)
        assert max(hull.shape) <= grid.hull_side()
    assert grid.computed() == sum(len(list(grid.windows(block))) for block in range(len(grid))) * grid.window**2


@given(grids())
def test_without_a_zoom_the_view_is_the_scene(grid):
    assert grid.view == grid.scene
    assert all(grid.seen(block) == grid.owned(block) for block in range(len(grid)))


@given(RECTS, RECTS)
def test_what_two_rectangles_share_is_what_both_cover(one, other):
    def pixels(rect: Rect) -> set[tuple[int, int]]:
        return {(row, col) for row in range(rect.top, rect.bottom) for col in range(rect.left, rect.right)}

    assert pixels(one.intersect(other)) == pixels(one) & pixels(other)
    assert one.area == len(pixels(one))
    if one.area and other.area:
        assert one.contains(other) == (pixels(other) <= pixels(one))


@given(st.integers(-300, 300), st.integers(0, 300), st.integers(2, 40))
def test_reflection_is_numpys(start, length, size):
    stop = start + length
    before, after = max(0, -start), max(0, stop - size)
    padded = np.pad(np.arange(size), (before, after), mode="reflect")
    assert np.array_equal(reflected(start, stop, size), padded[start + before : stop + before])


@given(st.integers(-50, 50), st.integers(0, 50))
def test_an_axis_of_one_pixel_repeats_it(start, length):
    assert reflected(start, start + length, 1).tolist() == [0] * length


def test_an_axis_without_pixels_has_no_reflection():
    with pytest.raises(ValueError, match="at least one pixel"):
        reflected(0, 1, 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"height": 0}, "0 × 100 pixels; both sides must be at least 1"),
        ({"stride": 0}, "The stride is 0"),
        ({"core": 66}, "core is 66 pixels; it must be a multiple of the network's stride, 4"),
        ({"core": 0}, "core is 0 pixels.*at least 4"),
        ({"margin": 6}, "margin is 6 pixels.*stride, 4"),
        ({"margin": -4}, "margin is -4 pixels.*at least 0"),
        ({"block": 100}, "block is 100 pixels.*whole number of cores of 64: take 64 or 128"),
        ({"block": 32}, "take 64 or 128"),
        ({"zoom": Fraction(0)}, "zoom is 0"),
        ({"zoom": Fraction(1, 2), "block": 600}, "block is 600 pixels; it must be a multiple of 512"),
    ],
)
def test_what_breaks_a_law_is_said_with_its_numbers(wrong, said):
    right = {"height": 100, "width": 100, "stride": 4, "core": 64, "margin": 8, "block": 128}
    with pytest.raises(SettingsError, match=said):
        Grid(**right | wrong)


@given(grids(), st.integers(1, 1000))
def test_the_blocks_that_an_error_proposes_are_right(grid, block):
    sides = {name: getattr(grid, name) for name in ("height", "width", "stride", "core", "margin")}
    try:
        Grid(**sides, block=block)
    except SettingsError as error:
        *_, below, _, above = str(error).rstrip(".").split()
        assert Grid(**sides, block=int(below)).block <= max(block, grid.core)
        assert Grid(**sides, block=int(above)).block > block
