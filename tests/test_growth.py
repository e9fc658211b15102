"""Queues of which one job brings several workers: it grows, shrinks, gets new jobs for those that are over."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

import flows
from flows import growth, upkeep
from flows.far import far_cluster
from pipeline.settings import ClusterClass
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from tests.mill import COMMAND, maskmill, surroundings
from tests.oracle import noise, save_model, save_scene, small_unet, tree
from tests.slurm import cancel, slurm, states

SIDES = {"window": 76, "block": 64, "device": "cpu"}
SEVERAL = {
    "class": "tests.shell_queue.ShellCluster",
    "arguments": {
        "cores": 2,
        "processes": 2,
        "memory": "2GB",
        "scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
    },
    "adapt": {"minimum": 1, "maximum": 5},
}


def until(true, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_jobs_of_several_workers_come_and_go_whole(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(upkeep, "LOOK", 0.5)
    monkeypatch.setattr(upkeep, "LONGEST_START", 60.0)
    monkeypatch.setattr(growth, "IDLE", 5)
    with far_cluster(ClusterClass.model_validate(SEVERAL), None) as client:
        until(lambda: len(client.nthreads()) == 2)
        first = set(client.run(os.getpid).values())
        time.sleep(8)  # longer than it takes to see that one worker is enough
        assert set(client.run(os.getpid).values()) == first
        many = client.map(time.sleep, [0.5] * 1000, pure=False)  # as long as a busy machine takes to start workers
        until(lambda: len(client.nthreads()) == 4)  # two whole jobs: five workers would take a third
        client.cancel(many)
        until(lambda: len(client.nthreads()) == 2)
        (process,) = [int(job.job_id) for job in client.cluster.workers.values()]
        os.kill(process, signal.SIGTERM)  # as a queue ends it when its time is over
        until(lambda: len(client.nthreads()) == 0)
        until(lambda: len(client.nthreads()) == 2)
        assert not set(client.run(os.getpid).values()) & first


@pytest.fixture
def place(tmp_path):
    save_model(tmp_path / "model.onnx", small_unet())
    save_scene(tmp_path / "scene.tif", noise(1500, 1200))
    return tmp_path


def job_file(place: Path, out: str, cluster: object) -> Path:
    job = {"scenes": ["scene.tif"], "model": "./model.onnx", "out": out, "cluster": cluster, **SIDES}
    (place / f"{out}.yaml").write_text(yaml.safe_dump(job))
    return place / f"{out}.yaml"


def pending(ledger: Path) -> int:
    return len(read_ledger(ledger)[1].of(State.PENDING)) if (ledger / "journal.jsonl").exists() else 10**9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_for_slurm_runs_and_a_job_that_is_taken_away_is_replaced(place):
    pytest.importorskip("dask_jobqueue")
    asked = yaml.safe_load((Path(flows.__file__).parent / "jobs" / "slurm.yaml").read_text())["cluster"]
    asked["arguments"] |= {"cores": 2, "processes": 2, "memory": "4GB", "log_directory": str(place / "said")}
    asked["arguments"] |= {"shared_temp_directory": str(place)}
    asked["adapt"] = {"minimum": 1, "maximum": 2}
    assert maskmill("run", "--job", job_file(place, "here", "inline"), cwd=place).returncode == 0
    (place / "queue").mkdir()
    with slurm(place / "queue") as where:
        command = [*COMMAND, "run", "--job", str(job_file(place, "there", asked))]
        env = surroundings(**where)
        with subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True) as run:
            ledger = place / "there" / "scene" / "ledger"
            while pending(ledger) > 430:
                assert run.poll() is None, run.stderr.read()
                time.sleep(0.05)
            (first,) = states(where)
            cancel(where, first)
            _, said = run.communicate(timeout=600)
        found = states(where)
    assert run.returncode == 0, said
    assert "without encryption" not in said
    assert tree(place / "there" / "scene" / "mask.zarr") == tree(place / "here" / "scene" / "mask.zarr")
    assert len(found) == 2, found  # none was cancelled before its workers came, and asked for again
    assert not {"RUNNING", "PENDING"} & set(found.values()), found
