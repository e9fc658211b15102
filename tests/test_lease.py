"""The lease: of any number of real processes, one holds a folder; a dead one holds nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain

import pytest

from pipeline.errors import LeaseError
from pipeline.store.lease import Lease
from pipeline.store.objects import put_whole

HOLD = """
import sys
from pathlib import Path
from pipeline.errors import LeaseError
from pipeline.store.lease import Lease
folder, renew, void = Path(sys.argv[1]), *map(float, sys.argv[2:4])
try:
    lease = Lease.acquire(folder, "a run in a test", renew_seconds=renew, void_seconds=void)
except LeaseError as error:
    print("refused", error, flush=True)
    raise SystemExit
print("held", flush=True)
sys.stdin.readline()
try:
    lease.check()
    print("still", flush=True)
except LeaseError as error:
    print("lost", error, flush=True)
lease.release()
print("released", flush=True)
"""


@contextmanager
def holder(folder, renew=20.0, void=120.0):
    """A process that takes the folder and holds it until it is told a line."""
    command = [sys.executable, "-c", HOLD, str(folder), str(renew), str(void)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hears(process):
    return process.stdout.readline().partition(" ")[0].strip()


def only_file(folder):
    (file,) = folder.glob("lease-*.json")
    return file


def rewrite(folder, **said):
    """Make the lease say something else, as a run on another host or in another time would."""
    file = only_file(folder)
    put_whole(file, json.dumps(json.loads(file.read_bytes()) | said).encode())


def test_a_held_folder_is_refused_with_who_and_since_when_and_free_again_after(tmp_path):
    with Lease.acquire(tmp_path / "ledger", "the nightly run") as lease:
        lease.check()
        with pytest.raises(LeaseError) as refused:
            Lease.acquire(tmp_path / "ledger", "another")
        for part in ("the nightly run", f"process {os.getpid()}", "since 20", " s ago", "Wait until"):
            assert part in refused.value.message
    lease.release()
    with Lease.acquire(tmp_path / "ledger", "another"):
        assert len(list((tmp_path / "ledger").iterdir())) == 1


def test_another_process_is_refused_until_the_first_ends(tmp_path):
    with holder(tmp_path) as one:
        assert hears(one) == "held"
        with pytest.raises(LeaseError, match="a run in a test"):
            Lease.acquire(tmp_path, "two")
        one.stdin.write("\n")
        one.stdin.flush()
        assert [hears(one), hears(one)] == ["still", "released"]
    Lease.acquire(tmp_path, "two").release()


def test_a_killed_holder_is_followed_at_once_and_before_it_is_reaped(tmp_path):
    with holder(tmp_path) as one:
        assert hears(one) == "held"
        one.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and a zombie
        began = time.monotonic()
        with Lease.acquire(tmp_path, "two") as lease:
            lease.check()
        assert time.monotonic() - began < 20  # and not two minutes


def test_a_number_of_a_process_used_again_is_not_taken_for_it(tmp_path):
    Lease.acquire(tmp_path, "one").release()
    rewrite(tmp_path, released=False, started="1")  # this process's number, another's start
    Lease.acquire(tmp_path, "two").release()


RACE = """
import sys, time
from pathlib import Path
from pipeline.errors import LeaseError
from pipeline.store.lease import Lease
begin, held, won = float(sys.argv[2]), [], []
for number, folder in enumerate(sorted(Path(sys.argv[1]).iterdir())):
    time.sleep(max(0.0, begin + 0.04 * number - time.time()))  # so that they start at once
    try:
        held.append(Lease.acquire(folder, "racer"))
        won.append(folder.name)
    except LeaseError:
        pass
