"""Files that are whole or absent: written beside, synced, renamed; and what to say when the disk refuses.

A kill or a power cut at any instant leaves the old file or the new one, never a part. What is half written lies in a
file whose name ends in `.partial`, which nothing ever reads.
"""

from __future__ import annotations

import errno
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import MaskmillError, RoomError, SettingsError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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


@contextmanager
def sentences(path: Path, otherwise: type[MaskmillError] = SettingsError) -> Iterator[None]:
    """Turn an OSError of the body into a sentence that names `path`.

    Raises RoomError where the disk or a quota is full, and `otherwise` for everything else.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise RoomError(f"There is no room to write {path} ({reason}): free some and run again.") from error
        raise otherwise(f"{path} cannot be written ({reason}): check its folder, its owner and its disk.") from error


def put_whole(
    path: Path, data: bytes, *, stage: Path | None = None, otherwise: type[MaskmillError] = SettingsError
) -> None:
    """Write `data` to `path` so that the file is the old one or the new one at every instant, and synced after.

    The part-written file lies in `stage` (on the same file system), or beside `path` where none is given. Folders are
    made as needed. Raises RoomError where the disk is full, `otherwise` for other refusals.
    """
    with sentences(path, otherwise):
        _make(path.parent)
        partial = _partial(path, data, stage)
        try:
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def put_unsynced(path: Path, data: bytes) -> None:
    """Write a file that is made anew after a power cut: whole or absent for all who look. Raises like `put_whole`."""
    with sentences(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _partial(path, data, None, synced=False).replace(path)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write `data` to `path` unless a file is there; say whether it was written. Of several at once, one succeeds.

    Raises RoomError where the disk is full and SettingsError for other refusals, such as a file system without hard
    links.
    """
    with sentences(path):
        _make(path.parent)
        partial = _partial(path, data, None)
        try:
            path.hardlink_to(partial)  # fails where the name exists, which a rename would not
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True


def remove(path: Path, *, otherwise: type[MaskmillError] = SettingsError) -> bool:
    """Remove a file, for good even if the power goes now; say whether there was one."""
    with sentences(path, otherwise):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        _sync_folder(path.parent)
        return True


def sync(path: Path) -> None:
    """Make a file that is already written, and its name, survive a power cut. Raises like `put_whole`."""
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
    partial = folder / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return partial


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
