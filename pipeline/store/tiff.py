"""Where a TIFF says its tiles lie: so much of the format as moves tiles, as they are, from one file into another.

A TIFF is a list of images, each a list of entries: tag, type, count, and the values or where they lie (TIFF 6.0; a
BigTIFF has wider numbers). Two tags say, in the order of the tiles, where each begins and how many bytes it has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _OFFSETS, _COUNTS = 256, 257, 322, 323, 324, 325
_TYPES = {3: "u2", 4: "u4", 16: "u8"}
_BIG = 43  # where an ordinary TIFF says 42


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array of numbers in a file: where it begins, of which type (numpy's name, with the byte order), how many."""

    at: int
    kind: str
    count: int

    def read(self, file: BinaryIO) -> NDArray[np.uint64]:
        """The numbers."""
        file.seek(self.at)
        return np.frombuffer(file.read(self.count * np.dtype(self.kind).itemsize), self.kind).astype(np.uint64)

    def write(self, file: BinaryIO, numbers: NDArray[np.uint64]) -> None:
        """Put other numbers in their place; ValueError where they are not as many, or too large for their type."""
        if len(numbers) != self.count or numbers.max(initial=0) > np.iinfo(self.kind).max:
            raise ValueError(f"{len(numbers)} numbers up to {numbers.max(initial=0)} do not fit into {self}")
        file.seek(self.at)
        file.write(numbers.astype(self.kind).tobytes())


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a TIFF: its size (rows, columns), that of its tiles, and what says where the tiles lie."""

    size: tuple[int, int]
    tile: tuple[int, int]
    offsets: Numbers
    counts: Numbers

    @property
    def across(self) -> int:
        """How many tiles there are in a row."""
        return -(-self.size[1] // self.tile[1])


def images(file: BinaryIO) -> list[Image]:
    """All tiled images of a TIFF, in the file's order. Raises KeyError where one has strips, struct.error if cut."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", head, 2)[0] == _BIG
    at = struct.unpack_from(f"{order}Q", head, 8)[0] if big else struct.unpack_from(f"{order}I", head, 4)[0]
    found = []
    while at:
        entries, at = _entries(file, at, order, big)
        sides = {tag: int(entries[tag].read(file)[0]) for tag in (_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH)}
        size, tile = (sides[_LENGTH], sides[_WIDTH]), (sides[_TILE_LENGTH], sides[_TILE_WIDTH])
        found.append(Image(size, tile, entries[_OFFSETS], entries[_COUNTS]))
    return found


def _entries(file: BinaryIO, at: int, order: str, big: bool) -> tuple[dict[int, Numbers], int]:
    """The entries of an image that hold whole numbers, by tag, and where the next image begins; 0 after the last."""
    counted, entry, word = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    word_size = struct.calcsize(f"={word}")
    size = struct.calcsize(f"={entry}") + word_size
    file.seek(at)
    (count,) = struct.unpack(f"{order}{counted}", file.read(struct.calcsize(f"={counted}")))
    first = file.tell()
    table = file.read(count * size + word_size)
    found = {}
    for number in range(count):
        tag, kind, length = struct.unpack_from(f"{order}{entry}", table, number * size)
        if kind in _TYPES:
            inside = length * np.dtype(_TYPES[kind]).itemsize <= word_size
            here = first + (number + 1) * size - word_size
            (there,) = struct.unpack_from(f"{order}{word}", table, (number + 1) * size - word_size)
            found[tag] = Numbers(here if inside else there, f"{order}{_TYPES[kind]}", length)
    (following,) = struct.unpack_from(f"{order}{word}", table, count * size)
    return found, following
