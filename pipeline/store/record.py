"""One block's record: what the worker that did it says, as a line of the journal."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from pipeline.store.objects import Shard

_WIDEST = 2**62  # of a number in a record; no sum of a column's numbers that are right comes near it


class State(IntEnum):
    """What has become of a block."""

    PENDING = 0
    DONE = 1
    NODATA = 2
    FAILED = 3
    OUTSIDE = 4  # no pixel of it lies in the area of interest


@dataclass(frozen=True, slots=True)
class Record:
    """What one block gave and cost.

    Parameters
    ----------
    block
        Its number in the grid.
    state
        DONE, NODATA, OUTSIDE or FAILED; a pending block has no record.
    shards
        What was put, by product.
    counts
        Pixels by value of the mask (classes and statuses).
    area
        Square metres by value of the mask, where pixels differ in area; None where they do not.
    seconds
        By stage: read, predict, blend, write.
    bytes_read
        Bytes decoded from the source.
    peak
        The worker's greatest resident size so far, in bytes.
    attempts
        How often it was tried, this time included.
    reason
        Why it failed; for a failed block, and for no other.
    spread
        (sum, greatest) of the disagreement between the windows that cover its pixels, where it was blended.
    ran
        The numeric class of the worker that did it, where a run may mix several.
    held
        (core in pixels, windows at once) that memory held, where it did not hold those of the plan.

    Raises ValueError where a number is negative, not finite or too large for its column of the fold, or a failed block
    has no reason.

    """

    block: int
    state: State
    shards: Mapping[str, Shard] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    area: Mapping[int, float] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    bytes_read: int = 0
    peak: int = 0
    attempts: int = 1
    reason: str | None = None
    spread: tuple[float, float] | None = None
    ran: str | None = None
    held: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.state is State.PENDING:
            raise ValueError(f"block {self.block} is pending; what is pending has no record")
        if (self.reason is None) == (self.state is State.FAILED):
            raise ValueError(f"block {self.block} is {self.state.name} with the reason {self.reason!r}")
        numbers: list[float] = [self.block, self.bytes_read, self.peak, self.attempts, *self.counts.values()]
        numbers += [*self.seconds.values(), *(self.area or {}).values(), *(self.spread or ())]
        if not (math.isfinite(sum(numbers)) and min(numbers) >= 0):  # one NaN or infinity makes the sum one
            raise ValueError(f"block {self.block} has a number that is negative or not finite: {numbers}")
        if max(numbers) > _WIDEST or max(self.counts.values(), default=0) >= 2**32:
            raise ValueError(f"block {self.block} has a number that no block has: {max(numbers)}")

    def to_line(self) -> bytes:
        """The record as a line of the journal."""
        said: dict[str, Any] = {"block": self.block, "state": self.state.name.lower(), "attempts": self.attempts}
        said["shards"] = {product: list(shard) for product, shard in self.shards.items()}
        said["counts"] = self.counts
        said["seconds"] = {stage: round(spent, 6) for stage, spent in self.seconds.items()}
        said["bytes_read"], said["peak"] = self.bytes_read, self.peak
        optional = {"area": self.area, "reason": self.reason, "spread": self.spread, "ran": self.ran, "held": self.held}
        return to_line(said | {name: value for name, value in optional.items() if value is not None})

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """The record that a line holds; ValueError where the line is damaged or holds something else."""
        return cls.from_dict(from_line(line))

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Record:
        """The record that a line's contents say; ValueError where they say no record."""
        try:
            area, spread, held = said.get("area"), said.get("spread"), said.get("held")
            return cls(
                block=whole(said["block"]),
                state=State[said["state"].upper()],
                shards={product: _shard(*shard) for product, shard in said["shards"].items()},
                counts={int(value): whole(count) for value, count in said["counts"].items()},
                area=None if area is None else {int(value): metres for value, metres in area.items()},
                seconds=said["seconds"],
                bytes_read=whole(said["bytes_read"]),
                peak=whole(said["peak"]),
                attempts=whole(said["attempts"]),
                reason=_text(said.get("reason")),
                spread=None if spread is None else (spread[0], spread[1]),
                ran=_text(said.get("ran")),
                held=None if held is None else (whole(held[0]), whole(held[1])),
            )
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"no record: {error!r}") from error


def whole(value: object) -> int:
    """The value, if it is a whole number that a column holds; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _WIDEST:
        raise ValueError(f"{value!r:.40} is no whole number from 0")
    return value


def _shard(length: object, crc: object) -> Shard:
    if whole(crc) >= 2**32:
        raise ValueError(f"{crc} is no CRC-32")
    return Shard(whole(length), whole(crc))


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")
    return value


def to_line(said: Mapping[str, Any]) -> bytes:
    """JSON on one line, its CRC-32 before it; ValueError where a number is not finite."""
    text = json.dumps(said, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def from_line(line: bytes) -> dict[str, Any]:
    """What a line says; ValueError where a byte of it is not what was written."""
    crc, _, text = line.removesuffix(b"\n").partition(b" ")
    if crc != b"%08x" % zlib.crc32(text):
        raise ValueError("the line's checksum is not that of its text")
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("the line holds no object")
    return said
