"""The hold: one run at a time makes a scene of a bucket.

As the lease in a folder: numbered objects, each created only if absent, of which the highest counts, and a number is
never used twice. A hold is void when its holder is known to be dead, or has not renewed it for five minutes by the
store's clock, which dates what is put; this machine's clock is never asked. Where the store has no conditional put two
runs may both think that they hold a scene: they write the same bytes, and pay for them twice.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from contextlib import suppress
from dataclasses import fields, replace

from pipeline.errors import LeaseError, MaskmillError
from pipeline.store.bucket import Bucket
from pipeline.store.lease import Holder, dead, myself

RENEW_SECONDS = 30.0
VOID_SECONDS = 300.0
_NAME = re.compile(r"lease-(\d{6,})\.json")
_log = logging.getLogger("maskmill")


class Hold:
    """A scene of a bucket held against other runs; `acquire` makes one, leaving the `with` ends it.

    Attributes
    ----------
    lost
        Set when another run has taken it, or when renewing failed for so long that another may.

    """

    def __init__(self, bucket: Bucket, folder: str, number: int, holder: Holder, void_seconds: float) -> None:
        self.lost = threading.Event()
        self._bucket, self._folder, self._number, self._holder = bucket, folder, number, holder
        self._void_seconds = void_seconds
        self._renewed = time.monotonic()  # how long ago is a span, and needs no clock
        self._ending = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="hold", daemon=True)
        self._renewer.start()

    @classmethod
    def acquire(
        cls,
        bucket: Bucket,
        name: str,
        *,
        renew_seconds: float = RENEW_SECONDS,
        void_seconds: float = VOID_SECONDS,
    ) -> Hold:
        """Take a scene. Raises LeaseError where another run holds it, SettingsError where the store refuses."""
        folder = f".leases/{name}"
        if not bucket.conditional:
            _say_once(bucket.address)
        while True:
            number = _highest(bucket, folder)
            if number:
                _refuse_unless_void(bucket, folder, number, void_seconds)
            holder = myself(f"a run of {name}", renew_seconds)
            mine = number + 1
            if bucket.create(_key(folder, mine), holder.to_bytes()):
                if _highest(bucket, folder) == mine:
                    bucket.delete([_key(folder, old) for old in _numbers(bucket, folder) if old < mine])
                    return cls(bucket, folder, mine, holder, void_seconds)
                bucket.delete([_key(folder, mine)])  # it was a number of long ago: others have gone further

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._renewer.join()
        with suppress(MaskmillError):  # a store that is away: it is void in five minutes
            if not self.lost.is_set() and _highest(self._bucket, self._folder) == self._number:
                self._put(replace(self._holder, released=True))

    def check(self) -> None:
        """Raise LeaseError where the hold was lost by the last renewal."""
        if self.lost.is_set():
            raise LeaseError(
                f"This run has lost {self._bucket.address}: another took its scene, or the hold could not be renewed "
                f"for {self._void_seconds:.0f} s. What is done is kept; run again when the other has ended."
            )

    def _renew(self) -> None:
        while not self._ending.wait(self._holder.renew_seconds):
            with suppress(MaskmillError):
                if _highest(self._bucket, self._folder) != self._number:
                    self.lost.set()
                    return
                self._put(self._holder)
                self._renewed = time.monotonic()
            if time.monotonic() - self._renewed > self._void_seconds:
                self.lost.set()
                return

    def _put(self, holder: Holder) -> None:
        self._bucket.put(_key(self._folder, self._number), holder.to_bytes())


_told: set[str] = set()


def _say_once(address: str) -> None:
    if address not in _told:
        _told.add(address)
        _log.warning(
            "The store of %s has no conditional put, so nothing keeps two runs of one scene apart there: they would "
            "write the same bytes, and both pay for them.",
            address,
        )


def _refuse_unless_void(bucket: Bucket, folder: str, number: int, void_seconds: float) -> None:
    """Return where the hold binds no one any more, saying so; raise LeaseError where it does."""
    holder, renewed = _read(bucket, folder, number), bucket.modified(_key(folder, number))
    if holder is None or holder.released or renewed is None:
        return
    silent = bucket.now() - renewed
    who = f"{holder.owner} (process {holder.pid} on {holder.host})"
    if dead(holder):
        _log.warning("%s was left by %s, which has died: it is taken over.", bucket.address, who)
        return
    if silent > void_seconds:
        _log.warning("%s was held by %s, silent for %.0f s: it is taken over.", bucket.address, who, silent)
        return
    raise LeaseError(
        f"{bucket.address} is held by {who}, which renewed it {max(0.0, silent):.0f} s ago by the store's clock. Wait "
        f"until that run ends, or end it; if its machine is gone, the hold is void {void_seconds:.0f} s after it was "
        "last renewed."
    )


def _key(folder: str, number: int) -> str:
    return f"{folder}/lease-{number:06d}.json"


def _numbers(bucket: Bucket, folder: str) -> list[int]:
    return [int(found[1]) for name in bucket.list(folder) if (found := _NAME.fullmatch(name))]


def _highest(bucket: Bucket, folder: str) -> int:
    return max(_numbers(bucket, folder), default=0)


def _read(bucket: Bucket, folder: str, number: int) -> Holder | None:
    """What a hold says; None where it is gone, or says nothing."""
    try:
        said = json.loads(bucket.get(_key(folder, number)) or b"")
        return Holder(**{part.name: said[part.name] for part in fields(Holder)})
    except (ValueError, TypeError, KeyError):
        return None
