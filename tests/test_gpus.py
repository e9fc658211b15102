"""Each worker is shown one GPU; the one that takes a dead worker's place is shown the same."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flows.cluster import local_cluster, scale_to
from flows.gpus import VISIBLE, gpus
from pipeline.network.cuda import gpu_count


def shown(client):
    """The GPU of each worker, by the worker's number."""
    names = {address: int(one["name"]) for address, one in client.scheduler_info(n_workers=-1)["workers"].items()}
    return {names[address]: gpu for address, gpu in client.run(os.getenv, VISIBLE).items()}


def test_each_worker_has_one_gpu_and_keeps_it():
    with local_cluster(2, gpus=("3", "GPU-7")) as client:
        assert shown(client) == {0: "3", 1: "GPU-7"}
        scale_to(client, 3)
        client.wait_for_workers(3)
        assert shown(client) == {0: "3", 1: "GPU-7", 2: "3"}
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            living = client.run(os.getpid, on_error="ignore").values()
            if len(living) == 3 and victim not in living:
                break
            time.sleep(0.2)
        assert shown(client) == {0: "3", 1: "GPU-7", 2: "3"}


def test_without_gpus_nothing_is_shown():
    with local_cluster(1) as client:
        assert list(client.run(os.getenv, VISIBLE).values()) == [os.environ.get(VISIBLE)]


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU here")
def test_where_there_is_no_gpu_none_is_named(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1")
    assert gpus() == ()


@pytest.mark.skipif(gpu_count() == 0, reason="there is no GPU here")
def test_the_gpus_are_those_that_the_environment_leaves():
    script = "from flows.gpus import gpus; print(gpus())"
    for visible, found in ((None, tuple(map(str, range(gpu_count())))), ("0", ("0",))):
        environment = {key: value for key, value in os.environ.items() if key != VISIBLE}
        environment |= {VISIBLE: visible} if visible else {}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == str(found)
