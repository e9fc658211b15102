"""Notices of failures, given to a real command and to a real server on loopback."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from flows import notice
from flows.notice import noticed
from pipeline.document import load_job
from pipeline.errors import LeaseError, SceneError, SettingsError
from tests.mill import last_json, maskmill, world, write_job

TELL = """import json, os, sys
given = json.load(sys.stdin)
said = {name: value for name, value in os.environ.items() if name.startswith("MASKMILL_")}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([given, said]) + "\\n")
"""
WITH = {"scenes": ["a.tif"], "model": "m"}


@contextmanager
def hook(status=204, location=None, hangs=False):
    """A server that takes notices: (address, [what it was sent])."""
    taken, ended = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, self.headers["Content-Type"], json.loads(body)))
            if hangs:
                ended.wait()
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            raise AssertionError("a notice is a POST")

        def log_message(self, *_said):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/planted", taken
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def tell(tmp_path):
    """(a command that writes down what it is told, what it has written)."""
    (tmp_path / "tell.py").write_text(TELL)
    told = tmp_path / "told.jsonl"

    def read():
        return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []

    return [sys.executable, str(tmp_path / "tell.py"), str(told)], read


def job_with(tmp_path, **said):
    return load_job(None, WITH | {"out": str(tmp_path / "out"), "on_failure": said})


def ended(code, *problems, states=("complete",), **more):
    scenes = [{"scene": f"s{at}", "state": state} for at, state in enumerate(states)]
    return {"scenes": scenes, "problems": list(problems), "exit_code": code, **more}


def test_both_ways_are_given_the_same_once(tmp_path, tell):
    command, told = tell
    with hook() as (address, taken):
        job = job_with(tmp_path, command=command, webhook=address)
        report = ended(
            3, *(f"p{n} at https://a:planted@b/c." for n in range(60)), states=["holes", "complete", "holes"]
        )
        assert noticed(job, "night", lambda: report) is report
    ((given, said),) = told()
    ((path, kind, posted),) = taken
    assert (path, kind, posted) == ("/hooks/planted", "application/json", given)
    assert given["counts"] == {"holes": 2, "complete": 1}
    assert (given["job"], given["exit_code"], given["out"]) == ("night", 3, str(tmp_path / "out"))
    assert (len(given["problems"]), given["more_problems"], given["report"]) == (50, 10, None)
    assert given["text"].startswith("maskmill night ended with exit code 3: p0 at")
    assert given["text"].endswith("And 57 more.")
    assert "planted" not in json.dumps([given, said])
    assert (said["MASKMILL_EXIT"], said["MASKMILL_JOB"], said["MASKMILL_TEXT"]) == ("3", "night", given["text"])


@pytest.mark.parametrize(
    ("error", "code"), [(SceneError("No image."), 2), (LeaseError("Held."), 2), (RuntimeError("what?"), 1)]
)
def test_what_is_raised_is_told_and_raised(tmp_path, tell, error, code):
    command, told = tell

    def fail():
        raise error

    with pytest.raises(type(error)) as raised:
        noticed(job_with(tmp_path, command=command), None, fail)
    assert raised.value is error
    ((given, _),) = told()
    assert (given["exit_code"], given["job"], given["problems"][0].endswith(str(error))) == (code, "out", True)


def test_what_ends_well_is_carried_over_or_stopped_by_hand_is_not_told(tmp_path, tell):
    command, told = tell
    job = job_with(tmp_path, command=command)
    noticed(job, None, lambda: ended(0))
    noticed(job, None, lambda: ended(0, carried_over=3))

    def stop():
        raise KeyboardInterrupt

    def stop_an_import():
        try:
            stop()
        except KeyboardInterrupt as error:
            raise ImportError("half a module") from error

    with pytest.raises(KeyboardInterrupt):
        noticed(job, None, stop)
    with pytest.raises(ImportError):
        noticed(job, None, stop_an_import)
    assert told() == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"command": ["/nowhere/planted"]}, "No such file"),
        ({"command": [sys.executable, "-c", "exit('api_key: planted')"]}, "ended with 1: api_key: ***"),
        ({"webhook": "http://127.0.0.1:9/planted"}, "cannot be reached: ConnectionRefusedError"),
        ({"webhook": "http://[planted/"}, "cannot be reached"),
        ({"webhook": "$NOT_SET_ANYWHERE"}, "is $NOT_SET_ANYWHERE, which is set to no address"),
    ],
)
def test_a_notice_that_fails_is_a_warning(tmp_path, caplog, said, told):
    report = ended(3, "a hole.")
    assert noticed(job_with(tmp_path, **said), None, lambda: report) is report
    (record,) = caplog.records
    assert told in record.getMessage()
    assert "planted" not in record.getMessage()


@pytest.mark.parametrize(("status", "location"), [(500, None), (404, None), (302, "/elsewhere"), (307, "/elsewhere")])
def test_an_answer_that_takes_nothing_is_a_warning(tmp_path, caplog, status, location):
    with hook(status, location) as (address, taken):
        noticed(job_with(tmp_path, webhook=address), None, lambda: ended(3, "a hole."))
    assert len(taken) == 1
    assert [record.getMessage().endswith(f"answered with {status}") for record in caplog.records] == [True]


@pytest.mark.slow
def test_a_notice_that_hangs_is_left_and_nothing_of_it_stays(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(notice, "SECONDS", 2.0)
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(987)']); "
    command = [sys.executable, "-c", code + "time.sleep(987)"]
    with hook(hangs=True) as (address, taken):
        noticed(job_with(tmp_path, command=command, webhook=address), None, lambda: ended(3, "a hole."))
        assert len(taken) == 1
    assert [record.getMessage().partition("`on_failure` ")[2] for record in caplog.records] == [
        "took longer than 2 s and was ended",
        "did not answer within 2 s",
    ]
    until = time.monotonic() + 10
    while _sleeping() and time.monotonic() < until:
        time.sleep(0.05)
    assert not _sleeping()


def _sleeping():
    return [one for one in psutil.process_iter(["cmdline"]) if "sleep(987)" in " ".join(one.info["cmdline"] or ())]


@pytest.mark.parametrize(
    "said",
    [{}, {"webhook": "ftp://planted"}, {"command": []}, {"command": "planted now"}, {"webhok": "https://planted"}],
)
def test_a_notice_that_names_nobody_is_refused_without_its_words(tmp_path, said):
    with pytest.raises(SettingsError, match="`on_failure` cannot be what it is") as refused:
        job_with(tmp_path, **said)
    assert "planted" not in refused.value.message


def test_the_command_gives_notice_and_ends_as_it_would(tmp_path, tell):
    command, told = tell
    job = world(tmp_path)
    with hook() as (address, taken):
        job |= {"scenes": ["scene0.tif", "nowhere.tif"], "on_failure": {"command": command, "webhook": "$HOOK"}}
        write_job(tmp_path, job, "night.yaml")
        done = maskmill("run", "--job", "night.yaml", "--json", cwd=tmp_path, HOOK=address)
    assert done.returncode == 3, done.stderr
    assert last_json(done)["exit_code"] == 3
    ((given, _),) = told()
    assert [body for _, _, body in taken] == [given]
    assert (given["job"], given["counts"]) == ("night", {"complete": 1, "refused": 1})
    assert given["report"] == str(tmp_path / "out/report.html")
    assert "planted" not in done.stdout + done.stderr
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"planted" not in path.read_bytes(), path


@pytest.mark.slow
def test_a_flow_run_gives_notice_once_and_prefect_keeps_no_address(tmp_path, tell):
    command, told = tell
    job = world(tmp_path)
    with hook() as (address, taken):
        job |= {"scenes": ["scene0.tif", "nowhere.tif"], "on_failure": {"command": command, "webhook": address}}
        write_job(tmp_path, job, "night.yaml")
        home = tmp_path / "prefect"
        done = maskmill("run", "--job", "night.yaml", "--prefect", "--json", cwd=tmp_path, PREFECT_HOME=str(home))
    assert done.returncode == 3, done.stderr
    assert (len(told()), len(taken)) == (1, 1)
    assert "planted" not in done.stdout + done.stderr
    for path in home.rglob("*"):
        assert not path.is_file() or b"planted" not in path.read_bytes(), path
