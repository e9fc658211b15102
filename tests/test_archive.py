"""An archive: only what has no finished result is done, as much as a run may begin, until its time is over."""

import html
import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from flows.archive import Rations
from flows.quarantine import note_nights, refusal
from pipeline.errors import CarriedOverError, ClusterError, RoomError, SceneError, SettingsError
from pipeline.nights import read_nights
from pipeline.settings import Job
from tests.images import noise, write_image
from tests.mill import last_json, maskmill, world, write_job


@pytest.fixture
def archive(tmp_path, warm):
    """A folder of three scenes, its job, and a way to run it."""
    job = world(tmp_path, scenes=3) | {"scenes": [{"folder": "archive"}], "settle": 0, "cluster": "inline"}
    (tmp_path / "archive").mkdir()
    for index in range(3):
        shutil.move(tmp_path / f"scene{index}.tif", tmp_path / "archive")
    return Archive(tmp_path, job, warm)


class Archive:
    def __init__(self, folder, job, warm):
        self.folder, self.job, self.warm = folder, job, warm

    def run(self, *arguments, **more):
        write_job(self.folder, self.job | more)
        done = self.warm.run("run", "--job", "job.yaml", "--json", *arguments, cwd=self.folder)
        assert done.left == []
        return done, last_json(done)

    def due(self, **more):
        done, said = self.run("--dry-run", **more)
        assert done.returncode == 0, done.stderr
        return {one["scene"]: one["why"] for one in said["due"]}

    def mask(self, name):
        return (self.folder / "out" / name / "mask.tif").read_bytes()


def states(said):
    return {row["scene"]: row["state"] for row in said["scenes"]}


def test_what_is_done_is_done_once_and_what_is_new_or_changed_is_done(archive):
    assert archive.due() == dict.fromkeys(("scene0", "scene1", "scene2"), "new")
    assert not (archive.folder / "out").exists()
    done, said = archive.run()
    assert done.returncode == 0, done.stderr
    assert states(said) == dict.fromkeys(("scene0", "scene1", "scene2"), "complete")
    done, said = archive.run()
    assert (done.returncode, said["scenes"]) == (0, [])
    assert "3 scenes have their results already" in done.stderr
    before = archive.mask("scene1")
    write_image(
        archive.folder / "archive" / "scene1.tif", noise(3, 96, 96, seed=9), tiled=True, blockxsize=64, blockysize=64
    )
    write_image(
        archive.folder / "archive" / "scene9.tif", noise(3, 96, 96, seed=9), tiled=True, blockxsize=64, blockysize=64
    )
    assert archive.due() == {"scene1": "changed", "scene9": "new"}
    done, said = archive.run()
    assert states(said) == {"scene1": "complete", "scene9": "complete"}, done.stderr
    assert archive.mask("scene1") == archive.mask("scene9") != before
    assert archive.due() == {}
    assert archive.due(overwrite=True) == dict.fromkeys(("scene0", "scene1", "scene2", "scene9"), "asked for again")


def test_a_file_that_only_got_another_time_of_change_is_looked_at_and_left(archive):
    archive.run()
    os.utime(archive.folder / "archive" / "scene0.tif", (0, 10**9))
    before = archive.mask("scene0")
    done, _ = archive.run()
    assert done.returncode == 0, done.stderr
    assert archive.mask("scene0") == before


def test_another_model_does_nothing_again_until_it_is_asked_to(archive):
    archive.run()
    card = yaml.safe_load((archive.folder / "net.yaml").read_text())
    (archive.folder / "net.yaml").write_text(yaml.safe_dump(card | {"scaling": {"kind": "constant", "divide_by": 100}}))
    done, said = archive.run()
    assert (done.returncode, said["scenes"]) == (0, [])
    assert "`reprocess: all`" in done.stderr
    today = datetime.now(UTC).date()
    os.utime(archive.folder / "archive" / "scene0.tif", (0, 10**9))
    assert archive.due(since=str(today)) == {
        "scene0": "changed",
        "scene1": "asked for again",
        "scene2": "asked for again",
    }
    assert archive.due(since=str(today + timedelta(days=1))) == {"scene0": "changed"}
    done, said = archive.run(reprocess="all")
    assert states(said) == dict.fromkeys(("scene0", "scene1", "scene2"), "complete"), done.stderr
    identity = {row["report"]["identity_digest"] for row in said["scenes"]}
    done, said = archive.run(reprocess="all")
    assert states(said) == dict.fromkeys(("scene0", "scene1", "scene2"), "complete already"), done.stderr
    assert {row["report"]["identity_digest"] for row in said["scenes"]} == identity


def test_a_bad_scene_is_left_alone_for_some_nights_and_stops_no_other(archive):
    bad = archive.folder / "archive" / "scene1.tif"
    good = bad.read_bytes()
    bad.write_bytes(good[:200])
    note = archive.folder / "out" / ".nights" / "scene1.json"
    done, said = archive.run()
    assert (done.returncode, states(said)["scene1"]) == (3, "refused")
    assert states(said)["scene0"] == states(said)["scene2"] == "complete"
    archive.run()  # twice on one day is one night
    assert json.loads(note.read_bytes())["count"] == 1
    assert archive.due() == {"scene1": "failed before"}
    age(note, last=-1)
    done, said = archive.run(retry_after=3)
    assert done.returncode == 2, done.stderr  # there was nothing else to do
    again = datetime.now(UTC).date() + timedelta(days=4)
    done, said = archive.run(retry_after=3)
    assert (done.returncode, said["scenes"]) == (0, []), done.stderr
    [left] = said["left"]
    assert (left["scene"], left["what"]) == ("scene1", "quarantined")
    assert "scene1.tif" in left["why"]
    assert f"tried on 2 nights, and will be again from {again} on" in left["why"]
    assert archive.due() == {}
    assert left["why"] in html.unescape((archive.folder / "out" / "report.html").read_text())
    age(note, retry_on=0)
    assert archive.due() == {"scene1": "failed before"}
    bad.write_bytes(good)
    done, said = archive.run()
    assert (done.returncode, states(said)) == (0, {"scene1": "complete"}), done.stderr
    assert not note.exists()


