"""Names of scenes that were found and not named, and which names were given already.

A name depends on the scene's own path below the place that was named, and on nothing else that lies there: a new upload
renames no result. Folders are joined by `--`; what a name cannot hold becomes `_`, and then digits of a digest of the
path tell it from others.
"""

from __future__ import annotations

import hashlib
import re
from array import array

from pipeline.raster.naming import scene_name

JOINT = "--"
_DIGITS = 10  # hexadecimal
_LONGEST = 200
_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_UNIT = re.compile(r"\.SAFE$|_MTL\.(?:txt|json|xml)$", re.IGNORECASE)
_FREE, _LOAD = 0, 2  # a table is at least twice as long as what it holds


def name_of(path: str, ending: bool = False, before: str | None = None) -> str:
    """Name a scene after its path, with / between folders, below the place that was named.

    Its ending goes where it is TIFF's, or where a pattern says the same one for all (`ending`). `before` is what the
    place's own name puts before all.
    """
    *folders, last = path.split("/")
    if _UNIT.search(last) or ending:
        last = _UNIT.sub("", last) if _UNIT.search(last) else last.rpartition(".")[0] or last
    parts = [*folders, _TIFF.sub("", last)]
    return safe(JOINT.join(parts), path, any(_unclear(part) for part in parts), before)


def safe(text: str, path: str, unclear: bool = False, before: str | None = None) -> str:
    """The text as a name; with digits of the path's digest where two paths might else have one name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    name = f"_{name[1:]}" if name.startswith(".") else name
    room = _LONGEST - (len(before) + len(JOINT) if before else 0)
    if unclear or name != text or not 0 < len(name) <= room:
        digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=_DIGITS // 2).hexdigest()
        name = f"{name[: room - _DIGITS - 1]}-{digest}"
    return f"{before}{JOINT}{name}" if before else name


def name_by_hand(uri: str, before: str | None = None) -> str:
    """The name of one image that was named: its stem."""
    return f"{before}{JOINT}{scene_name(uri)}" if before else scene_name(uri)


def _unclear(part: str) -> bool:
    return JOINT in part or part[:1] == "-" or part[-1:] == "-"


class Taken:
    """Which names were given, and to what: 16 to 64 bytes for each, whatever its length; a million take 32 MiB.

    Hashes of 64 bits stand for both. Two of a million names have one hash once in 30 million listings, and then a scene
    is refused that need not be.
    """

    def __init__(self) -> None:
        self._names, self._things = _table(1 << 10), _table(1 << 10)
        self._count = 0

    def give(self, name: str, thing: str) -> bool | None:
        """Give a name to a thing: True where it is free, None where this very thing has it, False where another has."""
        key, value = hash(name) & _MASK or 1, hash(thing) & _MASK
        at = self._place(key)
        if self._names[at] != _FREE:
            return None if self._things[at] == value else False
        self._names[at], self._things[at] = key, value
        self._count += 1
        if self._count * _LOAD > len(self._names):
            self._grow()
        return True

    def _place(self, key: int) -> int:
        names, last = self._names, len(self._names) - 1
        at = key & last
        while names[at] not in (_FREE, key):
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        names, things = self._names, self._things
        self._names, self._things = _table(2 * len(names)), _table(2 * len(names))
        for key, value in zip(names, things, strict=True):
            if key != _FREE:
                at = self._place(key)
                self._names[at], self._things[at] = key, value


_MASK = (1 << 64) - 1


def _table(length: int) -> array[int]:
    return array("Q", [_FREE]) * length