print(*won, flush=True)
sys.stdin.readline()
"""
ROUNDS = 20


@pytest.mark.parametrize("before", ["a kill", "nothing", "a release"])
def test_of_many_at_once_one_wins(tmp_path, before):
    with holder(tmp_path / "first") as first:
        assert hears(first) == "held"
        if before == "a release":
            first.stdin.write("\n")
            first.stdin.flush()
            assert [hears(first), hears(first)] == ["still", "released"]
    for number in range(ROUNDS):
        (tmp_path / "race" / f"{number:02d}").mkdir(parents=True)
        if before != "nothing":
            shutil.copy(only_file(tmp_path / "first"), tmp_path / "race" / f"{number:02d}")
    command = [sys.executable, "-c", RACE, str(tmp_path / "race"), str(time.time() + 1.0)]
    with ExitStack() as stack:
        racers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        won = [racer.stdout.readline().split() for racer in racers]  # all still hold what they won
        for racer in racers:
            racer.communicate("\n")
    assert sorted(chain.from_iterable(won)) == [
        f"{number:02d}" for number in range(ROUNDS)
    ]  # each once: never none, never two


def test_an_old_lease_of_another_host_is_void_once_it_does_not_change(tmp_path):
    Lease.acquire(tmp_path, "one").release()
    rewrite(tmp_path, released=False, host="elsewhere", place="elsewhere", renew_seconds=0.2)
    with pytest.raises(LeaseError, match="on elsewhere"):
        Lease.acquire(tmp_path, "two")
    rewrite(tmp_path, renewed=time.time() - 121)
    began = time.monotonic()
    with Lease.acquire(tmp_path, "two") as lease:
        assert time.monotonic() - began >= 0.25
        lease.check()


def test_a_lease_whose_host_has_a_slow_clock_is_not_void_while_it_is_renewed(tmp_path):
    Lease.acquire(tmp_path, "one").release()
    ended = threading.Event()

    def renew():
        while not ended.wait(0.1):  # by a clock that is an hour behind
            rewrite(tmp_path, released=False, place="elsewhere", renew_seconds=8, renewed=time.time() - 3600)

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(renew)
        time.sleep(0.3)
        with pytest.raises(LeaseError, match="is held by one"):
            Lease.acquire(tmp_path, "two")
        ended.set()
        renewing.result()


def test_a_stopped_holder_loses_the_folder_and_notices(tmp_path):
    with holder(tmp_path, renew=0.2, void=2.0) as one:
        assert hears(one) == "held"
        one.send_signal(signal.SIGSTOP)
        time.sleep(2.2)
        with Lease.acquire(tmp_path, "two", renew_seconds=0.2, void_seconds=2.0) as lease:
            one.send_signal(signal.SIGCONT)
            one.stdin.write("\n")
            one.stdin.flush()
            assert [hears(one), hears(one)] == ["lost", "released"]
            lease.check()
        assert json.loads(only_file(tmp_path).read_bytes())["owner"] == "two"


def test_it_is_renewed_and_lost_is_set_when_another_has_taken_it(tmp_path):
    with Lease.acquire(tmp_path, "one", renew_seconds=0.1) as lease:
        first = json.loads(only_file(tmp_path).read_bytes())["renewed"]
        end = time.monotonic() + 10
        while json.loads(only_file(tmp_path).read_bytes())["renewed"] == first:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert not lease.lost.is_set()
        (tmp_path / "lease-000002.json").write_bytes(only_file(tmp_path).read_bytes())
        assert lease.lost.wait(20)
        with pytest.raises(LeaseError, match="has lost"):
            lease.check()
    assert not json.loads((tmp_path / "lease-000002.json").read_bytes())["released"]


def test_a_holder_that_cannot_renew_for_too_long_has_lost(tmp_path):
    folder = tmp_path / "held"
    with Lease.acquire(folder, "one", renew_seconds=0.1, void_seconds=0.5) as lease:
        (folder / "lease-000001.json").unlink()
        folder.rmdir()
        folder.write_bytes(b"a file in its place")
        assert lease.lost.wait(20)


def test_a_file_that_says_nothing_holds_nothing(tmp_path):
    for number, content in enumerate([b"", b"[]", b"{}", b"{torn"], start=1):
        (tmp_path / f"lease-{number:06d}.json").write_bytes(content)
        Lease.acquire(tmp_path, "one").release()
        only_file(tmp_path).rename(tmp_path / "gone")


def test_a_lease_that_is_withdrawn_leaves_no_file_and_keeps_nobody_out(tmp_path):
    with Lease.acquire(tmp_path / "held", "another"):
        pass
    Lease.acquire(tmp_path / "held", "a run").withdraw()
    assert not list((tmp_path / "held").iterdir())
    with Lease.acquire(tmp_path / "held", "the next") as lease:
        lease.check()
