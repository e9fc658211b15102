"""The fingerprint of an image: a digest of every file that decides its pixels, and of nothing else.

Up to 64 MiB in all the whole content counts, beyond that each file's size, time of change and 64 samples. No path and
no host enters it; the name of the image neither, so that a copy has the fingerprint of its original. Of a file at an
address count its size, what the server says it is (ETag, else the time of change), its head and its tail.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline.errors import SceneError
from pipeline.raster import vsi
from pipeline.raster.address import ZARR_MARKS, Address, is_zarr

WHOLE = 64 << 20  # bytes that are read whole
SAMPLES, SAMPLE = 64, 64 << 10


def fingerprint_of(address: Address, files: Iterable[Path]) -> str:
    """Digest of an image wherever it lies, inside its `environment`; `files` as below. Raises SceneError."""
    if address.file is None:
        whole = _at_server(address.name)
    elif is_zarr(address.file):
        inside = (file for file in address.file.rglob("*") if file.is_file())
        whole = fingerprint(next(file for file in address.file.iterdir() if file.name in ZARR_MARKS), inside)
    else:
        whole = fingerprint(address.file, files if address.plain else ())
    inner = address.name.partition("}/")[2] if address.member else ""
    if not inner and address.variable is None:
        return whole
    return hashlib.blake2b(f"{whole} {inner} {address.variable}".encode(), digest_size=16).hexdigest()


def _at_server(name: str) -> str:
    length, head, tail = vsi.ends(name, SAMPLE)
    said = vsi.said_by_server(name)
    version = said.get("etag") or said.get("last-modified") or ""
    digest = hashlib.blake2b(f"{length} {version}".encode(), digest_size=16)
    digest.update(head)
    digest.update(tail)
    return digest.hexdigest()


def fingerprint(path: Path, files: Iterable[Path]) -> str:
    """Digest of the image at `path` and of `files`, all those that GDAL names for it, as 32 hexadecimal digits.

    Overviews are left out, since they are never read; so are the statistics and histograms that a viewer may put into
    an .aux.xml. Raises SceneError where a file cannot be read.
    """
    roles = {_role(path, file): file for file in files if file != path and file.suffix.lower() != ".ovr"}
    roles[""] = path
    digest = hashlib.blake2b(digest_size=16)
    try:
        whole = sum(file.stat().st_size for file in roles.values()) <= WHOLE
        for role, file in sorted(roles.items()):
            content = pam(file) if file.name.lower().endswith(".aux.xml") else _content(file, whole)
            if content:
                digest.update(hashlib.blake2b(role.encode("utf-8", "surrogateescape")).digest())
                digest.update(content)
    except OSError as error:
        raise SceneError(f"The file {error.filename} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def _role(path: Path, file: Path) -> str:
    """What a file is to the image: its name from the image's folder, without the image's own name."""
    return Path(os.path.relpath(file, path.parent)).as_posix().removeprefix(path.stem)


def _content(file: Path, whole: bool) -> bytes:
    size = file.stat().st_size
    with file.open("rb") as opened:
        if whole:
            return hashlib.file_digest(opened, "blake2b").digest()
        digest = hashlib.blake2b(f"{size} {file.stat().st_mtime_ns}".encode())
        for index in range(SAMPLES):
            opened.seek(max(0, size - SAMPLE) * index // (SAMPLES - 1))  # the first is the head, the last the tail
            digest.update(opened.read(SAMPLE))
        return digest.digest()


def pam(file: Path) -> bytes:
    """What an .aux.xml says besides statistics; empty where it says nothing else."""
    text = file.read_bytes()
    try:
        root = ET.fromstring(text)  # noqa: S314
        # ^ expat limits what entities may grow to, and GDAL parses the same file anyway
    except ET.ParseError:
        return hashlib.blake2b(text).digest()
    _prune(root)
    said = ET.canonicalize(ET.tostring(root), strip_text=True)
    return hashlib.blake2b(said.encode()).digest() if len(root) else b""


def _prune(element: ET.Element) -> None:
    for child in list(element):
        _prune(child)
        statistic = child.tag == "MDI" and (child.get("key") or "").startswith("STATISTICS_")
        hollow = child.tag in {"Metadata", "PAMRasterBand"} and len(child) == 0
        if statistic or hollow or child.tag == "Histograms":
            element.remove(child)
