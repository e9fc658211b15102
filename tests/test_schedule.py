import signal
from datetime import datetime
from itertools import pairwise

import psutil
import pytest

from flows.server import own_server
from flows.timing import Timing
from pipeline.errors import SettingsError
from tests.mill import maskmill, world, write_job
from tests.serving import Night, gone, until


def test_a_timing_is_checked_when_it_is_made():
    assert Timing("night", "0 2 * * *", "Europe/Vienna").cron == "0 2 * * *"
    for cron, zone in (("0 25 * * *", "UTC"), ("", "UTC"), ("0 2 * * *", "Europe/Atlantis")):
        with pytest.raises(SettingsError):
            Timing("night", cron, zone)


def test_a_port_that_is_taken_and_a_folder_that_cannot_be_are_refused(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="port"), own_server(tmp_path / "home", taken.getsockname()[1]):
            pass
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"), own_server(tmp_path / "file/home", None):
        pass


@pytest.mark.parametrize("arguments", [("schedule", "job.yaml", "--cron", "0 2 * * *"), ("run", "--job", "job.yaml")])
def test_a_server_that_is_named_and_silent_is_refused(tmp_path, arguments):
    write_job(tmp_path, world(tmp_path))
    done = maskmill(*arguments, cwd=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_schedule_that_is_stopped_while_it_starts_says_so(tmp_path):
    write_job(tmp_path, world(tmp_path))
    night = Night(tmp_path, cron="0 0 1 1 *")
    try:
        night.process.send_signal(signal.SIGTERM)  # it has announced itself, and Prefect's runner is only coming up
        assert night.process.wait(60) == 143
        assert gone(night.server)
        assert "Traceback" not in night.log.read_text()
    finally:
        night.end()


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_schedule_makes_runs_never_two_at_once_and_goes_on_after_kill_9(tmp_path):
    write_job(tmp_path, world(tmp_path))
    nights = []
    try:
        nights.append(first := Night(tmp_path))
        times = [datetime.strptime(text[:16], "%Y-%m-%d %H:%M") for text in first.announced[2].split(", ")]
        assert len(times) == 3
        assert all((later - earlier).seconds == 60 for earlier, later in pairwise(times))
        assert first.announced[2].endswith(("CET", "CEST"))
        second = maskmill("schedule", "job.yaml", "--cron", "* * * * *", cwd=tmp_path)
        assert second.returncode == 2
        assert "Another `maskmill schedule`" in second.stderr

        holder = until(first.take_the_slot)
        until(lambda: [run for run in first.runs("CANCELLED") if run["auto_scheduled"]])  # never two at once
        first.ask(f"flow_runs/{holder}/set_state", {"state": {"type": "CRASHED"}})

        (unfinished, *_) = until(lambda: first.runs("RUNNING"))
        family = psutil.Process(first.process.pid).children(recursive=True)
        first.process.kill()
        until(lambda: all(map(gone, family)), 40)

        nights.append(after := Night(tmp_path))
        states = {run["id"]: run["state"]["type"] for run in after.runs("CRASHED", "FAILED", "COMPLETED", "RUNNING")}
        assert states[unfinished["id"]] != "RUNNING"
        (completed, *_) = until(lambda: [run for run in after.runs("COMPLETED") if run["id"] != unfinished["id"]])
        assert completed["auto_scheduled"]
        assert (tmp_path / "out/scene0/report.json").is_file()

        after.process.send_signal(signal.SIGTERM)
        assert after.process.wait(60) == 143
        assert gone(after.server)
        assert "the same command goes on" in after.log.read_text()
    finally:
        for night in nights:
            night.end()
