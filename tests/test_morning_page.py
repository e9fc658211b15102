"""The morning's files, of real results."""

from __future__ import annotations

import json
import logging
import re
import time

import pytest
import yaml

from flows.logs import FOLDER as LOGS
from flows.morning import reported
from flows.tasks import run_job
from pipeline import history
from pipeline.document import load_job
from pipeline.errors import InputError
from pipeline.morning import Night
from pipeline.morning_page import HTML, JSON, write_morning
from tests.mill import world
from tests.test_morning import line, refused


def asked(folder):
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump({**world(folder), "cluster": "inline", "device": "cpu"}))
    return load_job(job, {})


def run(job):
    return reported(job, lambda: run_job(job).as_dict())


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two nights of a scene and a file that is no image: in the second, the classes change places."""
    folder = tmp_path_factory.mktemp("nights")
    (folder / "bad.tif").write_bytes(b"no image")
    scenes = ["scene0.tif", "bad.tif"]
    job = asked(folder).model_copy(update={"scenes": tuple(str(folder / one) for one in scenes)})
    first = run(job)
    said = json.loads((job.out / JSON).read_text())
    moved = job.model_copy(update={"overwrite": True, "card": {"classes": ["blue", "red"]}})
    run(moved)
    return job, first, said


def test_a_night_is_told_with_pictures_areas_and_problems(nights):
    job, first, said = nights
    page = (job.out / HTML).read_text()
    assert said["exit_code"] == first["exit_code"] == 3
    assert said["scenes"][0]["scene"] == "bad"
    assert "bad is refused" in page
    assert "&lt;" not in page
    assert page.count("<section>") == page.count("<h2>") == 5
    assert page.count("data:image/jpeg") == 1
    assert not re.search(r"https?://|<script", page)
    assert sum(one["area"] for one in said["classes"]) == pytest.approx(96 * 96 * 100)
    assert said["speed"]["megapixels"] == pytest.approx(96 * 96 / 1e6)
    assert 0 <= said["speed"]["device_idle_share"] <= 1
    assert "bad is refused" in min((job.out / LOGS).iterdir()).read_text()


def test_the_second_night_is_held_against_the_first(nights):
    job, _, before = nights
    said = json.loads((job.out / JSON).read_text())
    scene = next(one for one in said["scenes"] if one["scene"] == "scene0")
    earlier = next(one for one in before["scenes"] if one["scene"] == "scene0")
    shares = {one["class"]: one["share"] for one in earlier["classes"]}
    assert {one["class"]: one["share_before"] for one in scene["classes"]} == shares
    assert [len(one["history"]) for one in scene["classes"]] == [2, 2]
    assert {one["class"]: one["share"] for one in scene["classes"]} == {"red": shares["blue"], "blue": shares["red"]}
    assert said["last_night"] == before["began"]
    assert "<polyline" in (job.out / HTML).read_text()
    assert len(history.nights_of(job.out)) == 2


def test_what_is_refused_leaves_nothing_behind_but_in_a_folder_of_reports(tmp_path):
    def refuse():
        raise InputError("none.tif is not there.")

    job = asked(tmp_path)
    with pytest.raises(InputError):
        reported(job, refuse)
    assert not job.out.exists()
    job.out.mkdir()
    write_morning(job.out, {"scenes": [], "problems": [], "exit_code": 0}, Night(0, 1))
    with pytest.raises(InputError):
        reported(job, refuse)
    said = json.loads((job.out / JSON).read_text())
    assert (said["exit_code"], said["problems"]) == (2, ["none.tif is not there."])


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / HTML).mkdir()
    (tmp_path / HTML / "mine").write_text("mine")
    job = asked(tmp_path).model_copy(update={"out": tmp_path})
    done = {"scenes": [refused("a")], "problems": ["a is refused: no."], "exit_code": 3}
    with caplog.at_level(logging.WARNING):
        assert reported(job, lambda: done) is done
    assert "report.html is not written" in caplog.text
    assert (tmp_path / HTML / "mine").read_text() == "mine"


def test_a_thousand_scenes_make_a_page_of_bounded_size(tmp_path):
    words = "<script>alert(1)</script>"
    done = {
        "scenes": [line(f"s{number}", number % 100) for number in range(1000)],
        "problems": [f"s{number} has a hole: {words}" for number in range(1000)],
        "exit_code": 3,
    }
    said = write_morning(tmp_path, done, Night(time.time() - 5, time.time(), 1.5))
    page = (tmp_path / HTML).read_text()
    assert len(said["scenes"]) == 1000
    assert len(page) < 600_000
    assert words not in page
    assert "And 700 more, in report.json." in page
    assert "cost per 1000 km²" in page
