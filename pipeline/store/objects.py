"""Files that are whole or absent: written beside, synced, renamed; and what to say when the disk refuses.

A kill or a power cut at any instant leaves the old file or the new one, never a part. What is half written lies in a
file whose name ends in `.partial`, which nothing ever reads. A disk or a server that is away for a moment is asked
again after growing pauses; one that stays away is a sentence that ends the run, not a hole for every block.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.disk import AWAY, FULL, has_room
from pipeline.errors import InputError, RoomError, SettingsError

PATIENCE = 90.0
"""Seconds that a store may be away: those in which an NFS server that was restarted takes no writes (its grace period,
RFC 8881, 8.4.2; Linux's default). A lease is void after 120 s: a run that was so patient still holds its folder."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before another try; each pause is twice the one before

Result = TypeVar("Result")


class Shard(NamedTuple):
    """What was put: the file's length in bytes and its CRC-32; (0, 0) stands for no file at all."""

    length: int
    crc: int


ABSENT = Shard(0, 0)
_PIECE = 1 << 20  # bytes at a time where a file is summed


def shard_of(data: bytes | None) -> Shard:
    """The length and CRC-32 of a file that holds `data`; ABSENT for None."""
    return ABSENT if data is None else Shard(len(data), zlib.crc32(data))


def shard_at(path: Path) -> Shard:
    """The length and CRC-32 of a file, read piece by piece; ABSENT where there is none. Raises OSError."""
    length, crc = 0, 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                length, crc = length + len(piece), zlib.crc32(piece, crc)
    except FileNotFoundError:
        return ABSENT
    return Shard(length, crc)


def sha256_at(path: Path) -> tuple[int, str]:
    """The length and SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into a sentence that names `path`.

    Raises RoomError where the disk or a quota is full, and SettingsError for everything else.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from error


def insist(path: Path, act: Callable[[], Result], patience: float | None = None) -> Result:
    """Do what a store may refuse for a moment, again and again for so many seconds; by default `PATIENCE`.

    Raises what `sentences` raises, of the last try.
    """
    began, pause, tries = time.monotonic(), FIRST_PAUSE, 1
    while True:
        try:
            return act()
        except OSError as error:
            spent = time.monotonic() - began
            if error.errno not in AWAY or spent + pause > (PATIENCE if patience is None else patience):
                raise _refusal(path, error, f", {tries} times within {spent:.0f} s" if tries > 1 else "") from error
        time.sleep(pause)
        pause, tries = min(2 * pause, LONGEST_PAUSE), tries + 1


def _demand(root: Path | None) -> None:
    if root is not None and not root.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"{root} is there no more")


def _refusal(path: Path, error: OSError, tries: str = "") -> InputError:
    reason = error.strerror or str(error).rstrip(".") or type(error).__name__
    if error.errno in FULL or (error.errno is None and not has_room(path.parent)):
        return RoomError(f"There is no room to write {path} ({reason}): free some and run again.")
    return SettingsError(f"{path} cannot be written ({reason}{tries}): check its folder, its owner and its disk.")


def put_whole(
    path: Path, data: bytes, *, stage: Path | None = None, root: Path | None = None, patience: float | None = None
) -> None:
    """Write `data` to `path` so that the file is the old one or the new one at every instant, and synced after.

    The part-written file lies in `stage` (on the same file system), or beside `path` where none is given. Folders are
    made as needed, but for `root`: where that is gone, what is late by then (a worker that was away, and whose block
    another has done) makes nothing anew. Raises RoomError where the disk is full, SettingsError for other refusals,
    both as `insist` does.
    """

    def put() -> None:
        _demand(root)
        _make(path.parent)
        written = _partial(path, data, stage)
        try:
            written.replace(path)
        except OSError:
            _drop(written)
            raise
        _sync_folder(path.parent)

    insist(path, put, patience)


def put_unsynced(path: Path, data: bytes, root: Path) -> None:
    """Write a file that is made anew after a power cut: whole or absent for all who look.

    `root` is a folder without which it has no use. Raises like `put_whole`.
    """

    def put() -> None:
        _demand(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        _partial(path, data, None, synced=False).replace(path)

    insist(path, put)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write `data` to `path` unless a file is there; say whether it was written. Of several at once, one succeeds.

    Raises RoomError where the disk is full and SettingsError for other refusals, such as a file system without hard
    links.
    """
    with sentences(path):
        _make(path.parent)
        written = _partial(path, data, None)
        try:
            path.hardlink_to(written)  # fails where the name exists, which a rename would not
        except FileExistsError:
            return False
        finally:
            _drop(written)
        _sync_folder(path.parent)
        return True


def remove(path: Path) -> bool:
    """Remove a file, for good even if the power goes now; say whether there was one. Raises like `put_whole`."""
    return insist(path, partial(_removed, path))


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    _sync_folder(path.parent)
    return True


def sync(path: Path) -> None:
    """Make a file that is already written, and its name, survive a power cut.

    Raises like `put_whole`, at the first refusal: what the system could not write it may forget, and it would agree to
    the second try.
    """
    with sentences(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)


def _partial(path: Path, data: bytes, stage: Path | None, *, synced: bool = True) -> Path:
    """Write the data, and sync them, under a name of its own: two who write one path at once do not mix their bytes."""
    folder = path.parent if stage is None else stage
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        with written.open("xb") as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
    except OSError:
        _drop(written)
        raise
    return written


def drop_partials(folder: Path) -> None:
    """Remove what was being written to a folder's files when its writer died; for whoever holds the folder."""
    for path in folder.glob(".*.partial"):
        _drop(path)


def _drop(path: Path) -> None:
    """Remove what nobody reads; where that is refused too, it stays."""
    with suppress(OSError):
        path.unlink()


def _make(folder: Path) -> None:
    """Make a folder and those above it, their names synced."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
