"""A job that is served by `maskmill schedule`, in tests: what its server says, what runs, how it ends."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress

import psutil

from tests.mill import COMMAND, surroundings


class Night:
    """A schedule, by default of every minute, and its server."""

    def __init__(self, folder, cron="* * * * *"):
        self.log = folder / f"log{time.monotonic_ns()}"
        command = [*COMMAND, "schedule", "job.yaml", "--cron", cron, "--timezone", "Europe/Vienna"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=surroundings(), stdout=log, stderr=log)
        self.announced = until(self._announcement)
        self.api = f"{self.announced[1]}/api"
        (self.server,) = psutil.Process(self.process.pid).children()

    def end(self):
        """Kill what is left, and show what it said."""
        with suppress(psutil.NoSuchProcess):
            self.process.kill()
        self.process.wait()
        os.write(1, self.log.read_bytes())

    def _announcement(self):
        assert self.process.poll() is None, self.log.read_text()
        return re.search(r"Serving job at (\S+); next: (.*)\. Ctrl-C", self.log.read_text())

    def runs(self, *states):
        """The flow runs in these states, the earliest first."""
        states = {"state": {"type": {"any_": states}}}
        return self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "flow_runs": states})

    def ask(self, path, body):
        """What the server answers."""
        return ask(self.api, path, body)

    def begin(self):
        """Have a run begin now, as by a click; its id."""
        (deployment,) = self.ask("deployments/filter", {})
        return self.ask(f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]

    def family(self):
        """The processes of the run that goes on, all generations; not the server, nor Python's tracker of resources."""
        mine = psutil.Process(self.process.pid).children()
        runs = [one for one in mine if one != self.server and "resource_tracker" not in " ".join(one.cmdline())]
        return [*runs, *(below for one in runs for below in one.children(recursive=True))]

    def take_the_slot(self):
        """A run that is pending and never begins: its id, or None while another run has the slot."""
        (deployment,) = self.ask("deployments/filter", {})
        run = self.ask(f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
        answer = self.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "PENDING"}})
        return run["id"] if answer["status"] == "ACCEPT" else None


def ask(api, path, body=None):
    """What a Prefect server answers; while its database is busy it says 503, and every client asks again."""
    request = urllib.request.Request(f"{api}/{path}", None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    for _ in range(10):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(1)
    raise TimeoutError(f"the server is busy for good: {path}")


def until(look, seconds=110.0):
    """What `look` gives, once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"nothing came within {seconds} s")


def gone(process):
    """Whether a process has ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
