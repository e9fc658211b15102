"""Blending: bit for bit the same for any block, and the weighted mean that its definition says."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grid import Grid, Rect, Stitch
from pipeline.network.blend import FLOOR, blended, weights


def _prediction(window: Rect, channels: int) -> np.ndarray:
    """Numbers that depend on the window and the place in it, as those of a network that mixes all its pixels do."""
    seed = (window.top + 10_000) * 100_003 + window.left + 10_000
    return np.random.default_rng(seed).random((channels, window.height, window.width), np.float32)


def _whole(rect: Rect, windows, channels: int):
    """All bands of a rectangle put together, each checked to continue the last."""
    mean = np.full((channels, *rect.shape), np.nan, np.float32)
    spread = np.full(rect.shape, np.nan, np.float32)
    row = rect.top
    for band, part, difference in blended(rect, ((w, _prediction(w, channels)) for w in windows)):
        assert (band.top, band.left, band.right) == (row, rect.left, rect.right)
        row = band.bottom
        mean[:, *band.slices(rect)], spread[band.slices(rect)] = part, difference
    assert row == rect.bottom
    return mean, spread


@st.composite
def grids(draw):
    stride = draw(st.sampled_from([1, 2, 4]))
    core = stride * draw(st.integers(1, 4))
    margin = stride * draw(st.integers(0, 3))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return [Grid(height, width, stride, core, margin, core * n, Stitch.BLEND) for n in (1, draw(st.integers(2, 5)), 40)]


@given(grids(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_any_block_side_gives_the_bytes_of_the_whole_scene(drawn, channels):
    whole = drawn[-1]
    assert len(whole) == 1
    mean, spread = _whole(whole.scene, whole.windows(0), channels)
    for grid in drawn[:-1]:
        for block in range(len(grid)):
            owned = grid.owned(block)
            part, difference = _whole(owned, grid.windows(block), channels)
            assert part.tobytes() == mean[:, *owned.slices()].tobytes()
            assert difference.tobytes() == spread[owned.slices()].tobytes()


@given(grids(), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_it_is_the_weighted_mean_in_float64(drawn, channels):
    grid = drawn[-1]
    mean, spread = _whole(grid.scene, grid.windows(0), channels)
    sums, total = np.zeros((channels, grid.height, grid.width)), np.zeros((grid.height, grid.width))
    high, low = np.full_like(sums, -np.inf), np.full_like(sums, np.inf)
    for window in grid.windows(0):
        values, weight = _prediction(window, channels), weights(grid.window)
        for row in range(max(0, window.top), min(grid.height, window.bottom)):
            for col in range(max(0, window.left), min(grid.width, window.right)):
                here = row - window.top, col - window.left
                sums[:, row, col] += values[:, *here] * np.float64(weight[here])
                total[row, col] += weight[here]
                high[:, row, col] = np.maximum(high[:, row, col], values[:, *here])
                low[:, row, col] = np.minimum(low[:, row, col], values[:, *here])
    np.testing.assert_allclose(mean, sums / total, atol=1e-6)
    np.testing.assert_allclose(spread, (high - low).max(axis=0), atol=1e-6)


@given(st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_weights_are_positive_symmetric_and_largest_in_the_middle(window):
    table = weights(window)
    assert table.shape == (window, window)
    assert table.dtype == np.float32
    assert table.min() >= np.float32(FLOOR)
    assert table.max() == table[window // 2, window // 2] == 1
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_allclose(table, table[::-1], rtol=1e-6)


@given(st.floats(0, 1, width=32))
@settings(max_examples=20, deadline=None)
def test_a_constant_comes_back(value):
    grid = Grid(50, 70, 4, 8, 12, 80, Stitch.BLEND)
    full = np.full((2, grid.window, grid.window), value, np.float32)
    for _, mean, spread in blended(grid.scene, ((window, full) for window in grid.windows(0))):
        np.testing.assert_allclose(mean, value, rtol=1e-6, atol=1e-38)  # below are subnormal numbers
        assert not spread.any()


def test_one_window_alone_has_no_spread():
    grid = Grid(16, 16, 16, 16, 16, 16, Stitch.BLEND)
    values = _prediction(grid.window_of(0, 0), 2)
    ((band, mean, spread),) = blended(grid.scene, [(grid.window_of(0, 0), values)])
    assert band == grid.scene
    np.testing.assert_allclose(mean, values[:, 16:32, 16:32], rtol=1e-6)
    assert not spread.any()


def test_memory_does_not_grow_with_the_height():
    peaks = []
    for height in (256, 2048):
        grid = Grid(height, 256, 8, 32, 16, 2048, Stitch.BLEND)
        predictions = ((w, _prediction(w, 2)) for w in grid.windows(0))
        tracemalloc.start()
        for _band, _mean, _spread in blended(grid.scene, predictions):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_windows_out_of_order_or_missing_are_said():
    grid = Grid(32, 32, 4, 8, 4, 32, Stitch.BLEND)
    windows = list(grid.windows(0))
    with pytest.raises(ValueError, match="came after"):
        list(blended(grid.scene, ((w, _prediction(w, 1)) for w in (windows[1], windows[0]))))
    with pytest.raises(ValueError, match="not every pixel"):
        list(blended(grid.scene, ((w, _prediction(w, 1)) for w in windows[:-1])))
    with pytest.raises(ValueError, match="no window"):
        list(blended(grid.scene, []))


def test_a_window_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        weights(0)
