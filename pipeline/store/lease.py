"""The lease: one run at a time holds a folder.

Leases are numbered files, `lease-000001.json` and on. Each is created only if absent, and the highest number is the one
that counts; a number is never used twice, because a run that ends leaves its file, marked released, until the next
has come. So of two that find the same void lease, one creates the next number and the other sees that it exists; and
a holder that was given up finds a higher number than its own, and knows that it has lost.

A lease is void at once where its process is known to be dead: on this host, since this boot, among the processes that
can be seen from here. Otherwise it is void when it has not been renewed for two minutes by the clock, and does not
change while it is watched for longer than its holder takes to renew it (clocks of two hosts differ; a watch needs one).
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import LeaseError, MaskmillError
from pipeline.store.objects import insist, put_if_absent, put_whole, remove

RENEW_SECONDS = 20.0
VOID_SECONDS = 120.0
_AGAIN_SECONDS = 0.05  # before another look, where another run was faster
_NAME = re.compile(r"lease-(\d{6,})\.json")
_DEAD_STATES = frozenset("ZXx")  # a killed process stays as a zombie until its parent looks
_START_FIELD = 19  # proc(5): field 22 of stat, counted from the one after the name


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease says. Times are seconds since 1970; `place` is host, boot and process namespace."""

    owner: str
    host: str
    place: str
    pid: int
    started: str
    since: float
    renewed: float
    renew_seconds: float
    released: bool = False

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    def describe(self) -> str:
        """Who it is, and for how long, by this machine's clock."""
        since = datetime.fromtimestamp(self.since, UTC).isoformat(sep=" ", timespec="seconds")
        return (
            f"{self.owner} (process {self.pid} on {self.host}, since {since}, "
            f"renewed {max(0.0, time.time() - self.renewed):.0f} s ago)"
        )


