"""Sizes of window are measured, remembered, and taken only where they are clearly faster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import sides
from pipeline.child import Child
from pipeline.errors import ModelError
from pipeline.network.host import Recipe
from pipeline.pace import CLEARLY, Pace, fastest, measured
from pipeline.raster.source import open_scene
from pipeline.remember import _file, recalled, remember
from pipeline.settings import Job
from pipeline.settle import open_network, settle
from pipeline.tune import Tuner
from tests.oracle import noise, save_model, save_scene, small_unet

RATES = st.floats(1e-3, 1e3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pace")
    save_model(place / "model.onnx", small_unet())
    save_scene(place / "scene.tif", noise(512, 768))
    return place


def network_of(folder: Path):
    return open_network(folder / "model.onnx", Job(scenes=("a",), model="m", out="out"))


@given(st.lists(RATES, min_size=1, max_size=4))
def test_the_first_is_taken_unless_another_is_clearly_faster(rates):
    paces = [Pace(64 * (number + 1), 1, 2, rate) for number, rate in enumerate(rates)]
    taken = fastest(paces)
    assert taken.rate >= CLEARLY * max(rates)
    assert taken == paces[0] or paces[0].rate < CLEARLY * taken.rate


def test_every_size_is_measured_where_there_is_time_and_the_first_in_any_case(folder):
    recipes = [Recipe(core + 12, 6, 1, "uint8") for core in (128, 256, 64)]
    found = measured(network_of(folder), recipes, "cpu", 2, 20.0)
    assert [(pace.core, pace.at_once) for pace in found[:3]] == [(128, 2), (256, 2), (64, 2)]
    assert found[3].at_once == 1
    assert all(pace.rate > 0 for pace in found)
    assert [(pace.core, pace.at_once) for pace in measured(network_of(folder), recipes, "cpu", 1, 0.0)] == [(128, 1)]


def test_what_the_first_size_fails_of_is_raised(folder):
    network = network_of(folder)
    wrong = replace(network, card=network.card.model_copy(update={"output": "nowhere"}))
    with pytest.raises(ModelError, match="nowhere"):
        measured(wrong, [Recipe(76, 6, 1, "uint8")], "cpu", 1, 0.0)


def test_what_was_measured_is_remembered_and_another_network_is_measured(folder):
    network, recipe = network_of(folder), Recipe(76, 6, 1, "uint8")
    with Child() as child:
        first = Tuner(child).probe(network, recipe, "cpu", 3)
        assert Tuner(child).paces(network, [recipe], "cpu", 1, 0.0) == []
        paces = Tuner(child).paces(network, [recipe], "cpu", 1, 0.5)
    idle = Child()
    assert Tuner(idle).probe(network, recipe, "cpu", 3) == first
    assert Tuner(idle).paces(network, [recipe], "cpu", 1, 0.6) == paces
    assert Tuner(idle).paces(network, [recipe], "cpu", 1, 0.0) == paces
    assert idle._process is None
    with idle, pytest.raises(ModelError, match="has changed"):  # which is to say that it was tried
        Tuner(idle).probe(replace(network, digest="another"), recipe, "cpu", 3)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_damaged_cache_is_none(damage):
    key = {"of": repr(damage)}
    assert recalled("tests", key) is None
    remember("tests", key, {"kept": 1})
    assert recalled("tests", key) == {"kept": 1}
    _file("tests", key).write_bytes(damage)
    assert recalled("tests", key) is None


def test_a_cache_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember("tests", {"a": 1}, {"kept": 1})
    assert recalled("tests", {"a": 1}) is None


def test_a_plan_takes_the_fastest_window_unless_one_is_asked_for_or_frozen(folder, monkeypatch):
    monkeypatch.setattr(sides, "WORTH_TUNING", 0.0)
    paces = [Pace(512, 1, 2, 1.0), Pace(256, 1, 1, 2.0)]
    monkeypatch.setattr(Tuner, "paces", lambda *_: paces)
    with Child() as child:
        tuner = Tuner(child)

        def settled(frozen=None, **said):
            job = Job(scenes=(str(folder / "scene.tif"),), model="m", out=folder / "out", device="cpu", **said)
            return settle(job, network_of(folder), open_scene(job.scenes[0], None), tuner, frozen, 2)

        tuned = settled()
        assert (tuned.plan.grid.core, tuned.budget.workers) == (256, 1)
        assert [pace["core"] for pace in tuned.as_dict()["tuned"]] == [512, 256]
        asked = settled(window=140)
        assert (asked.plan.grid.window, asked.paces) == (140, ())
        obeyed = settled(frozen=asked.plan.choices)
        assert (obeyed.plan.grid.core, obeyed.paces) == (asked.plan.grid.core, ())
