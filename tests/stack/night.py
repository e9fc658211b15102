"""One night of the whole stack: by its schedule, with a worker killed on the way, held against an undisturbed run."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml
from obstore.store import S3Store

from tests.oracle import noise, save_scene, tree
from tests.stack import compose
from tests.stack.postgres import asked, postgres
from tests.stack.user import PATHS, give, ordinary, python_for

SCENES = ("2026/north", "2026/south", "east")
SIDE = 1024
PATIENCE = 240.0


class Stack:
    """The services' processes, what they say, and where they are found."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.started: dict[str, subprocess.Popen] = {}
        self.services = compose.read()["services"]
        self.ports = dict(zip(("postgres", "prefect", "scheduler", "s3"), _free_ports(4), strict=True))
        self.out = folder / "masks"
        give(folder)
        python = python_for(folder)
        self.who, self.python = (ordinary(), python) if python else ({}, sys.executable)
        self.given = {
            "POSTGRES_PASSWORD": secrets.token_hex(16),
            "PREFECT_AUTH": f"maskmill:{secrets.token_hex(16)}",
            "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "TLS": str(folder / "tls"),
            "CRON": "* * * * *",
            "WORKERS": "1",  # in each of two processes, so that one can be killed alone
        }
        self.api = f"http://127.0.0.1:{self.ports['prefect']}/api"
        self.places = {
            "0.0.0.0": "127.0.0.1",  # what containers listen on
            "postgres": "127.0.0.1",
            "8786": str(self.ports["scheduler"]),
            "tls://scheduler:8786": f"tls://127.0.0.1:{self.ports['scheduler']}",
            "http://prefect:4200/api": self.api,
            "http://s3:9000": f"http://127.0.0.1:{self.ports['s3']}",
            "/job/job.yaml": str(folder / "job.yaml"),
            "/tmp/prefect-ui": str(folder / "page"),
            **{f"/run/secrets/{name}": str(folder / "tls" / f"{name}.pem") for name in ("ca", "cert", "key")},
        }

    @contextmanager
    def process(self, service: str, *more: str, name: str = "", **environment: str) -> Iterator[subprocess.Popen]:
        """A service as a process, in a session of its own: what it started ends with it."""
        said = self.services[service]
        home = self.folder / (name or service)
        self._home(home)
        words = [self.python, *compose.command(said, self.given, self.places)[1:]]
        around = compose.environment(said, self.given, self.places, home)
        with self._started([*words, *more], around | environment, home) as process:
            yield process

    @contextmanager
    def store(self) -> Iterator[None]:
        """The S3 server: what compose's image runs, with a bucket of scenes."""
        home = self._home(self.folder / "s3")
        words = [self.python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.ports["s3"])]
        with self._started(words, {**os.environ, "PYTHONPATH": PATHS}, home):
            self.wait("the store", lambda: _answers(self.ports["s3"]))
            url = self.places["http://s3:9000"]
            urllib.request.urlopen(urllib.request.Request(f"{url}/archive", method="PUT"), timeout=30).close()
            keys = {name.lower(): self.given[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
            said = {**keys, "aws_endpoint_url": url, "aws_region": "us-east-1"}
            bucket = S3Store("archive", config=said, client_options={"allow_http": True})
            for number, name in enumerate(SCENES):
                path = self.folder / "archive" / f"{name}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                bucket.put(f"new/{name}.tif", save_scene(path, noise(SIDE, SIDE, seed=number)))
            yield

    def _home(self, folder: Path) -> Path:
        """A folder that is the service's own."""
        folder.mkdir()
        if self.who:
            give(folder)
        return folder

    @contextmanager
    def _started(self, words: list[str], around: dict[str, str], home: Path) -> Iterator[subprocess.Popen]:
        with (home / "log").open("wb") as log:
            streams = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
            around = around | {"HOME": str(home), "TMPDIR": str(home)}
            process = subprocess.Popen(words, cwd=home, env=around, start_new_session=True, **streams, **self.who)
        self.started[home.name] = process
        try:
            yield process
        finally:
            end(process)

    def ask(self, path: str, body: object = None) -> Any:
        """What Prefect's server answers."""
        request = urllib.request.Request(f"{self.api}/{path}", None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Basic {base64.b64encode(self.given['PREFECT_AUTH'].encode()).decode()}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self, *states: str) -> list[dict[str, Any]]:
        """The flow runs in these states, the earliest first."""
        wanted = {"state": {"type": {"any_": states}}}
        return list(self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "flow_runs": wanted}))

    def wait(self, what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `look` gives, once it gives something. Raises TimeoutError with the ends of all logs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError):
                if found := look():
                    return found
            time.sleep(0.1)
        logs = [f"{log.parent.name}: {log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*/log")]
        raise TimeoutError("\n".join([f"{what} did not come within {seconds:.0f} s", *logs]))


