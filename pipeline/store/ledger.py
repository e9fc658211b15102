"""The ledger: which blocks are done. A journal beside the mask, with one writer, the coordinator.

    journal.jsonl       crc32hex SPACE json NEWLINE, a line for each
                        header    the first line: the grid of blocks, and what the run says of itself
                        record    a block was done, found empty, or failed; it replaces the block's earlier record
                        remove    a block is pending again, because its shard was lost or damaged
                        event     something happened to the run as a whole: it was resumed, published, …

A line is appended after the worker has synced the block's shards; lines are synced within a second, or 64 at a time.
What a kill can cost is the lost tail: blocks that were done and are done again. A damaged line in the middle costs its
own block; what a line says is believed only if its checksum agrees.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import IdentityError, LeaseError, MaskmillError
from pipeline.store.fold import Event, Fold
from pipeline.store.objects import insist, put_if_absent, sentences
from pipeline.store.record import Record, from_line, to_line, whole

JOURNAL = "journal.jsonl"
FORMAT = 1  # of the journal; its first line says it, and a line without it is of the first
FLUSH_LINES = 64
FLUSH_SECONDS = 1.0


class Ledger:
    """A journal open for appending, and its fold. Made by `create` or `resume`; closed by `close` or `with`.

    Appending is safe from many threads of one process; that no other process appends is the lease's business.
    """

    def __init__(self, path: Path, header: dict[str, Any], fold: Fold, end: int) -> None:
        self.path, self.header, self.fold = path, header, fold
        self._end = end  # bytes of whole lines in the file
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()
        self._refused = False
        self._torn = False  # whether part of a line may lie behind the end
        self._closing = threading.Event()
        with sentences(path):
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._timer = threading.Thread(target=self._flush_each_second, name="ledger", daemon=True)
        self._timer.start()

    @classmethod
    def create(cls, folder: Path, blocks: tuple[int, int], header: Mapping[str, Any]) -> Ledger:
        """Start a journal in a folder that has none.

        Parameters
        ----------
        folder
            The ledger's folder; made as needed.
        blocks
            How many blocks there are: (down, across).
        header
            What the run says of itself, such as its identity; JSON.

        Raises IdentityError where a journal is there already.

        """
        fold, line = Fold(blocks), to_line({"format": FORMAT, "header": dict(header), "blocks": list(blocks)})
        path = folder / JOURNAL
        if not put_if_absent(path, line):
            raise IdentityError(f"{path} is there already: resume it, or run with --overwrite.")
        return cls(path, dict(header), fold, len(line))

    @classmethod
    def resume(cls, folder: Path) -> Ledger:
        """Open a journal to go on with. A torn tail is cut off; damaged lines before it are skipped and counted.

        Raises IdentityError where there is no journal, or its header cannot be read.
        """
        path = folder / JOURNAL
        header, fold, end = _read(path)
        with sentences(path):
            if path.stat().st_size > end:
                os.truncate(path, end)
        return cls(path, header, fold, end)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Take a block's record: into the fold now, onto the disk within a second.

        Raises RoomError where the disk is full, SettingsError for other refusals, both as `insist` does, LeaseError
        where another process has written to the journal. What was refused waits, and the next call tries again.
        """
        line = record.to_line()
        with self._lock:
            self.fold.add(record)
            self._wait(line)

    def remove(self, block: int) -> None:
        """Make a block pending again. Raises like `append`."""
        with self._lock:
            self.fold.remove(block)
            self._wait(to_line({"remove": block}))

    def event(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Note that something happened to the run as a whole, and have it on the disk. Raises like `append`."""
        event = Event(name, datetime.now(UTC).isoformat(timespec="seconds"), dict(data or {}))
        with self._lock:
            self.fold.events.append(event)
            self._wait(to_line({"event": event.name, "time": event.time, "data": event.data}))
            self._flush()

    def flush(self) -> None:
        """Have every line on the disk. Raises like `append`."""
        with self._lock:
            self._flush()

    def close(self, patience: float | None = None) -> None:
        """Flush and let go of the file; a second time does nothing. Raises like `append`, after so many seconds."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._timer.join()
        try:
            with self._lock:
                self._flush(patience)
        finally:
            os.close(self._file)

    def _wait(self, line: bytes) -> None:
        if self._closing.is_set():
            raise ValueError(f"{self.path} is closed")
        self._waiting.append(line)
        if self._refused or len(self._waiting) >= FLUSH_LINES:
            self._flush()

    def _flush(self, patience: float | None = None) -> None:
        """Append what waits, and sync. Where the disk refuses, the file keeps its whole lines and the rest waits on."""
        if not self._waiting:
            return
        lines = b"".join(self._waiting)
        insist(self.path, lambda: self._put(lines), patience)
        self._end += len(lines)
        self._waiting.clear()

    def _put(self, lines: bytes) -> None:
        again, self._refused = self._refused, True  # until it is written
        if again:
            self._reopen()
        self._check_alone()
        try:
            written = 0
            while written < len(lines):
                written += os.write(self._file, lines[written:])
            os.fsync(self._file)
        except OSError:
            self._torn = True
            self._cut()
            raise
        self._refused = False

    def _reopen(self) -> None:
        """A handle that a file server has forgotten (ESTALE) stays refused for good."""
        again = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        with suppress(OSError):
            os.close(self._file)
        self._file = again
        if self._torn:
            self._cut()

    def _cut(self) -> None:
        os.ftruncate(self._file, self._end)
        self._torn = False

    def _check_alone(self) -> None:
        size = os.fstat(self._file).st_size
        if size != self._end:
            raise LeaseError(
                f"{self.path} has {size} bytes where this run left {self._end}: another run writes to it; stop one."
            )

    def _flush_each_second(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            with self._lock, suppress(MaskmillError):  # the next append tries again, and raises in its caller's thread
                self._flush(patience=0)


def read_ledger(folder: Path) -> tuple[dict[str, Any], Fold]:
    """The header and the fold of a journal, read without touching it: a run may be appending to it.

    Raises IdentityError where there is no journal, or its header cannot be read.
    """
    header, fold, _ = _read(folder / JOURNAL)
    return header, fold


def _read(path: Path) -> tuple[dict[str, Any], Fold, int]:
    """Header, fold, and where the last whole line ends; damaged lines after that are a torn tail and not counted."""
    lines = _lines(path)
    _, first = next(lines, (0, b""))
    try:
        said = from_line(first)
        _demand_format(path, said)
        header, fold = dict(said["header"]), Fold((said["blocks"][0], said["blocks"][1]))
    except (ValueError, KeyError, TypeError, IndexError, MemoryError):
        raise IdentityError(
            f"{path} does not begin with a header that can be read, so it is not known what result this folder holds: "
            "run with --overwrite to make it anew."
        ) from None
    end, damaged = len(first), 0
    for position, line in lines:
        try:
            if not line.endswith(b"\n"):
                break  # torn, or being written
            _take(fold, from_line(line))
        except ValueError:
            damaged += 1
            continue
        end = position + len(line)
        fold.damaged, damaged = fold.damaged + damaged, 0
    return header, fold, end


def _demand_format(path: Path, first: Mapping[str, Any]) -> None:
    if (told := first.get("format", 1)) != FORMAT:
        raise IdentityError(
            f"{path} is of format {told!r} and this version reads {FORMAT}: use the version that wrote it, or another "
            "--out; --overwrite builds the result anew beside it."
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(position, line) of each line of a file."""
    try:
        with path.open("rb") as file:
            position = 0
            for line in file:
                yield position, line
                position += len(line)
    except FileNotFoundError:
        raise IdentityError(f"{path} is missing: this folder holds no result of maskmill, or not yet.") from None
    except OSError as error:
        raise IdentityError(f"{path} cannot be read ({error.strerror}).") from error


def _event(said: Mapping[str, Any]) -> Event:
    name, time, data = said["event"], said["time"], said["data"]
    if not (isinstance(name, str) and isinstance(time, str) and isinstance(data, dict)):
        raise ValueError(f"no event: {name!r} at {time!r}")
    datetime.fromisoformat(time)
    return Event(name, time, data)


def _take(fold: Fold, said: Mapping[str, Any]) -> None:
    """Fold one line; ValueError where it says nothing that is known, as a line damaged before its checksum was made."""
    try:
        if "remove" in said:
            fold.remove(whole(said["remove"]))
        elif "event" in said:
            fold.events.append(_event(said))
        else:
            fold.add(Record.from_dict(said))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no line of a journal: {error!r}") from error
