"""HDF5 files, of which NetCDF 4 is a kind, may keep data in other files: looked for here, by the HDF5 that GDAL has.

External links, external storage and virtual datasets name files by any path; nothing in GDAL keeps them at home.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import rasterio._base

from pipeline.errors import SceneError

_READ_ONLY, _DEFAULT, _BY_NAME, _NATIVE = 0, 0, 0, 2
_HARD, _SOFT = 0, 1  # kinds of links that stay in the file (H5Lpublic.h)
_DATASET, _VIRTUAL = 5, 3  # H5I_DATASET (H5Ipublic.h), H5D_VIRTUAL (H5Dpublic.h)
_hid = ctypes.c_int64
_VISITOR = ctypes.CFUNCTYPE(ctypes.c_int, _hid, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)


def refuse_outward(path: Path) -> None:
    """Raise SceneError where the file cannot be looked through, or keeps data in other files."""
    library = _library()
    file = library.H5Fopen(str(path).encode(), _READ_ONLY, _DEFAULT)
    if file < 0:
        raise SceneError(f"The file {path} cannot be opened as HDF5, it may be cut short: fetch it again.")
    found: list[str] = []

    def visit(group: int, name: bytes, kind: Sequence[int], _data: object) -> int:
        # ^ `kind` points to an H5L_info_t, whose first member is the link's type
        if kind[0] not in {_HARD, _SOFT} or (kind[0] == _HARD and _keeps_elsewhere(library, group, name)):
            found.append(name.decode("utf-8", "replace"))
        return len(found)  # not 0 ends the visit

    visited = library.H5Lvisit2(file, _BY_NAME, _NATIVE, _VISITOR(visit), None)
    library.H5Fclose(file)
    if found:
        raise SceneError(
            f"The file {path} keeps `{found[0]}` in another file, and containers are read only where all lies in them: "
            "write it anew as one file (h5repack does, or nccopy)."
        )
    if visited < 0:
        raise SceneError(f"The file {path} cannot be looked through as HDF5, it may be damaged: fetch it again.")


def _keeps_elsewhere(library: ctypes.CDLL, group: int, name: bytes) -> bool:
    thing = library.H5Oopen(group, name, _DEFAULT)
    if thing < 0:
        return False  # nothing that could be read either
    made = library.H5Dget_create_plist(thing) if library.H5Iget_type(thing) == _DATASET else -1
    outward = made >= 0 and (library.H5Pget_external_count(made) != 0 or library.H5Pget_layout(made) == _VIRTUAL)
    if made >= 0:
        library.H5Pclose(made)
    library.H5Oclose(thing)
    return bool(outward)


@cache
def _library() -> ctypes.CDLL:
    """The HDF5 that GDAL is linked against; silent, for what it cannot read is said here."""
    library = ctypes.CDLL(rasterio._base.__file__)
    number, text = ctypes.c_int, ctypes.c_char_p
    signatures: dict[str, tuple[type | None, tuple[type, ...]]] = {
        "H5Fopen": (_hid, (text, ctypes.c_uint, _hid)),
        "H5Fclose": (number, (_hid,)),
        "H5Lvisit2": (number, (_hid, number, number, _VISITOR, ctypes.c_void_p)),
        "H5Oopen": (_hid, (_hid, text, _hid)),
        "H5Oclose": (number, (_hid,)),
        "H5Iget_type": (number, (_hid,)),
        "H5Dget_create_plist": (_hid, (_hid,)),
        "H5Pget_external_count": (number, (_hid,)),
        "H5Pget_layout": (number, (_hid,)),
        "H5Pclose": (number, (_hid,)),
        "H5Eset_auto2": (number, (_hid, ctypes.c_void_p, ctypes.c_void_p)),
    }
    for name, (result, arguments) in signatures.items():
        function: Callable[..., Any] = getattr(library, name)
        function.restype, function.argtypes = result, arguments  # type: ignore[attr-defined]
    library.H5Eset_auto2(0, None, None)
    return library
