"""Notices by a real Prefect server to a real webhook: of runs that fail, are killed, go silent or never begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from flows.server import own_server
from tests.mill import COMMAND, maskmill, surroundings, world, write_job
from tests.serving import until
from tests.test_deploy import Server
from tests.test_notice import hook


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Say whom to tell"),
        (("--webhook", "$PLANTED_NOWHERE"), "$PLANTED_NOWHERE is set to no address"),
        (("--webhook", "ftp://planted"), "`--webhook` is no address"),
        (("--webhook", "https://example.org/planted"), "name it by PREFECT_API_URL"),
    ],
)
def test_without_a_webhook_and_a_server_nothing_is_made(tmp_path, words, told):
    write_job(tmp_path, world(tmp_path))
    named = {"PREFECT_PROFILES_PATH": str(tmp_path / "none.toml"), "PREFECT_HOME": str(tmp_path)}
    done = maskmill("notify", "job.yaml", *words, cwd=tmp_path, **named)
    assert done.returncode == 2
    assert told in done.stderr
    assert "example.org/planted" not in done.stderr


class Serving:
    """A schedule of nothing on a server that outlives it."""

    def __init__(self, server, **environment):
        self.server, self.log = server, server.folder / "serve.log"
        self.process = self._start(environment)

    def _start(self, environment):
        command = [*COMMAND, "schedule", "job.yaml", "--cron", "0 0 1 1 *"]
        around = surroundings(PREFECT_API_URL=self.server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30", **environment)
        with self.log.open("w") as log:
            process = subprocess.Popen(command, cwd=self.server.folder, env=around, stdout=log, stderr=log)
        until(lambda: process.poll() is not None or "Serving job at" in self.log.read_text())
        assert process.poll() is None, self.log.read_text()
        return process

    def family(self):
        """The processes of the run that goes on."""
        mine = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in mine if "resource_tracker" not in " ".join(one.cmdline())]

    def kill(self, *processes):
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def end(self):
        if self.process.poll() is None:
            self.kill(*self.family(), self.process)
        self.process.wait()
        os.write(1, self.log.read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_fails_is_killed_goes_silent_or_never_begins_is_told_of(tmp_path):
    write_job(tmp_path, world(tmp_path, side=1500))
    journal = tmp_path / "out" / "scene0" / "ledger" / "journal.jsonl"
    with own_server(tmp_path / "home", None) as (url, _), hook() as (address, taken):
        server = Server(url, tmp_path)

        def notify(*words):
            words = ("notify", "job.yaml", "--webhook", "$HOOK", *words, "--json")
            return maskmill(*words, cwd=tmp_path, PREFECT_API_URL=url, HOOK=address)

        early = notify()
        assert early.returncode == 2
        assert "There is no deployment segment/job" in early.stderr
        serving = Serving(server)
        try:
            for words in ((), ("--silent", "1", "--late", "1")):  # the second takes the place of the first
                done = notify(*words)
                assert done.returncode == 0, done.stderr
                assert "planted" not in done.stdout + done.stderr
            made = server.ask("automations/filter", {})
            assert {one["name"] for one in made} == {f"maskmill job: {one}" for one in ("failed", "silent", "late")}
            assert len(made) == 3
            assert [one["trigger"]["within"] for one in made if one["name"].endswith("silent")] == [60]

            failed = begin(server, scenes=[str(tmp_path / "nowhere.tif")])
            ((path, kind, given),) = until(lambda: list(taken))
            assert (path, kind) == ("/hooks/planted", "application/json")
            assert (given["run"], given["job"], given["state"]) == (failed, "job", "Refused")
            assert given["text"].startswith("maskmill job: Refused. ")
            assert "nowhere.tif" in given["text"]

            killed = begin(server)
            until(journal.exists, 200)
            serving.kill(*serving.family())
            *_, (_, _, given) = until(lambda: len(taken) > 1 and list(taken))
            assert (given["run"], given["state"]) == (killed, "Crashed")

            silent = begin(server)
            until(lambda: [one["name"] for one in server.runs("RUNNING")] == [silent])
            until(lambda: heartbeats(server, silent))
            alone = [psutil.Process(serving.process.pid), *serving.family()]
            serving.kill(*alone)  # as when a machine is gone
            serving.process.wait()
            *_, (_, _, given) = until(lambda: len(taken) > 2 and list(taken), 300)
            assert (given["run"], given["state"]) == (silent, "Crashed")
            assert "No heartbeat came for 1 minutes" in given["text"]
            assert len(taken) == 3

            begin(server)  # and nobody takes it
            *_, (_, _, given) = until(lambda: len(taken) > 3 and list(taken), 200)
            assert (given["job"], given["state"]) == ("job", "Late")
            assert "was due 1 minutes ago has not begun" in given["text"]
        finally:
            serving.end()
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or b"planted" not in path.read_bytes(), path


def begin(server, **job):
    """Have a run begin now, with this in its job; its name."""
    deployment = server.deployment()
    said = {"state": {"type": "SCHEDULED"}, "parameters": {"job": deployment["parameters"]["job"] | job}}
    return server.ask(f"deployments/{deployment['id']}/create_flow_run", said)["name"]


def heartbeats(server, name):
    """The events by which a run of this name has said that it lives."""
    said = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    return [one for one in server.ask("events/filter", said)["events"] if name in str(one["resource"])]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_served_or_deployed_tells_by_itself_whom_its_job_names(tmp_path):
    write_job(tmp_path, world(tmp_path) | {"on_failure": {"webhook": "$HOOK"}})
    with own_server(tmp_path / "home", None) as (url, _), hook() as (address, taken):
        server = Server(url, tmp_path)
        nowhere = [str(tmp_path / "nowhere.tif")]
        serving = Serving(server, HOOK=address)
        try:
            begin(server, scenes=nowhere)
            ((_, _, served),) = until(lambda: list(taken))
        finally:
            serving.end()
        assert server.deploy("--pool", "nights", "--type", "process").returncode == 0
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "nights"]
        with (tmp_path / "worker.log").open("wb") as log:
            around = server.environment() | {"HOOK": address}
            worker = subprocess.Popen(command, cwd=tmp_path, env=around, stdout=log, stderr=log)
        try:
            begin(server, scenes=nowhere)
            *_, (_, _, deployed) = until(lambda: len(taken) > 1 and list(taken))
        finally:
            worker.send_signal(signal.SIGINT)
            worker.wait(60)
    for given in (served, deployed):
        assert (given["job"], given["exit_code"]) == ("job", 2)
        assert "nowhere.tif" in given["text"]
    assert len(taken) == 2
