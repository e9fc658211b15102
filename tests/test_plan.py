"""What a plan decides from numbers alone: margin, window, block, identity; and that it travels small."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import IdentityError
from pipeline.lay import lay_grid
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.plan import (
    Choices,
    Kind,
    Margin,
    Network,
    Plan,
    demand_same,
    digest_of,
    identity_of,
    products_of,
    recipe_of,
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
