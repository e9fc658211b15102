"""Which paths are meant: by a pattern, or without one every image. A path has / between its parts, on any system.

`*`, `?` and `[…]` stand for parts of one name, `**` for any number of folders; what begins with a dot is hidden, unless
the pattern begins so.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from pipeline.raster.naming import IMAGES

ANYWHERE = "**"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, part by part; without parts every image at any depth."""

    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str | None) -> Self:
        """Make one of its text, or of None."""
        return cls(tuple(part for part in text.split("/") if part not in ("", "."))) if text else cls()

    @property
    def says_ending(self) -> bool:
        """Whether all that it matches has one ending."""
        return bool(self.parts) and "." in re.split(r"[*?\]]", self.parts[-1])[-1]

    def takes(self, path: str) -> bool:
        """Whether a file is meant."""
        return self.fits(path) and (self.says_ending or bool(IMAGES.search(path)))

    def fits(self, path: str) -> bool:
        """Whether something is meant that is known to be a scene, whatever its ending."""
        if not self.parts:
            return not any(name.startswith(".") for name in path.split("/"))
        return _matches(path.split("/"), self.parts)

    def enters(self, path: str) -> bool:
        """Whether something in a folder may be meant."""
        names = path.split("/")
        if not self.parts:
            return not names[-1].startswith(".")
        for at, (name, part) in enumerate(zip(names, self.parts, strict=False)):
            if part == ANYWHERE:
                return not names[-1].startswith(".") or any(one.startswith(".") for one in self.parts[at:])
            if not _fits(name, part):
                return False
        return len(names) < len(self.parts)


def split(text: str) -> tuple[str, Pattern]:
    """(the folder that a glob begins in, the rest of it); the folder is "" for the one that one is in."""
    parts = text.split("/")
    fixed = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root = "/".join(parts[:fixed]) or ("/" if text.startswith("/") else "")
    return root, Pattern(tuple(part for part in parts[fixed:] if part not in ("", ".")))


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == ANYWHERE:
        seen = next((at for at, name in enumerate(names) if name.startswith(".")), len(names))
        if len(parts) == 1:
            return 0 < len(names) == seen
        return any(_matches(names[at:], parts[1:]) for at in range(seen + 1))
    return bool(names) and _fits(names[0], parts[0]) and _matches(names[1:], parts[1:])


def _fits(name: str, part: str) -> bool:
    return fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))
