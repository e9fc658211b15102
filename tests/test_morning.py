"""The morning's numbers against numbers made by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.history import Result
from pipeline.morning import RULE, Night, facts, jumps, result_of, summary

ORDER = ["bad", "half", "holes", "hole", "jumped", "large", "fine", "again"]
NIGHT = Night(1_000_000.0, 1_003_600.0, 2.0)


def line(scene, water=20, state="complete", *, pixels=100, slide=False, area=True, model="m", **said):
    """A scene's line, of 100 pixels of 100 m²."""
    classes = [(0, "land", pixels - water), (1, "water", water)]
    report = {
        "classes": [
            {"value": value, "name": name, "pixels": count, "area": 100.0 * count if area else None}
            for value, name, count in [*classes, (255, "nodata", 0)]
        ],
        "predicted_pixels": pixels,
        "slide": slide,
        "identity_digest": f"{scene}-{model}",
        "model": model,
        "blocks_seconds": 10.0,
        "device_waited": 4.0,
        "devices": 2,
        "pixels_this_run": pixels,
    }
    failed = said.pop("failed", 0)
    told = {"scene": scene, "state": state, "pixels": pixels, "seconds": 11.0, "failed": failed}
    return told | {"out": f"/out/{scene}", "report": report}


def refused(scene):
    return {"scene": scene, "state": "refused", "out": None}


def told(*lines, problems=(), histories=None, nights=(), **more):
    report = {"scenes": list(lines), "problems": list(problems), "exit_code": 3 if problems else 0, **more}
    return facts(report, NIGHT, histories or {}, nights)


def past(*waters, model="m"):
    return [Result(f"night {n}", f"{n}", model, 100, {"water": (w, 100.0 * w)}) for n, w in enumerate(waters)]


def test_worst_come_first_and_every_scene_comes():
    said = told(
        line("fine"),
        line("again", state="complete already"),
        line("large", pixels=900),
        line("jumped", 60),
        line("hole", state="holes", failed=1),
        line("holes", state="holes", failed=5),
        line("half", state="incomplete"),
        refused("bad"),
        problems=["bad is refused: no image", "holes has a hole: block 3"],
        histories={"jumped": past(12)},
    )
    assert [one["scene"] for one in said["scenes"]] == ORDER
    assert said["scenes"][0]["why"] == ["bad is refused: no image"]
    assert said["counts"] | {"left": 0} == said["counts"]
    assert (said["counts"]["complete"], said["counts"]["jumped"], said["counts"]["refused"]) == (3, 1, 1)
    json.dumps(said, allow_nan=False)


def test_a_class_that_jumps_is_told_with_its_numbers():
    said = told(line("a", 60), histories={"a": past(12)})
    (jump,) = said["scenes"][0]["jumps"]
    assert jump == {"class": "water", "share": 0.6, "median": 0.12, "results": 1}
    (water,) = [one for one in said["scenes"][0]["classes"] if one["class"] == "water"]
    assert (water["area"], water["area_before"], water["share_before"]) == (6000.0, 1200.0, 0.12)
    assert water["history"] == [0.12, 0.6]
    assert "10 points" in said["rules"]["jump"]
    assert said["rules"]["jump"] == RULE


@given(st.lists(st.integers(0, 100), max_size=10), st.integers(0, 100))
def test_the_rule_is_what_it_says(waters, now):
    (last,) = past(now)
    ordered = sorted(waters)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2 if waters else 0
    apart = sorted(abs(one - middle) for one in waters)
    spread = (apart[(len(apart) - 1) // 2] + apart[len(apart) // 2]) / 2 if waters else 0
    limit = max(10, 3 * spread)
    if abs(abs(now - middle) - limit) > 1e-9:  # on the very limit, rounding decides
        assert bool(jumps(last, past(*waters))) == (bool(waters) and abs(now - middle) > limit)


def test_a_result_that_stands_is_not_compared_with_itself():
    again = line("a", 60, "complete already")
    assert told(again, histories={"a": [result_of(again, NIGHT)]})["scenes"][0]["jumps"] == []
    (one,) = told(again, histories={"a": [*past(12), result_of(again, NIGHT)]})["scenes"]
    assert one["classes"][1]["share_before"] == 0.12


def test_another_model_is_said():
    assert told(line("a", model="n"), histories={"a": past(12)})["scenes"][0]["other_model"]
    assert not told(line("a"), histories={"a": past(12)})["scenes"][0]["other_model"]


def test_the_nights_areas_are_sums_and_are_held_against_the_last_that_did_something():
    first = told(line("a", 20), line("b", 40), line("c", 90, "complete already"), refused("d"))
    by_name = {one["class"]: one for one in first["classes"]}
    assert (by_name["water"]["pixels"], by_name["water"]["area"], by_name["water"]["share"]) == (60, 6000.0, 0.3)
    assert by_name["water"]["share_before"] is None
    idle = summary(told(line("a", state="complete already")))
    second = told(line("e", 50), nights=[summary(first), idle])
    water = next(one for one in second["classes"] if one["class"] == "water")
    assert (water["share"], water["share_before"], water["area_before"]) == (0.5, 0.3, 6000.0)
    assert second["last_night"] == first["began"]


def test_speed_is_by_the_nights_clock_and_idleness_by_the_devices():
    said = told(line("a"), line("b"), line("c", state="complete already"), refused("d"))["speed"]
    assert said["megapixels"] == pytest.approx(200 / 1e6)
    assert said["megapixels_per_second"] == pytest.approx(200 / 1e6 / 3600)
    assert (said["device_seconds"], said["device_idle_share"]) == (40.0, 0.2)


def test_costs_are_by_the_area_or_by_the_slide():
    maps = told(line("a"), line("b"))["cost"]
    assert (maps["total"], maps["per_slide"]) == (2.0, None)
    assert maps["per_1000_km2"] == pytest.approx(2.0 / (200 * 100 / 1e6) * 1000)
    slides = told(line("a", slide=True), line("b", slide=True))["cost"]
    assert (slides["per_slide"], slides["per_1000_km2"]) == (1.0, None)
    both = told(line("a", slide=True), line("b"))["cost"]
    assert both["per_slide"] == 1.0
    assert both["per_1000_km2"] == pytest.approx(1.0 / (100 * 100 / 1e6) * 1000)
    unpriced = facts({"scenes": [line("a")], "problems": [], "exit_code": 0}, Night(0, 1), {}, [])["cost"]
    assert set(unpriced.values()) == {None}
    assert told(line("a", area=False))["cost"]["per_1000_km2"] is None


def test_a_night_that_did_nothing_is_a_report_too():
    said = told(problems=["The model is missing."], left=[{"scene": "x", "what": "carried over", "why": "Late."}])
    assert (said["scenes"], said["classes"], said["counts"]["left"]) == ([], [], 1)
    assert said["speed"]["device_idle_share"] is None
