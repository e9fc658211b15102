"""A job given to a work pool: what is written in a real server, and what a real worker makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from flows.deploy import Place, variable
from flows.environment import LOGGERS
from flows.server import own_server
from flows.timing import one_at_a_time
from pipeline.errors import SettingsError
from pipeline.settings import Job
from tests.mill import last_json, maskmill, surroundings, world, write_job
from tests.serving import ask

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"kind": "ecs"}, "say process, docker or kubernetes"),
        ({"kind": "docker"}, "say `--image`"),
        ({"kind": "kubernetes"}, "say `--image`"),
        ({"kind": "process", "image": "maskmill:0.1.0"}, "no meaning"),
        ({"variables": {"image": "maskmill:0.1.0"}}, "`--image`, not by"),
        ({"variables": {"env": "A=1"}}, "env is a mapping"),
    ],
)
def test_a_place_that_does_not_fit_itself_is_refused(said, told):
    with pytest.raises(SettingsError, match=told):
        Place("pool", **said)


def test_a_variable_is_json_or_text():
    assert variable("mem_limit=8g") == ("mem_limit", "8g")
    assert variable('volumes=["/a:/a"]') == ("volumes", ["/a:/a"])
    assert variable("a=b=c") == ("a", "b=c")
    for text in ("a", "=b", ""):
        with pytest.raises(SettingsError, match="KEY=VALUE"):
            variable(text)


def test_prefects_file_says_what_deploy_would():
    said = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert said["pull"] == []
    for deployment in said["deployments"]:
        assert Job.model_validate(deployment["parameters"]["job"]).out.is_absolute()
        limit = one_at_a_time()
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": limit.collision_strategy.value}
        assert deployment["work_pool"]["job_variables"]["env"]["PREFECT_LOGGING_EXTRA_LOGGERS"] == LOGGERS


def test_without_a_server_that_answers_nothing_is_deployed(tmp_path):
    write_job(tmp_path, world(tmp_path))
    named = {"PREFECT_PROFILES_PATH": str(tmp_path / "none.toml"), "PREFECT_HOME": str(tmp_path)}
    done = maskmill("deploy", "job.yaml", "--pool", "nights", cwd=tmp_path, **named)
    assert done.returncode == 2
    assert "name it by PREFECT_API_URL" in done.stderr
    assert not (tmp_path / "out").exists()


# With a server


class Server:
    """A server's API, and the commands that speak to it."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder

    def ask(self, path, body=None):
        return ask(self.url, path, body)

    def deploy(self, *words):
        return maskmill("deploy", "job.yaml", *words, "--json", cwd=self.folder, PREFECT_API_URL=self.url, timeout=200)

    def deployment(self, name="segment/job"):
        return self.ask(f"deployments/name/{name}")

    def runs(self, *states):
        states = {"state": {"type": {"any_": states}}}
        return self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "flow_runs": states})

    def environment(self):
        return surroundings(PREFECT_API_URL=self.url, PYTHONPATH=str(ROOT))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed")
    write_job(folder, world(folder))
    with own_server(folder / "home", None) as (url, _):
        yield Server(url, folder)


@pytest.mark.slow
def test_a_deployment_is_written_and_written_again(server):
    refused = server.deploy("--pool", "nights")
    assert (refused.returncode, "--type process" in refused.stderr) == (2, True)
    done = server.deploy("--pool", "nights", "--type", "process", "--cron", "0 2 * * *", "--timezone", "Europe/Vienna")
    assert done.returncode == 0, done.stderr
    assert last_json(done)["pool"] == "nights (process)"
    assert len(last_json(done)["next"].split(", ")) == 3
    first = server.deployment()
    assert first["entrypoint"] == "flows.segment.segment"
    assert (first["global_concurrency_limit"]["limit"], first["pull_steps"]) == (1, [])
    assert first["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    (schedule,) = first["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Vienna"
    assert Path(first["parameters"]["job"]["out"]) == server.folder / "out"
    done = server.deploy("--pool", "nights")
    assert done.returncode == 0, done.stderr
    again = server.deployment()
    assert (again["id"], again["schedules"]) == (first["id"], [])
    assert not server.runs("SCHEDULED")
    other = server.deploy("--pool", "nights", "--type", "docker", "--image", "maskmill:0.1.0")
    assert (other.returncode, "is of type process, not docker" in other.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_pool_of_containers_starts_the_image(server, kind):
    wrong = server.deploy("--pool", kind, "--type", kind, "--image", "maskmill:0.1.0", "-jv", 'env={"A": {"B": 1}}')
    assert (wrong.returncode, "refused: " in wrong.stderr, "Traceback" in wrong.stderr) == (1, True, False)
    done = server.deploy("--pool", kind, "--type", kind, "--image", "maskmill:0.1.0", "-jv", 'env={"A": "1"}')
    assert done.returncode == 0, done.stderr
    said = server.deployment()["job_variables"]
    assert said == {"image": "maskmill:0.1.0", "env": {"A": "1", "PREFECT_LOGGING_EXTRA_LOGGERS": LOGGERS}}
    assert server.ask(f"work_pools/{kind}")["type"] == kind
    without = server.deploy("--pool", kind)
    assert (without.returncode, "say `--image`" in without.stderr) == (2, True)


@pytest.mark.slow
def test_prefects_own_command_reads_prefects_file(server):
    prefect = [sys.executable, "-m", "prefect"]
    for words in (["work-pool", "create", "maskmill", "--type", "process"], ["--no-prompt", "deploy", "--all"]):
        done = subprocess.run([*prefect, *words], cwd=ROOT, env=server.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    said = server.deployment("segment/nightly")
    assert said["entrypoint"] == "flows.segment.segment"
    assert (said["global_concurrency_limit"]["limit"], said["pull_steps"]) == (1, [])
    assert said["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_nights_missed_without_a_worker_are_caught_up_one_at_a_time(server):
    assert server.deploy("--pool", "late", "--type", "process", "--cron", "* * * * *").returncode == 0
    due = time.monotonic() + 150
    while len([run for run in server.runs("SCHEDULED") if run["state"]["name"] == "Late"]) < 2:
        assert time.monotonic() < due
        time.sleep(1)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "late"]
    with (server.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=server.folder, env=server.environment(), stdout=log, stderr=log)
    try:
        due = time.monotonic() + 150
        while not (done := [run for run in server.runs("COMPLETED") if run["auto_scheduled"]]):
            assert time.monotonic() < due, (server.folder / "worker.log").read_text()
            assert worker.poll() is None
            time.sleep(1)
        assert not server.runs("FAILED", "CRASHED")
        assert all(earlier["end_time"] <= later["start_time"] for earlier, later in pairwise(done))
        assert (server.folder / "out/scene0/report.json").is_file()
    finally:
        os.kill(worker.pid, signal.SIGINT)
        worker.wait(60)