class Lease:
    """A folder held against other runs; `acquire` makes one, `release` or leaving the `with` ends it.

    Attributes
    ----------
    lost
        Set when another run has taken the folder, or when renewing failed for so long that another may: stop writing.

    """

    def __init__(self, folder: Path, number: int, holder: Holder, void_seconds: float) -> None:
        self.folder = folder
        self.lost = threading.Event()
        self._number, self._holder, self._void_seconds = number, holder, void_seconds
        self._renewed = time.monotonic()
        self._ending = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_the_end, name="lease", daemon=True)
        self._renewer.start()

    @classmethod
    def acquire(
        cls,
        folder: Path,
        owner: str,
        *,
        renew_seconds: float = RENEW_SECONDS,
        void_seconds: float = VOID_SECONDS,
    ) -> Lease:
        """Take a folder, which is made as needed.

        Parameters
        ----------
        folder
            Where the lease lies.
        owner
            What the holder is called in the message that others get.
        renew_seconds, void_seconds
            How often it is renewed, and after how long without that it is void.

        Raises LeaseError where another run holds the folder. Takes up to half a minute where a lease is old and its
        process cannot be looked up.

        """
        while True:
            number = _highest(folder)
            if number:
                _refuse_unless_void(folder, number, void_seconds)
            holder = myself(owner, renew_seconds)
            mine = number + 1
            if put_if_absent(_path(folder, mine), holder.to_bytes()):
                if _highest(folder) == mine:
                    _remove_below(folder, mine)
                    return cls(folder, mine, holder, void_seconds)
                remove(_path(folder, mine))  # it was a number of long ago: others have gone further
            time.sleep(_AGAIN_SECONDS)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def check(self) -> None:
        """Raise LeaseError where the lease is lost, looking now rather than at the next renewal.

        Raises SettingsError where the folder cannot be looked at for as long as `insist` is patient.
        """
        if not self.lost.is_set() and (_highest(self.folder, None) != self._number or self._overdue()):
            self.lost.set()
        if self.lost.is_set():
            raise LeaseError(
                f"This run has lost {self.folder}: another took it after this one had not renewed its lease for "
                f"{self._void_seconds:.0f} s. What is done is kept; run again when the other has ended."
            )

    def release(self, patience: float | None = None) -> None:
        """Let the folder go; a second time does nothing. Raises what `put_whole` raises, after so many seconds."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._renewer.join()
        if not self.lost.is_set() and _highest(self.folder) == self._number:
            self._put(replace(self._holder, renewed=time.time(), released=True), patience)

    def withdraw(self) -> None:
        """Let the folder go and leave no lease: for a run that ended before it wrote anything."""
        self.release()
        remove(_path(self.folder, self._number))

    def _renew_until_the_end(self) -> None:
        while not self._ending.wait(self._holder.renew_seconds):
            with suppress(
                MaskmillError
            ):  # a disk that refuses may do so for a while; check and _overdue say when too long
                if _highest(self.folder) != self._number:
                    self.lost.set()
                    return
                self._put(replace(self._holder, renewed=time.time()), patience=0)
                self._renewed = time.monotonic()
            if self._overdue():
                self.lost.set()
                return

    def _overdue(self) -> bool:
        return time.monotonic() - self._renewed > self._void_seconds

    def _put(self, holder: Holder, patience: float | None = None) -> None:
        put_whole(_path(self.folder, self._number), holder.to_bytes(), patience=patience)


def demand_free(folder: Path) -> None:
    """Raise LeaseError where another run holds a folder. Writes nothing; may take as long as `Lease.acquire`."""
    number = _highest(folder)
    if number:
        _refuse_unless_void(folder, number, VOID_SECONDS)


def _refuse_unless_void(folder: Path, number: int, void_seconds: float) -> None:
    """Return where the lease binds no one any more; raise LeaseError where it does."""
    holder = _read(folder, number)
    if holder is None or holder.released or dead(holder):
        return
    if time.time() - holder.renewed > void_seconds and _unchanged(folder, number, holder):
        return
    raise LeaseError(
        f"{folder} is held by {holder.describe()}. Wait until that run ends, or end it; if its machine is gone, the "
        f"lease is void {void_seconds:.0f} s after it was last renewed."
    )


def _unchanged(folder: Path, number: int, holder: Holder) -> bool:
    """Whether a lease stays as it is for longer than its holder takes to renew it."""
    end = time.monotonic() + 1.25 * holder.renew_seconds
    while time.monotonic() < end:
        time.sleep(min(0.5, holder.renew_seconds / 8))
        if _read(folder, number) != holder:
            return False
    return True


def dead(holder: Holder) -> bool:
    """Whether the holder's process is known to be gone: it was one of those seen from here, and is not."""
    return bool(holder.place) and holder.place == _place() and _started(holder.pid) != holder.started


def myself(owner: str, renew_seconds: float) -> Holder:
    """What a lease of this process says."""
    now, pid = time.time(), os.getpid()
    return Holder(owner, socket.gethostname(), _place(), pid, _started(pid), now, now, renew_seconds)


def _place() -> str:
    """Where a process number means the same process: host, boot and namespace; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since boot, so that a number used again is not taken for it; empty if dead."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] in _DEAD_STATES else after_name[_START_FIELD]


def _path(folder: Path, number: int) -> Path:
    return folder / f"lease-{number:06d}.json"


def _numbers(folder: Path, patience: float | None = 0.0) -> list[int]:
    def listed() -> list[int]:
        try:
            return [int(found[1]) for name in os.listdir(folder) if (found := _NAME.fullmatch(name))]  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []

    return insist(folder, listed, patience)


def _highest(folder: Path, patience: float | None = 0.0) -> int:
    """The number of the lease that counts; 0 where there is none."""
    return max(_numbers(folder, patience), default=0)


def _remove_below(folder: Path, number: int) -> None:
    for older in _numbers(folder):
        if older < number:
            remove(_path(folder, older))


def _read(folder: Path, number: int) -> Holder | None:
    """What a lease says; None where it is gone, or says nothing, which no run writes: files are put whole."""
    try:
        said = json.loads(_path(folder, number).read_bytes())
        return Holder(**{part.name: said[part.name] for part in fields(Holder)})  # a later version may say more
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    except OSError as error:
        raise LeaseError(
            f"{_path(folder, number)} cannot be read ({error.strerror}): who holds it is unknown."
        ) from error
