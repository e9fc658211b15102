"""The command, warm: a process that has imported everything forks a new one for each run of it.

Each run is a process of its own, with its own session, folder, environment and output; only the seconds that Python
takes to import are shared. Used by tests that run the command dozens of times.
"""

import atexit
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil

ROOT = Path(__file__).parents[1]


class Warm:
    """Run commands; `close` ends the warm process."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._process.stdout.readline()

    def run(self, *arguments, cwd, largest_file=None, **environment):
        """Run the command to its end; `left` are the processes that it left behind."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [f"{folder}/stdout", f"{folder}/stderr"]
            asked = {
                "arguments": [str(each) for each in arguments],
                "cwd": str(cwd),
                "streams": streams,
                "environment": {name: str(value) for name, value in environment.items()},
                "largest_file": largest_file,
            }
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            session, code = json.loads(self._process.stdout.readline())
            stdout, stderr = (Path(stream).read_text(encoding="utf-8") for stream in streams)
        return SimpleNamespace(returncode=code, stdout=stdout, stderr=stderr, left=left_in(session))

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def left_in(session, seconds=5.0):
    """The processes of a session that outlive it; a resource tracker of Python's takes a moment to notice its end."""
    until = time.monotonic() + seconds
    while (found := _living(session)) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _living(session):
    found = []
    for process in psutil.process_iter(["pid", "name", "status"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getsid(process.pid) == session:
                found.append(process.info["name"])
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _serve():
    import flows.doctor
    import flows.planned
    import flows.tasks
    import flows.zoo  # noqa: F401  # what the commands import late

    sys.stdout.write("warm\n")
    sys.stdout.flush()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _be(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{json.dumps([pid, os.waitstatus_to_exitcode(status)])}\n")
        sys.stdout.flush()


def _be(asked):
    from flows import cli

    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # as TMPDIR says
    for number, name in enumerate(asked["streams"], start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if asked["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest_file"], resource.RLIM_INFINITY))
    sys.argv = ["maskmill", *asked["arguments"]]
    code = 1
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        atexit._run_exitfuncs()  # as at any process's end: what has started a daemon ends it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
