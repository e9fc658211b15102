"""The fold of a journal: every block's last record as columns of numbers, and their totals.

A column is a numpy array with a number for each block; columns by product, class or stage are made when the first
record names one. That is about a hundred bytes a block for a mask of a few classes. Totals are sums over columns, in
the order of the blocks, so they do not depend on the order in which blocks were done, nor on what was redone.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.store.objects import Shard, put_whole
from pipeline.store.record import Record, State

Key = TypeVar("Key", bound=Hashable)
MOST_BLOCKS = 2**27  # more than a coordinator's memory holds the columns of


class _Columns(Generic[Key]):
    """Columns by a key, made when first named; what no record names is 0."""

    def __init__(self, blocks: int, dtype: DTypeLike) -> None:
        self._blocks, self._dtype = blocks, np.dtype(dtype)
        self.by_key: dict[Key, NDArray[Any]] = {}

    def set(self, block: int, values: Mapping[Key, float]) -> None:
        for key, value in values.items():
            column = self.by_key.get(key)
            if column is None:
                column = self.by_key[key] = np.zeros(self._blocks, self._dtype)
            column[block] = value

    def clear(self, block: int) -> None:
        for column in self.by_key.values():
            column[block] = 0

    def totals(self) -> dict[Key, Any]:
        wide = np.float64 if self._dtype.kind == "f" else np.int64
        totals = {key: column.sum(dtype=wide).item() for key, column in self.by_key.items()}
        return {key: totals[key] for key in sorted(totals, key=str) if totals[key]}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the run as a whole: when (UTC, ISO 8601), and what."""

    name: str
    time: str
    data: Mapping[str, Any]


