"""Whether an image is still what it was when it was opened, told by a look at it that costs next to nothing.

A *seal* holds, of each file that decides pixels, its size and time of change; of a file at an address the size and the
ETag, or time of change, that its server says. A worker looks after it has read a block: where something differs, the
pixels may be those of two images. A file that is rewritten with as many bytes and given its old time of change is not
noticed here, but by the fingerprint, when the run is resumed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.disk import AWAY
from pipeline.errors import SceneError
from pipeline.raster import vsi
from pipeline.raster.access import environment
from pipeline.raster.address import Address, shown
from pipeline.raster.fingerprint import pam

if TYPE_CHECKING:
    from pipeline.raster.source import Scene

PATIENCE = 30.0  # seconds: a disk or a server that is away for a moment has not changed its file
FIRST_PAUSE = 0.2  # seconds; each pause is twice the one before
_BACK = "Put the old file back and run again, to go on; or do it anew with --overwrite."

Seal = bytes  # for each file what is said of it, a space and its name; compressed


def seal_of(address: Address, files: Iterable[Path]) -> Seal:
    """Seal an image; `files` are those that GDAL names for it. To be taken before the fingerprint.

    Raises SceneError where a file cannot be looked at.
    """
    if address.file is None:
        names = [address.fetched]
    else:
        # Overviews are never read; of a Zarr the folder stands for all.
        beside = () if address.file.is_dir() else (file for file in files if file.suffix.lower() != ".ovr")
        names = list(dict.fromkeys(os.path.abspath(file) for file in (address.file, *beside)))  # noqa: PTH100
    try:
        said = [f"{_said_of(name, address.name)} {name}" for name in names]
    except OSError as error:
        raise SceneError(f"{shown(str(error.filename))} cannot be read: {error.strerror}.") from None
    return zlib.compress("\0".join(said).encode("utf-8", "surrogateescape"))


def demand_unchanged(scene: Scene) -> None:
    """Raise SceneError where an image is not what it was when it was sealed, or stays out of reach."""
    for layer in scene.layers:
        demand_unchanged(layer.part)
    for then, name in _sealed(scene.seal):
        try:
            now = _patiently(name, scene.uri)
        except OSError as error:
            raise SceneError(
                f"The image {scene.shown} was lost while it was being done ({shown(name)}: {error.strerror}). {_BACK}"
            ) from None
        if now != then:
            raise SceneError(
                f"The image {scene.shown} has changed since the run was planned ({shown(name)} had {_told(then)} and "
                f"has {_told(now)}), and pixels of two images are not mixed. {_BACK}"
            )


def seen(scene: Scene) -> list[tuple[str, int | None, str]]:
    """(name, bytes, which) of each file that was sealed, each once, the image's own first; names have no signature.

    Which: the time of change in ns; an address's ETag or time of change, its spaces "_"; a digest of a folder.
    """
    found: dict[str, tuple[int | None, str]] = {}
    for part in (scene, *(layer.part for layer in scene.layers)):
        for said, name in _sealed(part.seal):
            size, _, which = said.partition("/")
            found.setdefault(shown(name), (int(size) if size else None, which))
    return [(name, size, which) for name, (size, which) in found.items()]


def _sealed(seal: Seal) -> Iterator[tuple[str, str]]:
    """(what was said, the name) of each file."""
    for line in zlib.decompress(seal).decode("utf-8", "surrogateescape").split("\0") if seal else ():
        said, _, name = line.partition(" ")
        yield said, name


def _patiently(name: str, uri: str) -> str:
    """What is said of a file, of which a disk or a server may say nothing for a moment. Raises OSError."""
    began, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return _said_of(name, uri)
        except OSError as error:
            if error.errno not in AWAY or time.monotonic() - began + pause > PATIENCE:
                raise
        time.sleep(pause)
        pause *= 2


def _said_of(name: str, uri: str) -> str:
    """What a file, a folder or a server says of itself, without a space: how many bytes, "/", and which ones."""
    if name.startswith("/vsi"):
        with environment(uri):
            return _said_by_server(name)
    if os.path.isdir(name):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        return _said_by_folder(name)
    if name.lower().endswith(".aux.xml"):  # a viewer may put statistics into it
        said = pam(Path(name))
        return f"{len(said)}/{hashlib.blake2b(said, digest_size=8).hexdigest()}"
    opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # not only a stat: NFS asks its server, and rights count
    try:
        now = os.fstat(opened)
    finally:
        os.close(opened)
    return f"{now.st_size}/{now.st_mtime_ns}"


def _said_by_server(name: str) -> str:
    said = vsi.said_by_server(name)
    if not said:
        raise OSError(errno.ETIMEDOUT, "its server does not give it", name)
    version = said.get("etag") or said.get("last-modified") or ""
    return f"{said.get('content-length', '')}/{version.replace(' ', '_')}"


def _said_by_folder(name: str) -> str:
    """As of one file: the bytes of all, and a digest of every file's name, size and time of change."""
    total, digest = 0, hashlib.blake2b(digest_size=8)
    for folder, folders, files in os.walk(name):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(folder, file)  # noqa: PTH118  # there may be a hundred thousand
            now = os.stat(path)  # noqa: PTH116
            total += now.st_size
            digest.update(f"{path[len(name) :]} {now.st_size} {now.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return f"{total}/{digest.hexdigest()}"


def _told(said: str) -> str:
    """The same for a person."""
    size, _, which = said.partition("/")
    if which.isdecimal() and len(which) > len("1000000000"):  # a time in ns
        which = datetime.fromtimestamp(int(which) / 1e9, UTC).isoformat(sep=" ", timespec="milliseconds")
    return f"{size or 'unknown'} bytes of {which}" if which else f"{size} bytes"
