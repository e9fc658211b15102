"""Damage to files, drawn by hypothesis: cuts, flipped bits, moved pieces, huge numbers, loops in directories."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

HUGE = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF0, 65_535, 1 << 28)


@st.composite
def damaged(draw, content):
    """The bytes of a file after one to three accidents."""
    for _ in range(draw(st.integers(1, 3))):
        content = draw(st.sampled_from(ACCIDENTS))(draw, content)
    return content


def _place(draw, content, size=1):
    """Somewhere in the file, as often in its first bytes as anywhere else."""
    last = max(0, len(content) - size)
    return draw(st.one_of(st.integers(0, min(600, last)), st.integers(0, last)))


def _cut(draw, content):
    return content[: _place(draw, content)]


def _flip(draw, content):
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        if found:
            found[_place(draw, found)] ^= 1 << draw(st.integers(0, 7))
    return bytes(found)


def _move(draw, content):
    """Swap two pieces."""
    size = draw(st.integers(1, 64))
    first, second = sorted((_place(draw, content, 2 * size), _place(draw, content, size)))
    one, other = content[first : first + size], content[second : second + size]
    if second - first < size:
        return content
    return content[:first] + other + content[first + size : second] + one + content[second + size :]


def _enlarge(draw, content):
    """Write a number that is too large, or none, over four bytes."""
    at = _place(draw, content, 4)
    order = draw(st.sampled_from("<>"))
    return content[:at] + struct.pack(f"{order}I", draw(st.sampled_from(HUGE))) + content[at + 4 :]


def _entry(draw, content):
    """Change one entry of a TIFF's first directory, or let the directory follow itself."""
    if content[:4] != b"II*\0" or len(content) < 16:
        return _enlarge(draw, content)
    start = struct.unpack_from("<I", content, 4)[0]
    if start + 2 > len(content):
        return _flip(draw, content)
    count = struct.unpack_from("<H", content, start)[0]
    end = start + 2 + 12 * count
    if end + 4 > len(content) or not count:
        return _flip(draw, content)
    if draw(st.booleans()):
        return content[:end] + struct.pack("<I", draw(st.sampled_from((start, 8, 4, end)))) + content[end + 4 :]
    at = start + 2 + 12 * draw(st.integers(0, count - 1)) + draw(st.sampled_from((2, 4, 8)))
    value = draw(st.sampled_from((*HUGE, start)))
    return content[:at] + struct.pack("<I", value) + content[at + 4 :]


ACCIDENTS = (_cut, _flip, _move, _enlarge, _entry)
