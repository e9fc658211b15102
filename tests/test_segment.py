import sqlite3
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.batches import LARGE_BYTES, SCENES_PER_TASK, batched
from flows.lines import JobReport
from flows.listing import listed
from flows.segment import merged
from flows.sources.listed import LeftOut
from pipeline.errors import InputError, SceneError, SettingsError
from pipeline.nights import Nights, put_nights
from pipeline.settings import Job
from tests.mill import last_json, maskmill, world, write_job


def _job(*scenes):
    return Job(scenes=scenes, model="m", out="out", settle=0)


def _expanded(job):
    return [scene.entry for scene in listed(job)]


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_batches_hold_every_scene_once_in_order_and_large_ones_alone(tmp_path_factory, large):
    folder = tmp_path_factory.mktemp("scenes")
    for index, is_large in enumerate(large):
        with (folder / f"{index:03}.tif").open("w") as file:
            file.truncate(LARGE_BYTES if is_large else LARGE_BYTES - 1)  # sparse
    parts = [[int(entry.name) for entry in part.scenes] for part in batched(_job(str(folder / "*.tif")), LeftOut())[0]]
    assert list(chain.from_iterable(parts)) == list(range(len(large)))
    for part in parts:
        assert part == list(range(part[0], part[-1] + 1))
        assert len(part) == 1 if any(large[index] for index in part) else len(part) <= SCENES_PER_TASK
    small = [part for part in parts if not large[part[0]]]
    assert all(len(part) == SCENES_PER_TASK or part[-1] + 1 == len(large) or large[part[-1] + 1] for part in small)


def test_a_glob_is_resolved_and_two_scenes_of_one_name_are_refused(tmp_path):
    for name in ("a/x.tif", "b/x.tif", "b/[1].tif"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [entry.uri for entry in _expanded(_job(str(tmp_path / "a/*.tif")))] == [str(tmp_path / "a/x.tif")]
    assert [Path(entry.uri).name for entry in _expanded(_job(str(tmp_path / "b/[1].tif")))] == ["[1].tif"]
    assert [entry.name for entry in _expanded(_job(str(tmp_path / "**/x.tif")))] == ["a--x", "b--x"]
    with pytest.raises(SettingsError, match="called x"):
        _expanded(_job(*(str(tmp_path / name / "x.tif") for name in "ab")))
    named = [{"name": name, "uri": str(tmp_path / name / "x.tif")} for name in "ab"]
    assert [entry.name for entry in _expanded(_job(*named))] == ["a", "b"]
    with pytest.raises(SceneError, match="No file matches"):
        _expanded(_job(str(tmp_path / "*.nothing")))


_REPORTS = st.builds(
    lambda scenes, problems: JobReport(tuple(scenes), tuple(problems)).as_dict(),
    st.lists(st.fixed_dictionaries({"scene": st.text(max_size=3)}), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), max_size=2),
)


@given(st.lists(_REPORTS | st.builds(InputError, st.sampled_from(["a.", "b."])), min_size=1, max_size=6))
def test_a_merged_report_holds_all_scenes_and_problems(outcomes):
    errors = [one for one in outcomes if isinstance(one, InputError)]
    reports = [one for one in outcomes if isinstance(one, dict)]
    if not reports:
        with pytest.raises(InputError) as raised:
            merged(outcomes)
        assert all(error.message in raised.value.message for error in errors)
        return
    whole = merged(outcomes)
    assert whole["scenes"] == [scene for report in reports for scene in report["scenes"]]
    assert len(whole["problems"]) == sum(len(report["problems"]) for report in reports) + len(errors)
    assert whole["exit_code"] == (3 if whole["problems"] else 0)


def _rows(home, query):
    with sqlite3.connect(home / "prefect.db") as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
def test_a_flow_run_does_the_job_and_a_refused_scene_is_a_state_of_its_own(tmp_path):
    home = tmp_path / "prefect"
    job = world(tmp_path)
    (tmp_path / "bad.tif").write_bytes(b"II*\0 and no more")
    job["scenes"] += ["bad.tif", "nowhere.tif"]
    write_job(tmp_path, job)
    done = maskmill("run", "--job", "job.yaml", "--prefect", "--json", cwd=tmp_path, PREFECT_HOME=str(home))
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "out/scene0/mask.tif").is_file()
    report = last_json(done)
    assert [scene["scene"] for scene in report["scenes"]] == ["scene0", "bad"]
    assert ["nowhere.tif" in problem for problem in report["problems"]] == [False, True]
    assert "Traceback" not in done.stderr
    assert _rows(home, "select state_name, state_type from flow_run") == [("Holes", "FAILED")]
    assert ("With holes", "COMPLETED") in _rows(home, "select state_name, state_type from task_run")
    ((table,),) = _rows(home, "select data from artifact where key = 'scenes'")
    assert table.index("bad") < table.index("scene0")
    assert {key for (key,) in _rows(home, "select key from artifact")} >= {"progress", "scenes", "report", "quicklooks"}

    again = maskmill("run", "nowhere.tif", "--job", "job.yaml", "--prefect", cwd=tmp_path, PREFECT_HOME=str(home))
    assert again.returncode == 2
    assert "Traceback" not in again.stderr
    assert ("Refused", "FAILED") in _rows(home, "select state_name, state_type from flow_run")


@pytest.mark.slow
def test_a_scene_that_is_quarantined_is_a_state_and_a_row_of_the_table(tmp_path):
    home, out = tmp_path / "prefect", tmp_path / "out"
    job = world(tmp_path, scenes=2)
    (tmp_path / "archive").mkdir()
    for index in range(2):
        (tmp_path / f"scene{index}.tif").rename(tmp_path / "archive" / f"scene{index}.tif")
    write_job(tmp_path, job | {"scenes": [{"folder": "archive"}], "settle": 0, "cluster": "inline"})
    put_nights(out, "scene1", Nights(2, "Its header is torn.", "2026-01-01", "9999-01-01"))
    done = maskmill("run", "--job", "job.yaml", "--prefect", "--json", cwd=tmp_path, PREFECT_HOME=str(home))
    assert done.returncode == 0, done.stderr
    tasks = _rows(home, "select name, state_name, state_type from task_run")
    assert ("1 quarantined", "Quarantined", "COMPLETED") in tasks
    assert len(tasks) == 2
    ((table,),) = _rows(home, "select data from artifact where key = 'scenes'")
    assert table.index("quarantined") < table.index("scene0")
    assert "Its header is torn." in table
