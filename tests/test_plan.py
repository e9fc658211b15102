"""What a plan decides from numbers alone: margin, window, block, identity; and that it travels small."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import IdentityError, ModelError, SettingsError
from pipeline.grid import Stitch
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.plan import (
    COARSEST,
    Choices,
    Kind,
    Margin,
    Network,
    Plan,
    demand_same,
    digest_of,
    identity_of,
    lay_grid,
    products_of,
    recipe_of,
    rounded_up,
    stated_margin,
)
from pipeline.raster.source import Scene
from pipeline.settings import Job
from tests.oracle import small_card

MIXING = Field(unbounded="node `squeeze` (GlobalAveragePool) mixes all pixels")


def job(**said: object) -> Job:
    return Job(**{"scenes": ("a.tif",), "model": "m.onnx", "out": "out", **said})


def network(field: Field, side: int | None = None, **card: object) -> Network:
    return Network("m.onnx", "0" * 32, small_card().model_copy(update={"window": None, **card}), field, side)


def scene(height: int = 5000, width: int = 7000, **said: object) -> Scene:
    place = {"crs": None, "transform": None, "nodata": (None,) * 3, "alpha": None, "masks": ()}
    layout = {"tile": (512, 512), "tile_bytes": 512 * 512 * 3, "driver": "GTiff"}
    made = {"name": "a", "uri": "/a.tif", "bands": (1, 2, 3), "dtype": "uint8", "fingerprint": "f"}
    return Scene(**{"height": height, "width": width, **made, **place, **layout, **said})


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


# Identity


CHOICES = st.builds(
    Choices,
    core=st.integers(1, 4096),
    block=st.integers(1, 4096),
    margin=st.builds(
        Margin,
        pixels=st.integers(0, 999),
        kind=st.sampled_from(Kind),
        why=st.text(),
        difference=st.none() | st.floats(0, 1),
    ),
    shift=st.lists(st.floats(allow_nan=False, width=32), max_size=5).map(tuple),
    factor=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=5).map(tuple),
    device=st.sampled_from(["cpu", "cuda"]),
    numeric_class=st.text(),
)


@given(CHOICES)
def test_choices_survive_json(choices):
    assert Choices.from_dict(json.loads(json.dumps(choices.as_dict()))) == choices


def choices_of(margin: Margin, **said: object) -> Choices:
    made = {"core": 512, "block": 1024, "margin": margin, "shift": (0.0,) * 3, "factor": (1.0,) * 3}
    return Choices(**{**made, "device": "cpu", "numeric_class": "cpu fp32", **said})


EXACT = Margin(24, Kind.EXACT, "")
BASE = identity_of(job(), network(Field(2, 23)), scene(), choices_of(EXACT))


def test_what_decides_no_pixel_is_not_part_of_the_identity():
    elsewhere = replace(network(Field(2, 23)), path="/elsewhere/n.onnx", field=Field(4, 20))
    card = elsewhere.card.model_copy(update={"licence": "MIT", "scores": {"iou": 0.9}})
    moved = scene(uri="/elsewhere/b.tif", name="b", tile=(64, 64), driver="COG")
    other = job(workers=3, batch=2, window=128, block=256, memory=10**9, attempts=1, overwrite=True, device="cpu")
    said = other.model_copy(update={"out": "there", "model": "n.onnx", "scenes": ("b.tif",)})
    frozen = choices_of(replace(EXACT, pixels=32, why="asked for"), core=64, block=128, device="cuda")
    assert identity_of(said, replace(elsewhere, card=card), moved, frozen) == BASE


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("source", {"scene": scene(fingerprint="g")}),
        ("bands", {"scene": scene(bands=(3, 2, 1))}),
        ("model", {"network": replace(network(Field(2, 23)), digest="1" * 32)}),
        ("card", {"network": network(Field(2, 23), threshold=0.25, activation="sigmoid")}),
        ("card", {"network": network(Field(2, 23), fill=1.0)}),
        ("settings", {"job": job(margin="exact")}),
        ("settings", {"job": job(products=["confidence"])}),
        ("settings", {"job": job(overlap=0.5)}),
        ("settings", {"choices": choices_of(Margin(24, Kind.MEASURED, ""))}),
        ("numeric class", {"choices": choices_of(EXACT, numeric_class="cuda fp32")}),
    ],
)
def test_a_part_that_decides_pixels_makes_another_identity_and_is_named(part, changed):
    made = {"job": job(), "network": network(Field(2, 23)), "scene": scene(), "choices": choices_of(EXACT), **changed}
    other = identity_of(**made)
    assert {name for name in BASE if BASE[name] != other[name]} == {part}
    assert digest_of(other) != digest_of(BASE)
    with pytest.raises(IdentityError, match=rf"/out/a holds another result: it differs in {part}: .* there, .* now"):
        demand_same(BASE, other, "/out/a")


def test_every_part_that_differs_is_named():
    other = dict.fromkeys(BASE, "other")
    with pytest.raises(IdentityError) as caught:
        demand_same(BASE, other, "/out/a")
    assert all(f"{name}: " in str(caught.value) for name in BASE)
    demand_same(BASE, json.loads(json.dumps(BASE)), "/out/a")


@pytest.mark.parametrize("kind", Kind)
def test_window_and_margin_are_part_of_the_identity_unless_the_margin_is_exact(kind):
    settings = identity_of(job(), network(Field(2, 23)), scene(), choices_of(Margin(24, kind, "")))["settings"]
    frozen = {"core": 512, "margin in pixels": 24}
    assert (frozen.items() <= settings.items()) == (kind not in {Kind.EXACT, Kind.ROUNDING})
    assert not {"block", "window", "workers", "batch"} & set(settings)


# What travels


def test_a_plan_of_the_largest_card_pickles_to_less_than_64_kb():
    classes = [{"name": f"a class with a rather long name, number {k}", "value": k} for k in range(253)]
    said = {"name": "many", "bands": [f"band {k}" for k in range(12)], "scaling": "none", "classes": classes}
    card = Card.of({**said, "layout": "NCHW", "says": "logits", "activation": "softmax"}, "the test")
    wanted = job(products=["confidence", "probabilities"])
    of = replace(network(Field(2, 23)), card=card)
    wide = scene(bands=tuple(range(1, 13)), nodata=(None,) * 12, crs="x" * 4000)
    grid = lay_grid(wanted, of, wide, EXACT)
    plan = Plan(
        scene=wide,
        network=of,
        grid=grid,
        margin=EXACT,
        recipe=recipe_of(grid, wide, wanted, 8),
        choices=choices_of(EXACT),
        products=products_of(wanted, card),
        identity=identity_of(wanted, of, wide, choices_of(EXACT)),
        store="/out/a/.stage/mask.zarr",
    )
    said = pickle.dumps(plan)
    assert len(said) < 64 * 1024
    assert pickle.loads(said) == plan


def test_a_plan_on_a_store_differs_in_its_place_alone():
    grid = lay_grid(job(), network(Field(2, 23)), scene(), EXACT)
    recipe, products = recipe_of(grid, scene(), job(), 1), products_of(job(), small_card())
    plan = Plan(scene(), network(Field(2, 23)), grid, EXACT, recipe, choices_of(EXACT), products, BASE, "")
    placed = plan.on("/there", scene(uri="/staged.tif"))
    assert placed.digest == plan.digest == digest_of(BASE)
    changed = {one.name for one in fields(Plan) if getattr(placed, one.name) != getattr(plan, one.name)}
    assert changed == {"store", "scene"}


def test_products_are_the_mask_and_those_asked_for_with_a_channel_for_each_that_the_network_says():
    made = products_of(job(products=["probabilities", "confidence", "disagreement"]), small_card())
    assert [one.name for one in made] == ["mask", "confidence", "probabilities", "disagreement"]
    assert (made[2].channels, made[2].labels) == (3, ("class 0", "class 1", "class 2"))
    sigmoid = small_card().model_copy(update={"activation": "sigmoid"})
    assert products_of(job(products=["probabilities"]), sigmoid)[1].labels == ("class 1", "class 2")
    assert [one.name for one in products_of(job(), small_card())] == ["mask"]