def spend_a_night(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Start all services, let a night come, kill a worker in it, and give what the morning finds."""
    stack = Stack(folder, say)
    with ExitStack() as services:
        _start(stack, services)
        two = [
            services.enter_context(stack.process("worker", "--host", "127.0.0.1", name=f"worker-{number}"))
            for number in "ab"
        ]
        services.enter_context(stack.process("serve"))
        serving = stack.folder / "serve" / "log"
        stack.wait("the schedule", lambda: "Serving job at" in serving.read_text())
        say("serving; waiting for the night to fall due …")
        (night,) = stack.wait("a night", lambda: stack.runs("RUNNING")[:1])
        begun = stack.wait("a block", lambda: [path for path in stack.out.rglob("journal.jsonl") if _lines(path) > 1])
        say(f"{begun[0].parent.parent.name} is begun; killing a worker …")
        os.killpg(two[0].pid, signal.SIGKILL)
        going_on = [one["id"] for one in stack.runs("RUNNING")] == [night["id"]]
        after = stack.wait("the morning", lambda: [one for one in stack.runs("COMPLETED") if one["id"] == night["id"]])
        rows = asked(
            stack.ports["postgres"],
            stack.given["POSTGRES_PASSWORD"],
            "select state_name from flow_run where auto_scheduled and state_type = 'COMPLETED'",
        )
        unhappy = stack.runs("FAILED", "CRASHED")
        survivor = two[1].poll() is None
        users = {
            name: psutil.Process(one.pid).uids().effective for name, one in stack.started.items() if not one.poll()
        }
    _undisturbed(folder)
    return {
        "night": after[0],
        "went_on": going_on,
        "unhappy": unhappy,
        "in_postgres": len(rows),
        "survivor": survivor,
        "users": users,
        "as_root": not stack.who and os.geteuid() == 0,
        "index": pq.read_table(stack.out / "scenes.parquet").to_pylist(),
        "catalogue": stack.out / "catalogue" / "catalog.json",
        "masks": {name: tree(path / "mask.zarr") for name, path in _results(stack.out)},
        "undisturbed": {name: tree(path / "mask.zarr") for name, path in _results(folder / "here")},
    }


def _start(stack: Stack, services: ExitStack) -> None:
    """What must stand before workers and the schedule."""
    stack.say("making certificates …")
    subprocess.run([compose.ROOT / "docker/certificates.sh", stack.given["TLS"]], check=True, cwd="/", **stack.who)
    stack.say("starting PostgreSQL, the store, Prefect's server and Dask's scheduler …")
    services.enter_context(postgres(stack.ports["postgres"], stack.given["POSTGRES_PASSWORD"]))
    services.enter_context(stack.store())
    _write_job(stack)
    ports = {
        "PREFECT_SERVER_DATABASE_PORT": str(stack.ports["postgres"]),
        "PREFECT_SERVER_API_PORT": str(stack.ports["prefect"]),
    }
    services.enter_context(stack.process("prefect", **ports))
    services.enter_context(stack.process("scheduler", "--host", "127.0.0.1"))
    stack.wait("Prefect's server", lambda: stack.ask("health") is True)
    page = stack.api.removesuffix("/api")
    stack.wait("Prefect's page", lambda: b"<html" in urllib.request.urlopen(page, timeout=5).read().lower())
    assert any((stack.folder / "page").iterdir())
    stack.wait("Dask's scheduler", lambda: _answers(stack.ports["scheduler"]))


def _write_job(stack: Stack) -> None:
    """The job of the containers, with what is elsewhere here; small blocks, so that a night has many."""
    job = yaml.safe_load((compose.ROOT / "docker/job.yaml").read_text(encoding="utf-8"))
    job |= {"out": str(stack.out), "cluster": stack.places[job["cluster"]], "settle": 0, **SIDES}
    (stack.folder / "job.yaml").write_text(yaml.safe_dump(job))


SIDES = {"window": 176, "block": 128, "device": "cpu"}


def _undisturbed(folder: Path) -> None:
    """The same scenes by one process of this machine, from a folder."""
    job = {"scenes": [str(folder / "archive")], "model": "earth-water", "out": "here", "settle": 0, **SIDES}
    (folder / "here.yaml").write_text(yaml.safe_dump(job | {"cluster": "inline"}))
    words = [sys.executable, "-m", "flows.cli", "run", "--job", "here.yaml"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_API")}
    subprocess.run(
        words, cwd=folder, env=kept | {"PYTHONPATH": str(compose.ROOT)}, check=True, stdout=subprocess.DEVNULL
    )


def _results(out: Path) -> list[tuple[str, Path]]:
    return sorted((path.parent.name, path.parent) for path in out.glob("*/mask.zarr"))


def end(process: subprocess.Popen) -> None:
    """End a process and all of its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
