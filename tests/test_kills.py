"""Real kills of real processes: whatever dies and whenever, the same command then gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.errors import MaskmillError
from pipeline.leftovers import clean
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from tests.oracle import noise, save_model, save_scene, small_unet, tree

ROWS, COLS = 700, 900


def command(folder: Path, out: str, *flags: str) -> list[str]:
    said = [str(folder / "scene.tif"), "--model", str(folder / "model.onnx"), "--out", str(folder / out)]
    sides = ["--window", "76", "--block", "64"]
    return [sys.executable, "-m", "flows.cli", "run", *said, *sides, "--workers", "2", "--device", "cpu", *flags]


def finish(folder: Path, out: str, *flags: str) -> dict:
    done = subprocess.run([*command(folder, out, "--json"), *flags], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def start(folder: Path, out: str) -> subprocess.Popen:
    return subprocess.Popen(command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def blocks_done(folder: Path, out: str) -> int:
    try:
        _, fold = read_ledger(folder / out / "scene" / "ledger")
    except MaskmillError:
        return 0
    return len(fold) - len(fold.of(State.PENDING))


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not alive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("kills")
    save_model(place / "model.onnx", small_unet())
    save_scene(place / "scene.tif", noise(ROWS, COLS))
    finish(place, "undisturbed")
    return place


def assert_same(folder: Path, out: str) -> None:
    here, there = folder / out / "scene", folder / "undisturbed" / "scene"
    assert tree(here / "mask.zarr") == tree(there / "mask.zarr")
    assert (here / "mask.tif").read_bytes() == (there / "mask.tif").read_bytes()
    assert not (here / ".stage").exists()


def kill_amid(folder, out, meanwhile):
    """Kill a run's coordinator after 30 blocks; returns what `meanwhile` said just before."""
    run = start(folder, out)
    try:
        while blocks_done(folder, out) < 30:
            assert run.poll() is None
            time.sleep(0.02)
        family = psutil.Process(run.pid).children(recursive=True)
        said = meanwhile()
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert gone(family)
    finally:
        run.kill()
    return said


def test_killing_the_coordinator_loses_nothing_and_leaves_no_process(folder):
    kill_amid(folder, "killed", lambda: None)
    before = blocks_done(folder, "killed")
    assert 30 <= before < 165
    status = subprocess.run(
        [sys.executable, "-m", "flows.cli", "status", str(folder / "killed"), "--json"], capture_output=True, text=True
    )
    assert json.loads(status.stdout.splitlines()[-1])["scenes"][0]["pending"] == 165 - before
    finish(folder, "killed")
    assert_same(folder, "killed")


@pytest.mark.slow
def test_cleaning_after_a_kill_costs_no_block_and_no_byte(folder):
    held = kill_amid(folder, "cleaned", lambda: clean(folder / "cleaned").held)
    assert held  # while it runs, nothing of it is touched
    before = blocks_done(folder, "cleaned")
    said = clean(folder / "cleaned")
    assert (said.held, said.foreign) == ([], [])
    assert blocks_done(folder, "cleaned") == before >= 30
    finish(folder, "cleaned")
    assert_same(folder, "cleaned")
    assert clean(folder / "cleaned").removed == []


def test_a_worker_that_dies_is_replaced_within_the_run(folder):
    run = start(folder, "worker")
    try:
        while blocks_done(folder, "worker") < 20:
            assert run.poll() is None
            time.sleep(0.02)
        workers = [child for child in psutil.Process(run.pid).children(recursive=True) if is_worker(child)]
        workers[0].send_signal(signal.SIGKILL)
        assert run.wait(timeout=200) == 0
    finally:
        run.kill()
    assert_same(folder, "worker")


def test_a_second_command_on_one_output_is_refused_and_harms_nothing(folder):
    run = start(folder, "two")
    try:
        while blocks_done(folder, "two") < 5:
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(signal.SIGSTOP)  # so that it does not end meanwhile
        second = subprocess.run([*command(folder, "two"), "--json"], capture_output=True, text=True, timeout=110)
        run.send_signal(signal.SIGCONT)
        assert run.wait(timeout=200) == 0
    finally:
        run.kill()
    assert second.returncode == 2
    assert f"is held by a run of scene (process {run.pid} on " in json.loads(second.stdout.splitlines()[-1])["error"]
    assert_same(folder, "two")


def is_worker(process: psutil.Process) -> bool:
    line = " ".join(process.cmdline())
    return "spawn_main" in line and "resource_tracker" not in line


def test_a_stop_by_signal_is_told_and_resumed(folder):
    run = subprocess.Popen(command(folder, "stopped"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while blocks_done(folder, "stopped") < 10:
            assert run.poll() is None
            time.sleep(0.02)
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 143
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert gone(family)
    finish(folder, "stopped")
    assert_same(folder, "stopped")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_kills_at_any_instant(folder, seed):
    """From the first import to the last rename: killed at random times until a run lives to its end."""
    draw, out = random.Random(seed), f"any-{seed}"
    for _ in range(5):
        run = start(folder, out)
        try:
            run.wait(timeout=draw.uniform(1.0, 16.0))
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
    finish(folder, out)
    assert_same(folder, out)


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(folder):
    for workers in ("1", "4"):
        finish(folder, f"crew-{workers}", "--workers", workers)
        assert_same(folder, f"crew-{workers}")


def test_a_kill_while_a_window_is_tried_leaves_no_process(folder):
    run = start(folder, "probing")
    try:
        family = []
        while not any(is_worker(child) for child in family):
            assert run.poll() is None
            time.sleep(0.05)
            family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert gone(family)
    finally:
        run.kill()
    assert not (folder / "probing").exists()


def test_ctrl_c_inside_an_exec_ends_with_its_code_too(tmp_path):
    script = tmp_path / "interrupted" / "__main__.py"
    script.parent.mkdir()
    script.write_text(
        "import sys, typer\n"
        "from flows.ending import exit_code\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        "@app.command()\n"
        "def run() -> None:\n"
        "    exec('raise KeyboardInterrupt')\n"
        "sys.exit(exit_code(app, []))\n"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True
    )
    assert done.returncode == 130
