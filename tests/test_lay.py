"""How windows, cores and blocks are laid, from numbers alone: which margin, which window, which block."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ModelError, SettingsError
from pipeline.grid import Grid, Stitch
from pipeline.lay import COARSEST, evened, lay_grid, narrower, rounded_up, stated_margin
from pipeline.network.field import Field
from pipeline.plan import Kind, Margin, Network, Plan, recipe_of
from pipeline.settings import Job
from tests.test_plan import MIXING, job, network, scene


@st.composite
def bounded(draw) -> Field:
    stride = draw(st.integers(1, 40))
    return Field(stride, draw(st.integers(0, 100)), inexact=draw(st.sampled_from([None, "cubic by 1.5"])))


# Margins


@given(bounded())
def test_an_exact_margin_is_the_reach_rounded_up_to_the_stride(field):
    margin = stated_margin(job(margin="exact"), network(field))
    assert margin.pixels == rounded_up(field.reach, field.stride)
    assert margin.kind is (Kind.ROUNDING if field.inexact else Kind.EXACT)
    assert margin.stitch is Stitch.EXACT
    assert f"{field.reach} px" in margin.why
    assert stated_margin(job(), network(field)) in {None, margin}


@given(bounded(), st.integers(0, 200))
def test_a_margin_of_pixels_is_exact_from_the_reach_on_and_has_to_be_measured_below(field, pixels):
    margin = stated_margin(job(margin=pixels), network(field))
    if pixels < field.reach:
        assert margin is None
    else:
        assert margin.pixels == rounded_up(pixels, field.stride) >= pixels
        assert margin.exact


@pytest.mark.parametrize(("reach", "stated"), [(106, True), (107, False), (400, False)])
def test_auto_measures_where_the_exact_margin_would_more_than_double_the_work(reach, stated):
    assert (stated_margin(job(), network(Field(1, reach))) is not None) == stated
    assert stated_margin(job(margin="exact"), network(Field(1, reach))).pixels == reach


@pytest.mark.parametrize(("window", "stated"), [(4096, True), (1024, False), (100, False)])
def test_what_doubles_the_work_depends_on_the_window_asked_for(window, stated):
    assert (stated_margin(job(window=window), network(Field(1, 200))) is not None) == stated


def test_an_exact_margin_is_refused_of_a_network_that_has_none_with_the_nodes_name():
    with pytest.raises(ModelError, match=r"squeeze.*--margin blend"):
        stated_margin(job(margin="exact"), network(MIXING))


@pytest.mark.parametrize("asked", ["auto", "blend", 40])
def test_a_network_that_mixes_all_its_pixels_is_blended(asked):
    margin = stated_margin(job(margin=asked, window=400, overlap=0.5), network(MIXING))
    assert (margin.kind, margin.stitch, margin.pixels) == (Kind.BLEND, Stitch.BLEND, 100)
    assert "squeeze" in margin.why
    assert "200 of 400 px" in margin.why


@given(bounded(), st.integers(1, 2000), st.floats(0.01, 0.89))
def test_a_window_that_cannot_be_blended_is_told_the_next_that_can(field, window, overlap):
    asked = {"margin": "blend", "overlap": overlap}

    def blended(side: int):
        wanted = job(**asked, window=side)
        return lay_grid(wanted, network(field), scene(), stated_margin(wanted, network(field)))

    try:
        grid = blended(window)
    except SettingsError as error:
        grid = blended(int(re.search(r"Take (\d+)\.", str(error))[1]))
    assert grid.window >= window
    assert grid.margin * 2 + grid.core == grid.window
    assert abs(2 * grid.margin - overlap * grid.window) <= 2 * field.stride


def test_the_window_of_a_blend_is_the_jobs_the_graphs_the_cards_or_512_in_this_order():
    def window(wanted: Job, of: Network) -> int:
        return lay_grid(wanted, of, scene(), stated_margin(wanted, of)).window

    assert window(job(), network(MIXING)) == 512
    assert window(job(), network(MIXING, window=96)) == 96
    assert window(job(), network(MIXING, side=64, window=96)) == 64
    assert window(job(window=200), network(MIXING, window=96)) == 200
    with pytest.raises(SettingsError, match="exported for 64 × 64"):
        window(job(window=200), network(MIXING, side=64))


# Windows and blocks


SIDES = st.integers(1, 6000)


@given(bounded(), SIDES, SIDES)
def test_a_grid_by_default_obeys_the_laws_for_any_scene(field, height, width):
    margin = stated_margin(job(margin="exact"), network(field))
    grid = lay_grid(job(), network(field), scene(height, width), margin)
    assert grid.margin == margin.pixels
    assert grid.core % field.stride == grid.block % grid.core == 0
    assert grid.window // field.stride >= COARSEST  # or sums would be taken in another order
    assert len(grid) == 1 or grid.block <= 2048 + grid.core


@pytest.mark.parametrize(
    ("height", "width", "core"), [(5000, 5000, 512), (300, 512, 512), (256, 100, 256), (65, 20, 128), (1, 1, 64)]
)
def test_a_small_scene_gets_a_small_core_that_holds_it(height, width, core):
    field = Field(8, 32)
    grid = lay_grid(job(), network(field), scene(height, width), stated_margin(job(), network(field)))
    assert grid.core == core


def test_a_core_grows_where_the_stride_would_leave_a_coarsest_map_of_less_than_16():
    field = Field(128, 128)
    grid = lay_grid(job(), network(field), scene(), stated_margin(job(margin="exact"), network(field)))
    assert grid.window == 128 * COARSEST


@pytest.mark.parametrize(("reach", "height", "width", "core"), [(46, 9000, 9000, 512), (56, 9000, 1000, 1024)])
def test_a_core_is_larger_where_its_margin_would_cost_much(reach, height, width, core):
    field = Field(2, reach)
    grid = lay_grid(job(), network(field), scene(height, width), stated_margin(job(), network(field)))
    assert grid.core == core
    held = lay_grid(job(), network(field), scene(700, 1000), stated_margin(job(), network(field)))
    assert held.core == 512


def test_few_blocks_are_smaller_so_that_all_workers_are_busy_to_the_end():
    field = Field(2, 24)
    margin = stated_margin(job(), network(field))
    sides = [lay_grid(job(), network(field), scene(n, n), margin).block for n in (20_000, 6000, 3000, 1500)]
    assert sides == [2048, 1024, 512, 512]


@given(bounded(), st.integers(1, 1500))
def test_a_window_that_does_not_fit_is_told_the_next_that_does(field, window):
    margin = stated_margin(job(margin="exact"), network(field))
    try:
        grid = lay_grid(job(window=window), network(field), scene(), margin)
    except SettingsError as error:
        window = int(re.search(r"Take (\d+)\.", str(error))[1])
        grid = lay_grid(job(window=window), network(field), scene(), margin)
    assert grid.window == window


def test_window_and_block_are_what_was_asked_for():
    field = Field(2, 6)
    grid = lay_grid(
        job(window=76, block=192), network(field), scene(), stated_margin(job(margin="exact"), network(field))
    )
    assert (grid.window, grid.core, grid.margin, grid.block) == (76, 64, 6, 192)


# Less memory


@given(bounded(), st.integers(1, 60), st.integers(1, 3), st.integers(0, 2), st.sampled_from(Kind))
def test_smaller_windows_are_those_of_a_grid_and_keep_the_order_of_sums(field, strides, cores, extra, kind):
    core, margin = strides * field.stride, Margin(field.margin + extra * field.stride, kind, "")
    grid = Grid(5000, 5000, field.stride, core, margin.pixels, core * cores, margin.stitch)
    recipe = recipe_of(grid, scene(), job(), 4)
    plan = Plan(scene(), network(field), grid, margin, recipe, None, (), {}, "")
    while less := narrower(plan):
        assert kind is Kind.EXACT
        assert less.grid.core <= plan.grid.core // 2
        assert less.grid.window == less.recipe.window >= COARSEST * field.stride
        assert less.recipe.batch == 1
        assert (less.grid.block, less.grid.margin) == (grid.block, grid.margin)
        plan = less
    if kind is Kind.EXACT and core % (2 * field.stride) == 0:
        assert plan.grid.core < core or core // 2 + 2 * margin.pixels < COARSEST * field.stride


# Cores that divide a scene evenly


@given(
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
    stride=st.sampled_from([1, 4, 8, 32]),
    cores=st.integers(1, 4),
    margin=st.integers(0, 4),
)
def test_even_cores_are_a_grid_in_which_the_network_sees_no_more(height, width, stride, cores, margin):
    core = 512 if stride < 32 else 1024
    grid = Grid(height, width, stride, core, margin * stride, cores * core)
    even = evened(grid)
    assert even == grid or even.computed() < grid.computed()
    assert grid.core // 2 <= even.core <= grid.core
    assert even.block // even.core == cores
    assert even is grid or even.window >= COARSEST * stride  # where sums keep their order


def test_cores_of_the_globe_fill_it():
    # 2700 rows are two cores of 1024 and 652 more
    even = evened(Grid(2700, 5400, 8, 1024, 56, 1024))
    assert (even.core, even.cores) == (904, (3, 6))
    assert even.computed() / (2700 * 5400) < 1.28
