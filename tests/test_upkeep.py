"""A worker that dies comes back, also where Dask's own supervision gives it up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from subprocess import PIPE

import dask
import psutil
import pytest

from flows import upkeep
from flows.cluster import local_cluster
from flows.far import far_cluster
from pipeline.settings import ClusterClass

GIVEN_UP = {"distributed.deploy.lost-worker-timeout": "1s"}


def pid_of(client, but: int | None = None) -> int:
    """The process of a cluster's only worker, once it is another than that one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for nanny in list(client.cluster.workers.values()):
            if nanny.pid and nanny.pid != but:
                return nanny.pid
        time.sleep(0.01)
    raise AssertionError("no worker")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "class"])
def test_a_worker_whose_restart_takes_long_is_replaced(kind, monkeypatch):
    monkeypatch.setattr(upkeep, "LOOK", 0.5)
    monkeypatch.setattr(upkeep, "LONGEST_START", 20.0)
    asked = ClusterClass(path="distributed.LocalCluster", arguments={"n_workers": 1, "dashboard_address": None})
    with local_cluster(1) if kind == "local" else far_cluster(asked, None) as client, dask.config.set(GIVEN_UP):
        first = pid_of(client)
        os.kill(first, signal.SIGKILL)
        second = pid_of(client, but=first)
        os.kill(second, signal.SIGSTOP)  # a machine with much else to do
        third = pid_of(client, but=second)
        assert client.submit(os.getpid).result(timeout=60) == third
        with suppress(ProcessLookupError):
            os.kill(second, signal.SIGCONT)  # which comes up late, and is not needed any more
    with pytest.raises(ProcessLookupError):  # it was ended with the others
        os.kill(second, 0)


def test_a_worker_that_just_comes_up_is_not_ended_for_a_death_of_long_ago():
    """It would have a block by then, which would be taken for one that kills its workers."""
    with local_cluster(1) as client, dask.config.set(GIVEN_UP):
        first = pid_of(client)
        os.kill(first, signal.SIGKILL)
        second = pid_of(client, but=first)
        os.kill(second, signal.SIGSTOP)
        time.sleep(2)  # when Dask gives up whoever is not there
        os.kill(second, signal.SIGCONT)
        assert client.submit(os.getpid).result(timeout=60) == second


def test_a_worker_that_is_killed_while_it_starts_is_replaced():
    with local_cluster(1) as client:
        process = pid_of(client)
        for _ in range(3):
            os.kill(process, signal.SIGKILL)
            process = pid_of(client, but=process)
        assert client.submit(os.getpid).result(timeout=60) == process


STOPPED = """
import signal, time
from flows import upkeep
from flows.cluster import local_cluster
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    print("starts", flush=True)
    with local_cluster(2):
        print("runs", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.2, 0.4, 0.6, 0.8, 1.2])
def test_a_stop_amid_the_start_is_quiet_and_leaves_no_process(delay):
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout.readline() == "starts\n"
        time.sleep(delay)
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (err, process.returncode) == ("", 0)
    assert out in {"stopped\n", "runs\nstopped\n"}
    assert not psutil.wait_procs(family, timeout=10)[1]
