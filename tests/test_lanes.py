"""Several scenes under way: each stage holds one, in order; whatever stops a run, the next goes on."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import psutil
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.batches import LARGE_BYTES
from flows.lanes import Line, Stage, StoppedError, run_lanes
from pipeline.errors import MaskmillError
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from tests.mill import COMMAND, last_json, maskmill, surroundings
from tests.oracle import noise, save_model, save_scene, small_unet, tree

NAMES = ["a", "b", "c", "d"]
SIDES = {"window": 76, "block": 64, "device": "cpu", "workers": 2}


# The line alone


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.001, 0.004]), min_size=3, max_size=3), max_size=12))
def test_items_pass_each_stage_in_order_and_alone(pauses):
    seen, watched = [], threading.Lock()

    def note(what, stage, number):
        with watched:
            seen.append((what, stage, number))

    def do(item, passage):
        number, rests = item
        for stage, rest in zip(Stage, rests, strict=True):
            if stage is not Stage.OPENING:
                passage.enter(stage)
            note("in", stage, number)
            time.sleep(rest)
            note("out", stage, number)

    run_lanes(Line(), iter(list(enumerate(pauses))), do, lambda: None)
    for stage in Stage:
        expected = [(what, stage, number) for number in range(len(pauses)) for what in ("in", "out")]
        assert [one for one in seen if one[1] is stage] == expected
    under_way = itertools.accumulate({"in": 1, "out": -1}[what] for what, _, _ in seen)
    assert max(under_way, default=0) <= len(Stage)


@given(st.integers(0, 5), st.sampled_from(Stage))
def test_the_first_error_is_raised_and_nothing_is_begun_after_it(fails, where):
    begun, aborted = [], threading.Event()

    def do(number, passage):
        begun.append(number)
        for stage in Stage:
            if stage is not Stage.OPENING:
                passage.enter(stage)
            if (number, stage) == (fails, where):
                raise ValueError(number)
        if number > fails and not aborted.wait(20):  # as what waits for a worker
            raise AssertionError

    with pytest.raises(ValueError, match=str(fails)):
        run_lanes(Line(), iter(range(1000)), do, aborted.set)
    assert set(range(fails + 1)) <= set(begun)
    assert len(begun) <= fails + 1 + len(Stage)


def test_whoever_waits_for_a_stage_ends_with_the_run():
    line = Line()
    with line.passage() as first:
        first.enter(Stage.BLOCKS)
        line.stopping.set()
        with line.passage() as second, pytest.raises(StoppedError):
            second.enter(Stage.BLOCKS)


# Whole runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("lanes")
    save_model(place / "model.onnx", small_unet())
    for seed, name in enumerate(NAMES):
        save_scene(place / f"{name}.tif", noise(400, 500, seed=seed))
    (place / "bad.tif").write_bytes(b"II*\0 and no more")
    write_job(place, "alone", NAMES, cluster="inline")
    done = maskmill("run", "--job", "alone.yaml", cwd=place, timeout=300)
    assert done.returncode == 0, done.stderr
    return place


def write_job(folder, out, names, **more):
    said = {"scenes": [f"{name}.tif" for name in names], "model": "./model.onnx", "out": out, **SIDES, **more}
    (folder / f"{out}.yaml").write_text(yaml.safe_dump(said))


def assert_same(folder, out, *, of_same_files=True):
    """Every byte of the masks; the GeoTIFF names its source, and so differs where that is another file."""
    for name in NAMES:
        one, other = folder / out / name, folder / "alone" / name
        assert tree(one / "mask.zarr") == tree(other / "mask.zarr")
        assert not of_same_files or (one / "mask.tif").read_bytes() == (other / "mask.tif").read_bytes()


def blocks_done(folder, out):
    done = 0
    for name in NAMES:
        try:
            _, fold = read_ledger(folder / out / name / "ledger")
        except MaskmillError:
            continue
        done += len(fold) - len(fold.of(State.PENDING))
    return done


def test_scenes_done_together_come_out_as_each_alone_and_are_told_in_order(folder):
    write_job(folder, "together", ["a", "bad", "b", "c", "d"])
    done = maskmill("run", "--job", "together.yaml", "--json", cwd=folder, timeout=300)
    assert done.returncode == 3, done.stderr
    assert [row["scene"] for row in last_json(done)["scenes"]] == ["a", "bad", "b", "c", "d"]
    assert_same(folder, "together")
    lines = done.stderr.splitlines()
    begins = next(place for place, line in enumerate(lines) if ": b: " in line)
    written = next(place for place, line in enumerate(lines) if ": a, mask.tif: " in line)
    assert begins < written, "b waits until a is published"


def disturbed(folder, out, how, *flags, blocks=None, seconds=None, **environment):
    """Begin a run of all scenes, and end it so when so many blocks are done, or so many seconds are over."""
    process = subprocess.Popen(
        [*COMMAND, "run", "--job", f"{out}.yaml", "--json", *flags],
        cwd=folder,
        env=surroundings(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        start = time.monotonic()
        while (blocks is None or blocks_done(folder, out) < blocks) and (
            seconds is None or time.monotonic() - start < seconds
        ):
            if process.poll() is not None:
                break
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(how)
        said, told = process.communicate(timeout=60)
    finally:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert "Traceback" not in told, told
    return process.returncode, said


@pytest.mark.parametrize("blocks", [20, 60, 100])
def test_a_stop_while_several_are_under_way_is_told_and_resumed(folder, blocks):
    out = f"stopped-{blocks}"
    write_job(folder, out, NAMES)
    code, said = disturbed(folder, out, signal.SIGTERM, blocks=blocks)
    assert code == 143
    assert json.loads(said.splitlines()[-1])["exit_code"] == 143
    done = maskmill("run", "--job", f"{out}.yaml", "--json", cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same(folder, out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_stop_or_a_kill_at_any_instant_loses_nothing(folder, seed):
    draw, out = random.Random(seed), f"any-{seed}"
    write_job(folder, out, NAMES)
    for _ in range(4):
        how = draw.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
        code, _ = disturbed(folder, out, how, seconds=draw.uniform(1.0, 14.0))
        assert code in (0, 143, 130, -how), code
    done = maskmill("run", "--job", f"{out}.yaml", "--json", cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same(folder, out)


@pytest.fixture(scope="module")
def large(folder):
    """The same scenes in files so long that each is a task of its own."""
    (folder / "large").mkdir()
    for name in NAMES:
        file = folder / "large" / f"{name}.tif"
        shutil.copy(folder / f"{name}.tif", file)
        with file.open("r+b") as opened:
            opened.truncate(LARGE_BYTES)  # a TIFF may have anything behind it
    return folder


@pytest.mark.slow
def test_tasks_of_one_flow_run_share_a_cluster_and_overlap(large, tmp_path):
    write_job(large, "tasks", [f"large/{name}" for name in NAMES])
    home = tmp_path / "prefect"
    done = maskmill("run", "--job", "tasks.yaml", "--prefect", cwd=large, timeout=300, PREFECT_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert_same(large, "tasks", of_same_files=False)
    with sqlite3.connect(home / "prefect.db") as database:
        said = "select name, state_name, start_time, end_time from task_run order by start_time"
        rows = database.execute(said).fetchall()
    assert [row[:2] for row in rows] == [(name, "Completed") for name in NAMES]
    assert rows[1][2] < rows[0][3], "b begins after a has ended"


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [20, 80])
def test_a_flow_run_that_is_stopped_amid_its_tasks_is_gone_on_with(large, tmp_path, blocks):
    out = f"flow-{blocks}"
    write_job(large, out, [f"large/{name}" for name in NAMES])
    prefect = {"PREFECT_HOME": str(tmp_path / "prefect")}
    code, _ = disturbed(large, out, signal.SIGTERM, "--prefect", blocks=blocks, **prefect)
    assert code == 143
    done = maskmill("run", "--job", f"{out}.yaml", "--prefect", cwd=large, timeout=300, **prefect)
    assert done.returncode == 0, done.stderr
    assert_same(large, out, of_same_files=False)