class Fold:
    """What is known of every block.

    Parameters
    ----------
    blocks
        How many there are: (down, across), numbered row by row.

    Attributes
    ----------
    events
        What happened to the run, in order.
    damaged
        How many lines of the journal could not be read; the blocks that they told of count as pending.
    reasons
        Why blocks failed, by block.

    """

    def __init__(self, blocks: tuple[int, int]) -> None:
        if min(blocks) < 1:
            raise ValueError(f"a fold has at least one block, not {blocks[0]} × {blocks[1]}")
        if blocks[0] * blocks[1] > MOST_BLOCKS:
            raise ValueError(f"a fold has at most {MOST_BLOCKS} blocks, not {blocks[0]} × {blocks[1]}")
        self.blocks = blocks
        count = blocks[0] * blocks[1]
        self.events: list[Event] = []
        self.damaged = 0
        self.reasons: dict[int, str] = {}
        self._state = np.zeros(count, np.uint8)
        self._attempts = np.zeros(count, np.uint16)
        self._bytes_read = np.zeros(count, np.int64)
        self._peak = np.zeros(count, np.int64)
        self._spread_sum = np.zeros(count, np.float64)
        self._spread_most = np.zeros(count, np.float32)
        self._ran = np.zeros(count, np.uint8)  # the numeric class, from 1; 0 where a run has one
        self._classes: list[str] = []
        self._lengths: _Columns[str] = _Columns(count, np.int64)
        self._crcs: _Columns[str] = _Columns(count, np.uint32)
        self._counts: _Columns[int] = _Columns(count, np.uint32)
        self._area: _Columns[int] = _Columns(count, np.float64)
        self._seconds: _Columns[str] = _Columns(count, np.float32)
        self._held: _Columns[tuple[int, int]] = _Columns(count, np.uint8)

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._state)

    def add(self, record: Record) -> None:
        """Take a block's record in place of what was known of it. Raises ValueError where there is no such block."""
        block = record.block
        self.remove(block)
        self._state[block] = record.state
        self._attempts[block] = min(record.attempts, 65535)
        self._bytes_read[block] = record.bytes_read
        self._peak[block] = record.peak
        self._spread_sum[block], self._spread_most[block] = record.spread or (0.0, 0.0)
        self._lengths.set(block, {product: shard.length for product, shard in record.shards.items()})
        self._crcs.set(block, {product: shard.crc for product, shard in record.shards.items()})
        self._counts.set(block, record.counts)
        self._area.set(block, record.area or {})
        self._seconds.set(block, record.seconds)
        self._held.set(block, {record.held: 1} if record.held else {})
        if record.reason is not None:
            self.reasons[block] = record.reason
        if record.ran is not None:
            if record.ran not in self._classes:
                self._classes.append(record.ran)
            self._ran[block] = 1 + self._classes.index(record.ran)

    def remove(self, block: int) -> None:
        """Forget a block: it is pending again. Raises ValueError where there is no such block."""
        if not 0 <= block < len(self):
            raise ValueError(f"there is no block {block}: there are {len(self)}")
        if not self._state[block]:
            return  # it is pending: nothing was known of it
        for column in self._single().values():
            column[block] = 0
        for columns in (self._lengths, self._crcs, self._counts, self._area, self._seconds, self._held):
            columns.clear(block)
        self.reasons.pop(block, None)

    def state(self, block: int) -> State:
        """A block's state."""
        return State(int(self._state[block]))

    def attempts(self, block: int) -> int:
        """How often a block was tried; 0 for a pending one."""
        return int(self._attempts[block])

    def shards(self, block: int) -> dict[str, Shard]:
        """What a block put, by product; (0, 0) for a shard without a file."""
        lengths, crcs = self._lengths.by_key, self._crcs.by_key
        return {product: Shard(int(lengths[product][block]), int(crcs[product][block])) for product in lengths}

    def of(self, state: State) -> NDArray[np.intp]:
        """The blocks in a state, in order."""
        return np.flatnonzero(self._state == state)

    def tally(self) -> dict[State, int]:
        """How many blocks are in each state."""
        counts = np.bincount(self._state, minlength=len(State))
        return {state: int(counts[state]) for state in State}

    @property
    def counts(self) -> dict[int, int]:
        """Pixels by value of the mask."""
        return self._counts.totals()

    @property
    def area(self) -> dict[int, float]:
        """Square metres by value of the mask; empty where no block said so."""
        return self._area.totals()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, summed over blocks."""
        return self._seconds.totals()

    @property
    def bytes_read(self) -> int:
        """Bytes decoded from the source."""
        return int(self._bytes_read.sum())

    @property
    def bytes_written(self) -> int:
        """Bytes of all shards."""
        return sum(self._lengths.totals().values())

    @property
    def peak(self) -> int:
        """The greatest resident size that a worker reported, in bytes."""
        return int(self._peak.max())

    @property
    def spread(self) -> tuple[float, float]:
        """(sum, greatest) of the disagreement between windows over all pixels."""
        return float(self._spread_sum.sum()), float(self._spread_most.max())

    @property
    def ran(self) -> dict[str, int]:
        """How many blocks were done by workers of each numeric class, where a run may mix several."""
        return {name: int((self._ran == number).sum()) for number, name in enumerate(self._classes, 1)}

    @property
    def held(self) -> dict[tuple[int, int], int]:
        """How many blocks were done with (core in pixels, windows at once), where memory did not hold the plan's."""
        return self._held.totals()

    def save(self, path: Path) -> None:
        """Write the columns as arrays of (blocks down, blocks across) into an .npz file, whole."""
        arrays = self._single()
        for kind, columns in (
            ("length", self._lengths),
            ("crc", self._crcs),
            ("count", self._counts),
            ("area", self._area),
            ("seconds", self._seconds),
        ):
            arrays |= {f"{kind}_{key}": column for key, column in columns.by_key.items()}
        content = io.BytesIO()
        shaped: dict[str, Any] = {name: array.reshape(self.blocks) for name, array in arrays.items()}
        np.savez_compressed(content, **shaped)
        put_whole(path, content.getvalue())

    def _single(self) -> dict[str, NDArray[Any]]:
        return {
            "state": self._state,
            "attempts": self._attempts,
            "bytes_read": self._bytes_read,
            "peak": self._peak,
            "spread_sum": self._spread_sum,
            "spread_most": self._spread_most,
            "ran": self._ran,
        }
