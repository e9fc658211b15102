"""What goes wrong, each in its own way: real signals to real processes, and what a power cut leaves on a disk.

Each takes the disturbed run and a generator of random numbers, and says whether there was anything to disturb.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.chaos.world import Disturbed

Fault = Callable[[Disturbed, random.Random], bool]
PATIENCE = 60.0  # seconds until what was told to end must have ended


def a_worker_is_killed(run: Disturbed, rng: random.Random) -> bool:
    """SIGKILL, to one process of those that the command started."""
    found = run.family()
    return bool(found) and _sent(rng.choice(found), signal.SIGKILL)


def all_workers_are_killed(run: Disturbed, _rng: random.Random) -> bool:
    """SIGKILL, to all of them at once."""
    family = run.family()
    for one in family:
        _sent(one, signal.SIGKILL)
    return bool(family)


def a_worker_is_away(run: Disturbed, rng: random.Random) -> bool:
    """SIGSTOP, and SIGCONT a little later: by then another may have done its block."""
    found = run.family()
    if not found or not _sent(chosen := rng.choice(found), signal.SIGSTOP):
        return False
    time.sleep(rng.uniform(0.1, 4.0))
    _sent(chosen, signal.SIGCONT)
    return True


def a_worker_is_told_to_leave(run: Disturbed, rng: random.Random) -> bool:
    """SIGTERM, as a queue sends it before it takes a machine back."""
    found = run.family()
    return bool(found) and _sent(rng.choice(found), signal.SIGTERM)


def the_coordinator_is_killed(run: Disturbed, _rng: random.Random) -> bool:
    """SIGKILL to the command alone; what it started must notice and end."""
    family = run.family()
    if not run.signalled(signal.SIGKILL):
        return False
    run.ended(PATIENCE)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive, f"{alive} still run after their coordinator"
    return True


def the_command_is_stopped(run: Disturbed, rng: random.Random) -> bool:
    """Ctrl-C or SIGTERM: it ends by itself, says so, and leaves nothing running."""
    number, code = rng.choice([(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    family = run.family()
    if not run.holds_lease() or not run.signalled(number):  # Python itself is slower to hear than to start
        return False
    found = run.ended(PATIENCE)
    assert found in {0, 3, code}, f"it ended with {found}: {run.said()}"
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive, f"{alive} still run after a stopped command"
    return True


def the_power_goes(run: Disturbed, rng: random.Random) -> bool:
    """All die at once; the journal's end is torn, and a shard is cut short, emptied, spoilt or gone."""
    family = run.family()
    if not run.signalled(signal.SIGKILL):
        return False
    for one in family:
        _sent(one, signal.SIGKILL)
    run.ended(PATIENCE)
    psutil.wait_procs(family, timeout=PATIENCE)
    journal = run.scene / "ledger" / "journal.jsonl"
    if journal.exists() and journal.stat().st_size > 1000:
        with journal.open("r+b") as file:
            file.truncate(journal.stat().st_size - rng.randrange(400))
            if rng.random() < 0.5:
                file.seek(0, os.SEEK_END)
                file.write(rng.randbytes(rng.randrange(1, 200)).replace(b"\n", b""))
    shards = list(_shards(run.scene))
    if shards:
        _damage(rng.choice(shards), rng)
    return True


def another_run_wants_the_folder(run: Disturbed, _rng: random.Random) -> bool:
    """The same command a second time: refused while the first one holds its lease."""
    if run.process.poll() is not None or not run.holds_lease():
        return False
    code, said = run.second()
    if run.process.poll() is None and run.holds_lease():
        assert code == 2, f"a second run ended with {code}: {said}"
        assert "Traceback" not in said
    return True


FAULTS: tuple[Fault, ...] = (
    a_worker_is_killed,
    all_workers_are_killed,
    a_worker_is_away,
    a_worker_is_told_to_leave,
    the_coordinator_is_killed,
    the_command_is_stopped,
    the_power_goes,
    another_run_wants_the_folder,
)


def _sent(process: psutil.Process, number: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
        return True
    return False


def _shards(scene: Path) -> Iterator[Path]:
    for store in (scene / ".stage" / "mask.zarr", scene / "mask.zarr"):
        yield from (file for file in sorted(store.rglob("c/*/*")) if file.is_file())


def _damage(shard: Path, rng: random.Random) -> None:
    data = shard.read_bytes()
    how = rng.choice(["short", "empty", "spoilt", "gone"])
    if how == "gone":
        shard.unlink()
    elif how == "spoilt" and data:
        place = rng.randrange(len(data))
        shard.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
    else:
        shard.write_bytes(b"" if how == "empty" else data[: rng.randrange(len(data) + 1)])
