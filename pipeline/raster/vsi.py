"""GDAL's own file system, for what rasterio does not show of it: the bytes of a file at an address, and its headers.

Nothing is fetched whole: a head, a tail, and what the server says of the file. Call these inside
`access.environment(uri)`, which bounds how long a server may take.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import rasterio._base

from pipeline.errors import SceneError
from pipeline.raster.address import shown

_SET, _END = 0, 2  # SEEK_SET, SEEK_END


def ends(name: str, size: int) -> tuple[int, bytes, bytes]:
    """(length of the file, its first bytes, its last bytes), at most `size` of each.

    Raises SceneError, with what the server said, where it cannot be read.
    """
    with _opened(name) as file:
        length = _length(file)
        return length, _read(file, 0, min(size, length)), _read(file, max(0, length - size), min(size, length))


def head(name: str, size: int) -> bytes:
    """The first bytes of a file. Raises SceneError like `ends`."""
    with _opened(name) as file:
        return _read(file, 0, size)


def said_by_server(name: str) -> dict[str, str]:
    """What a server's answer says of a file, keys in lower case; empty where there is no server."""
    found = _library().VSIGetFileMetadata(name.encode(), b"HEADERS", None)
    lines: list[str] = []
    while found and found[len(lines)]:
        lines.append(found[len(lines)].decode("latin-1"))
    _library().CSLDestroy(found)
    return {key.lower(): value for key, mark, value in (line.partition("=") for line in lines) if mark}


@cache
def _library() -> ctypes.CDLL:
    """The GDAL that rasterio itself is linked against."""
    library = ctypes.CDLL(rasterio._base.__file__)
    pointer, text, long = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64
    for name, result, arguments in (
        ("VSIFOpenExL", pointer, (text, text, ctypes.c_int)),
        ("VSIFCloseL", ctypes.c_int, (pointer,)),
        ("VSIFSeekL", ctypes.c_int, (pointer, long, ctypes.c_int)),
        ("VSIFTellL", long, (pointer,)),
        ("VSIFReadL", ctypes.c_size_t, (pointer, ctypes.c_size_t, ctypes.c_size_t, pointer)),
        ("VSIGetFileMetadata", ctypes.POINTER(text), (text, text, pointer)),
        ("CSLDestroy", None, (ctypes.POINTER(text),)),
        ("CPLErrorReset", None, ()),
        ("VSIErrorReset", None, ()),
        ("CPLGetLastErrorMsg", text, ()),
        ("VSIGetLastErrorMsg", text, ()),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@contextmanager
def _opened(name: str) -> Iterator[int]:
    library = _library()
    library.CPLErrorReset()
    library.VSIErrorReset()
    file = library.VSIFOpenExL(name.encode(), b"rb", 1)
    if not file:
        raise SceneError(f"The image {shown(name)} cannot be reached: {_why()}.")
    try:
        yield file
    finally:
        library.VSIFCloseL(file)


def _length(file: int) -> int:
    _library().VSIFSeekL(file, 0, _END)
    return int(_library().VSIFTellL(file))


def _read(file: int, start: int, size: int) -> bytes:
    into = ctypes.create_string_buffer(size)
    _library().VSIFSeekL(file, start, _SET)
    got = _library().VSIFReadL(into, 1, size, file)
    return into.raw[:got]


def _why() -> str:
    """What GDAL noted of the last failure, in words."""
    whole, short = (
        said.decode("utf-8", "replace")
        for said in (_library().CPLGetLastErrorMsg() or b"", _library().VSIGetLastErrorMsg() or b"")
    )
    if re.search(r"HTTP response code on .*: 0$", whole):
        return "no server answers there"
    text = " ".join((short or whole or "there is no such file").split()).rstrip(".")
    return shown(text.split(" - ")[0].removeprefix("CURL error: "))