def age(note, **days):
    """Have a note of nights say other days, so many from today."""
    said = json.loads(note.read_bytes())
    for name, more in days.items():
        said[name] = str(datetime.now(UTC).date() + timedelta(days=more))
    note.write_text(json.dumps(said))


def test_what_is_not_a_scenes_fault_is_not_counted_against_it(tmp_path):
    for error in (RoomError("The disk is full."), ClusterError("No worker comes.")):
        note_nights(tmp_path, [refusal("a", error)], 7)
    note_nights(tmp_path, [{"scene": "a", "state": "carried over", "failed": 0}], 7)
    assert read_nights(tmp_path, "a") is None
    note_nights(tmp_path, [refusal("a", SceneError("It is damaged."))], 7)
    assert read_nights(tmp_path, "a").count == 1


def test_a_night_without_enough_scenes_is_a_failure(archive):
    done, said = archive.run(expect_min=3)
    assert (done.returncode, len(said["scenes"])) == (0, 3), done.stderr
    done, said = archive.run(expect_min=1)
    assert (done.returncode, said["scenes"]) == (3, [])
    assert "0 scenes are due, and `expect_min: 1` asks for more" in done.stderr
    assert "asks for more" in (archive.folder / "out" / "report.html").read_text()


@pytest.mark.slow
def test_prefect_counts_nights_and_scenes_too(archive, tmp_path):
    (archive.folder / "archive" / "scene1.tif").write_bytes(b"II*\0 and no more")
    write_job(archive.folder, archive.job | {"expect_min": 4})
    run = ("run", "--job", "job.yaml", "--json", "--prefect")
    done = maskmill(*run, cwd=archive.folder, PREFECT_HOME=str(tmp_path / "prefect"))
    assert (done.returncode, states(last_json(done))["scene0"]) == (3, "complete"), done.stderr
    assert "asks for more" in done.stderr


def test_no_more_is_begun_than_a_run_may(archive):
    done, said = archive.run(max_scenes=2)
    assert (done.returncode, len(said["scenes"]), said["carried_over"]) == (0, 2, 1)
    done, said = archive.run(max_megapixels=0.001)
    assert done.returncode == 2, done.stderr
    assert "`max_megapixels: 0.001` lets no run begin it" in done.stderr
    assert not (archive.folder / "out" / "scene2").exists()
    done, said = archive.run(max_scenes=2)
    assert (done.returncode, list(states(said)), said["carried_over"]) == (0, ["scene2"], 0)


def test_megapixels_are_those_of_all_scenes_together(archive):
    done, said = archive.run(max_megapixels=2.5 * 96 * 96 / 1e6)
    assert (done.returncode, len(said["scenes"]), said["carried_over"]) == (0, 2, 1), done.stderr
    assert sorted(path.name for path in (archive.folder / "out").glob("scene?")) == ["scene0", "scene1"]


def test_after_its_time_a_run_begins_nothing(archive):
    done, said = archive.run(until="2026-01-01T00:00:00Z")
    assert (done.returncode, said["scenes"], said["carried_over"]) == (0, [], 3)
    assert not list((archive.folder / "out").glob("scene*"))


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["inline", "local"])
def test_a_scene_that_the_end_cuts_is_gone_on_with_to_the_same_bytes(archive, cluster):
    big = archive.folder / "archive"
    shutil.rmtree(big)
    big.mkdir()
    write_image(big / "big.tif", noise(3, 480, 480, seed=1), tiled=True, blockxsize=64, blockysize=64)
    job = {"cluster": cluster, "workers": 2 if cluster == "local" else None}
    cut, hours = 0, 0.0001
    while True:
        done, said = archive.run(max_hours=hours, **job)
        assert done.returncode == 0, done.stderr
        assert states(said) in ({}, {"big": "carried over"}, {"big": "complete"})
        if not said["carried_over"]:
            break
        cut, hours = cut + 1, 1.4 * hours
    assert cut
    assert states(said) == {"big": "complete"}
    mask = archive.mask("big")
    shutil.rmtree(archive.folder / "out")
    archive.run(**job)
    assert archive.mask("big") == mask


def test_what_was_begun_counts_once_however_often_it_is_tried():
    rations = Rations(Job(scenes=("a",), model="m", out="o", max_scenes=2, max_megapixels=3.0))
    rations.take("z", 1_500_000)
    with pytest.raises(CarriedOverError):
        rations.demand("a", 1_600_000)
    with pytest.raises(SettingsError):
        rations.demand("a", 3_100_000)
    for _ in range(3):
        rations.demand("a", 1_000_000)
        rations.take("a", 1_000_000)
    with pytest.raises(CarriedOverError):
        rations.demand("b", 1)
