"""The journal: whatever a kill or a bad disk leaves of it, what it says is true, and what it lost is only pending."""

from __future__ import annotations

import errno
import math
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import IdentityError, LeaseError, RoomError
from pipeline.store.fold import Fold
from pipeline.store.ledger import JOURNAL, Ledger, read_ledger
from pipeline.store.objects import Shard
from pipeline.store.record import Record, State, from_line, to_line
from tests.faults import FOR_EVER, flaky, in_python

BLOCKS = (3, 4)
HEADER = {"identity": "abc", "name": "ä scene"}

seconds = st.floats(0, 1e4).map(lambda value: float(np.float32(value)))


@st.composite
def records(draw):
    state = draw(st.sampled_from([State.DONE, State.NODATA, State.FAILED]))
    values = st.sampled_from([0, 1, 252, 253, 255])
    return Record(
        block=draw(st.integers(0, 11)),
        state=state,
        shards={
            name: Shard(draw(st.integers(0, 2**40)), draw(st.integers(0, 2**32 - 1)))
            for name in draw(st.sets(st.sampled_from(["mask", "confidence"])))
        },
        counts=draw(st.dictionaries(values, st.integers(0, 2**24), max_size=3)),
        area=draw(st.none() | st.dictionaries(values, st.floats(0, 1e12), max_size=3)),
        seconds={
            stage: round(draw(seconds), 6) for stage in draw(st.sets(st.sampled_from(["read", "predict", "write"])))
        },
        bytes_read=draw(st.integers(0, 2**40)),
        peak=draw(st.integers(0, 2**40)),
        attempts=draw(st.integers(1, 9)),
        reason=draw(st.text('a"\\é\n\u2028', min_size=1)) if state is State.FAILED else None,
        spread=draw(st.none() | st.tuples(st.floats(0, 1e9), st.floats(0, 1, width=32))),
        held=draw(st.none() | st.tuples(st.sampled_from([64, 128]), st.integers(1, 2))),
    )


steps = st.lists(records() | st.integers(0, 11) | st.sampled_from(["resumed", "ä\n"]), max_size=30)


def take(ledger, step):
    """Do to a ledger what a drawn step says: a record, a removal or an event."""
    if isinstance(step, Record):
        ledger.append(step)
    elif isinstance(step, int):
        ledger.remove(step)
    else:
        ledger.event(step, {"n": 1})


def naive(steps_taken):
    """What a fold must say, from a dict of the last record of each block."""
    last = {}
    for step in steps_taken:
        if isinstance(step, Record):
            last[step.block] = step
        elif isinstance(step, int):
            last.pop(step, None)
    return last


def agree(fold, last):
    assert {block: fold.state(block) for block in range(len(fold)) if fold.state(block)} == {
        block: record.state for block, record in last.items()
    }
    assert fold.reasons == {block: record.reason for block, record in last.items() if record.reason is not None}
    assert fold.tally()[State.PENDING] == len(fold) - len(last)
    assert fold.of(State.FAILED).tolist() == sorted(b for b, record in last.items() if record.state is State.FAILED)
    for block, record in last.items():
        assert fold.attempts(block) == record.attempts
        assert {name: shard for name, shard in fold.shards(block).items() if shard != (0, 0)} == {
            name: shard for name, shard in record.shards.items() if shard != (0, 0)
        }
    for name in ("counts", "area", "seconds"):
        sums = {}
        for _, record in sorted(last.items()):
            for key, value in (getattr(record, name) or {}).items():
                sums[key] = sums.get(key, 0) + value
        assert getattr(fold, name) == pytest.approx({key: value for key, value in sums.items() if value}, rel=1e-6)
    assert fold.bytes_read == sum(record.bytes_read for record in last.values())
    assert fold.bytes_written == sum(shard.length for record in last.values() for shard in record.shards.values())
    assert fold.peak == max((record.peak for record in last.values()), default=0)
    assert fold.held == Counter(record.held for record in last.values() if record.held)
    spreads = [record.spread for record in last.values() if record.spread]
    assert fold.spread == (pytest.approx(sum(s for s, _ in spreads)), max((most for _, most in spreads), default=0))


def same(one, other):
    """Whether two folds say the same, down to the bytes of their columns."""
    with tempfile.TemporaryDirectory() as folder:
        saved = []
        for number, fold in enumerate((one, other)):
            fold.save(Path(folder) / f"{number}.npz")
            saved.append(dict(np.load(Path(folder) / f"{number}.npz")))
    nothing = np.zeros(one.blocks)
    names = saved[0].keys() | saved[1].keys()
    return one.reasons == other.reasons and all(
        np.array_equal(saved[0].get(name, nothing), saved[1].get(name, nothing)) for name in names
    )


@settings(deadline=None)
@given(records())
def test_a_record_survives_its_line(record):
    line = record.to_line()
    assert line.count(b"\n") == 1
    assert Record.from_line(line) == record


@settings(deadline=None)
@given(records(), st.data())
def test_a_line_with_one_wrong_byte_is_refused(record, data):
    line = record.to_line()
    position, wrong = data.draw(st.integers(0, len(line) - 2)), data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"checksum|Expecting|no object"):
        from_line(line[:position] + bytes([line[position] ^ wrong]) + line[position + 1 :])


@settings(max_examples=40, deadline=None)
@given(steps)
def test_the_fold_is_that_of_a_dict(steps_taken):
    with tempfile.TemporaryDirectory() as folder:
        with Ledger.create(Path(folder), BLOCKS, HEADER) as ledger:
            for step in steps_taken:
                take(ledger, step)
            agree(ledger.fold, naive(steps_taken))
        header, fold = read_ledger(Path(folder))
    assert header == HEADER
    assert fold.damaged == 0
    agree(fold, naive(steps_taken))
    assert same(fold, ledger.fold)
    assert [event.name for event in fold.events] == [step for step in steps_taken if isinstance(step, str)]


@settings(max_examples=30, deadline=None)
@given(st.lists(records(), max_size=12), st.randoms())
def test_totals_do_not_depend_on_the_order(done, random):
    last = list(naive(done).values())
    one, other = Fold(BLOCKS), Fold(BLOCKS)
    for record in last:
        one.add(record)
    random.shuffle(last)
    for record in last:
        other.add(record)
    for name in ("counts", "area", "seconds", "bytes_read", "spread"):
        assert repr(getattr(one, name)) == repr(getattr(other, name))


def some(count=6):
    """Records of several lengths."""
    return [
        Record(block, State.FAILED, reason="why " * block)
        if block % 3 == 2
        else Record(block, State.DONE, {"mask": Shard(10**block, block)}, {0: block}, seconds={"read": 0.5})
        for block in range(count)
    ]


def journal_of(folder, done):
    with Ledger.create(folder, BLOCKS, HEADER) as ledger:
        for record in done:
            ledger.append(record)
    return (folder / JOURNAL).read_bytes()


def test_a_journal_cut_at_any_byte_goes_on_from_a_prefix(tmp_path):
    done = some(4)
    whole = journal_of(tmp_path / "whole", done)
    lines = whole.splitlines(keepends=True)
    for cut in range(len(lines[0]), len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(whole[:cut])
        kept = sum(1 for end in np.cumsum([len(line) for line in lines])[1:] if end <= cut)
        agree(read_ledger(folder)[1], naive(done[:kept]))
        assert (folder / JOURNAL).read_bytes() == whole[:cut]  # reading changes nothing
        with Ledger.resume(folder) as ledger:
            agree(ledger.fold, naive(done[:kept]))
            for record in done[kept:]:
                ledger.append(record)
        assert (folder / JOURNAL).read_bytes() == whole


def test_a_journal_without_a_whole_header_is_refused(tmp_path):
    whole = journal_of(tmp_path / "whole", some())
    header = whole.splitlines(keepends=True)[0]
    for number, content in enumerate([b"", header[:-2], b"x" + whole[1:], to_line({"header": {}, "blocks": [0, 2]})]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(content)
        with pytest.raises(IdentityError, match="does not begin with a header"):
            Ledger.resume(folder)
    with pytest.raises(IdentityError, match="is missing"):
        read_ledger(tmp_path / "nowhere")


def test_a_wrong_byte_in_the_middle_loses_that_line_alone(tmp_path):
    done = some()
    whole = journal_of(tmp_path, done)
    lines = whole.splitlines(keepends=True)
    starts = np.cumsum([0, *(len(line) for line in lines)])
    for number in range(1, len(lines) - 1):
        for position in range(starts[number], starts[number + 1] - 1):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            (tmp_path / JOURNAL).write_bytes(damaged)
            _, fold = read_ledger(tmp_path)
            assert fold.damaged == 1
            agree(fold, naive([record for record in done if record.block != number - 1]))
    Ledger.resume(tmp_path).close()
    assert (tmp_path / JOURNAL).read_bytes() == damaged  # a run goes on after the damage


def test_damage_at_the_end_is_a_torn_tail(tmp_path):
    done = some()
    whole = journal_of(tmp_path, done)
    (tmp_path / JOURNAL).write_bytes(whole + b"garbage\n" + bytes(100) + b"\nmore")
    with Ledger.resume(tmp_path) as ledger:
        assert ledger.fold.damaged == 0
        agree(ledger.fold, naive(done))
    assert (tmp_path / JOURNAL).read_bytes() == whole


WRONG = (
    {"block": 0.5},
    {"block": "0"},
    {"attempts": 10**30},
    {"peak": 1e300},
    {"counts": {"0": 2**32}},
    {"counts": {"0": "1"}},
    {"seconds": {"read": 1e39}},
    {"area": {"0": 10**400}},
    {"shards": {"mask": [1, 2**32]}},
    {"shards": {"mask": ["a", 1]}},
    {"shards": 3},
    {"ran": 1},
    {"held": [1, "a"]},
)


def said_of(block):
    return from_line(some(3)[block].to_line())


def test_a_header_with_more_blocks_than_any_memory_holds_is_refused(tmp_path):
    for blocks in ([2**40, 2**40], [10**400, 1], [0.5, 2], ["a", "b"], [-1, -1]):
        (tmp_path / JOURNAL).write_bytes(to_line({"format": 1, "header": {}, "blocks": blocks}))
        with pytest.raises(IdentityError, match="does not begin with a header"):
            read_ledger(tmp_path)


def test_a_line_nested_too_deeply_is_no_line():
    text = b"[" * 100_000
    with pytest.raises(ValueError, match="nested too deeply"):
        from_line(b"%08x %b\n" % (zlib.crc32(text), text))


def test_lines_that_say_nothing_known_are_damage(tmp_path):
    whole = journal_of(tmp_path, some(2))
    strange = [
        {"block": 99},
        {"remove": 12},
        {"remove": "x"},
        {"event": "x"},
        {"block": 1, "state": "odd"},
        {"header": {}},
        {"remove": 0.5},
        {"event": "x", "time": "2026-05-01T00:00:00+00:00", "data": []},
        {"event": [], "time": "2026-05-01T00:00:00+00:00", "data": {}},
        {"event": "x", "time": "yesterday", "data": {}},
        *(said_of(2) | wrong for wrong in WRONG),
    ]
    lines = b"".join(to_line(said) for said in strange)
    (tmp_path / JOURNAL).write_bytes(whole + lines + b"00000000 []\n" + some(3)[2].to_line())
    _, fold = read_ledger(tmp_path)
    assert fold.damaged == len(strange) + 1
    agree(fold, naive(some(3)))


def test_a_second_journal_in_a_folder_is_refused(tmp_path):
    whole = journal_of(tmp_path, some())
    with pytest.raises(IdentityError, match="is there already"):
        Ledger.create(tmp_path, BLOCKS, HEADER)
    assert (tmp_path / JOURNAL).read_bytes() == whole


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": State.PENDING},
        {"state": State.FAILED},
        {"reason": "but done"},
        {"seconds": {"read": math.nan}},
        {"area": {0: math.inf}},
        {"counts": {0: -1}},
        {"spread": (0.0, math.nan)},
        {"block": -1},
    ],
    ids=str,
)
def test_a_record_has_laws(wrong):
    with pytest.raises(ValueError, match="block"):
        Record(**({"block": 0, "state": State.DONE} | wrong))


def test_no_number_that_is_not_finite_is_written(tmp_path):
    with Ledger.create(tmp_path, BLOCKS, HEADER) as ledger, pytest.raises(ValueError, match="not JSON compliant"):
        ledger.event("odd", {"value": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Ledger.create(tmp_path / "other", BLOCKS, {"value": math.inf})
    assert not (tmp_path / "other").exists()


def test_blocks_that_are_not_there_are_refused(tmp_path):
    with Ledger.create(tmp_path, BLOCKS, HEADER) as ledger:
        for block in (12, 99):
            with pytest.raises(ValueError, match="there are 12"):
                ledger.append(Record(block, State.DONE))
        with pytest.raises(ValueError, match="there are 12"):
            ledger.remove(-1)
    assert read_ledger(tmp_path)[1].damaged == 0


def test_lines_reach_the_disk_within_a_second_or_so(tmp_path):
    with Ledger.create(tmp_path, BLOCKS, HEADER) as ledger:
        ledger.append(some()[0])
        end = time.monotonic() + 10
        while read_ledger(tmp_path)[1].state(0) is State.PENDING:
            assert time.monotonic() < end
            time.sleep(0.05)
        ledger.event("published")  # an event does not wait
        assert [event.name for event in read_ledger(tmp_path)[1].events] == ["published"]
        ledger.append(some()[1])
        ledger.flush()
        assert read_ledger(tmp_path)[1].state(1) is State.DONE
    ledger.close()
    with pytest.raises(ValueError, match="is closed"):
        ledger.append(some()[2])


def test_threads_may_append(tmp_path):
    with Ledger.create(tmp_path, (30, 30), HEADER) as ledger:
        threads = [
            threading.Thread(
                target=lambda first: [ledger.append(Record(first + n, State.DONE)) for n in range(90)], args=(first,)
            )
            for first in range(0, 900, 90)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read_ledger(tmp_path)[1].tally()[State.DONE] == 900


def test_another_writer_is_noticed(tmp_path):
    journal_of(tmp_path, [])
    with Ledger.resume(tmp_path) as one, Ledger.resume(tmp_path) as other:
        one.append(some()[0])
        one.flush()
        with pytest.raises(LeaseError, match="another run writes to it"):
            other.event("published")
        other._waiting.clear()  # so that it can be closed
    agree(read_ledger(tmp_path)[1], naive(some(1)))


def test_a_full_disk_leaves_whole_lines_and_loses_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Ledger.create(tmp_path, (20, 20), HEADER) as ledger:
        ledger.append(Record(0, State.DONE))
        ledger.flush()
        size = (tmp_path / JOURNAL).stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))
            ledger.append(Record(1, State.DONE))
            with pytest.raises(RoomError, match="no room to write"):
                ledger.flush()
            with pytest.raises(RoomError, match="no room to write"):
                ledger.append(Record(2, State.DONE))
            assert (tmp_path / JOURNAL).stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        ledger.append(Record(3, State.DONE))
    assert read_ledger(tmp_path)[1].of(State.DONE).tolist() == [0, 1, 2, 3]


APPEND_TO_A_SHAKY_DISK = """
import os, sys
from pathlib import Path
from pipeline.errors import SettingsError
from pipeline.store import objects
from pipeline.store.ledger import Ledger
from pipeline.store.record import Record, State
objects.PATIENCE, left = float(sys.argv[2]), Path(os.environ["FLAKY_LEFT"])
refusals = left.read_bytes()
left.write_bytes(b"")
with Ledger.create(Path(sys.argv[1]), (20, 20), {}) as ledger:
    ledger.append(Record(0, State.DONE))
    ledger.flush()
    left.write_bytes(refusals)
    ledger.append(Record(1, State.DONE))
    try:
        ledger.flush()
        print("written")
    except SettingsError as error:
        print(error.message)
        left.write_bytes(b"")
    ledger.append(Record(2, State.DONE))
"""


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize(("times", "said"), [(3, "written"), (FOR_EVER, "journal.jsonl cannot be written")])
def test_a_disk_that_is_away_loses_no_line_and_leaves_none_twice(tmp_path, number, times, said):
    shaky = flaky(tmp_path)
    done = in_python(APPEND_TO_A_SHAKY_DISK, tmp_path / "ledger", 1.0, **shaky.refuses(JOURNAL, times, number))
    assert said in done.stdout, done.stderr
    assert shaky.times_left == 0
    _, fold = read_ledger(tmp_path / "ledger")
    assert (fold.of(State.DONE).tolist(), fold.damaged) == ([0, 1, 2], 0)
    assert len((tmp_path / "ledger" / JOURNAL).read_bytes().splitlines()) == 4


APPEND_FOR_EVER = """
import sys
from pathlib import Path
from pipeline.store.ledger import Ledger
from pipeline.store.record import Record, State
folder = Path(sys.argv[1])
ledger = Ledger.resume(folder)
for block in ledger.fold.of(State.PENDING).tolist():
    ledger.append(Record(block, State.DONE, counts={0: block}))
    if block % 64 == 63:
        print(block, flush=True)
"""


def test_a_killed_coordinator_loses_no_line_that_it_had_synced(tmp_path):
    Ledger.create(tmp_path, (1000, 1000), HEADER).close()
    for wait in (1, 4, 9):
        with subprocess.Popen([sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE) as run:
            for _ in range(wait):
                said = run.stdout.readline()
            run.send_signal(signal.SIGKILL)
        _, fold = read_ledger(tmp_path)
        done = fold.of(State.DONE)
        assert fold.damaged == 0
        assert len(done) >= int(said) - 63  # 64 lines may wait
        assert done.tolist() == list(range(len(done)))
        assert fold.counts.get(0, 0) == int(done.sum())


def test_the_fold_is_saved_as_maps_of_blocks(tmp_path):
    fold = Fold(BLOCKS)
    for record in some():
        fold.add(record)
    fold.save(tmp_path / "blocks.npz")
    maps = np.load(tmp_path / "blocks.npz")
    assert maps["state"].tolist() == [[1, 1, 3, 1], [1, 3, 0, 0], [0, 0, 0, 0]]
    assert maps["length_mask"][1].tolist() == [10_000, 0, 0, 0]
    assert {array.shape for array in maps.values()} == {BLOCKS}


def test_a_fold_has_blocks():
    with pytest.raises(ValueError, match="at least one block"):
        Fold((0, 3))


def test_a_fold_is_small_and_a_journal_is_read_at_a_rate(tmp_path):
    count = 20_000
    one = Record(
        0, State.DONE, {"mask": Shard(9, 9)}, {0: 1, 1: 2, 255: 3}, None, {"read": 1, "predict": 2, "write": 3}, 5, 6
    )
    line = one.to_line()
    with Ledger.create(tmp_path, (200, 100), HEADER):
        pass
    with (tmp_path / JOURNAL).open("ab") as file:
        for block in range(count):
            file.write(to_line({**from_line(line), "block": block}))
    began = time.process_time()
    _, fold = read_ledger(tmp_path)
    assert fold.tally()[State.DONE] == count
    assert time.process_time() - began < 2.0  # 100 000 lines take some 2 s on a slow core
    fold.save(tmp_path / "blocks.npz")
    assert sum(array.nbytes for array in np.load(tmp_path / "blocks.npz").values()) / count < 120
    assert (tmp_path / JOURNAL).stat().st_size / count < 300


def test_a_journal_says_its_format_and_a_later_one_is_refused(tmp_path):
    whole = journal_of(tmp_path / "whole", some())
    first, rest = whole.split(b"\n", 1)
    said = from_line(first)
    assert said.pop("format") == 1
    for number, head in enumerate([said, {**said, "format": 2}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(to_line(head) + rest)
    assert len(read_ledger(tmp_path / "0")[1].of(State.PENDING)) == len(
        read_ledger(tmp_path / "whole")[1].of(State.PENDING)
    )  # one of before formats were said
    with pytest.raises(IdentityError, match="is of format 2 and this version reads 1"):
        read_ledger(tmp_path / "1")
    with pytest.raises(IdentityError, match="is of format 2 and this version reads 1"):
        Ledger.resume(tmp_path / "1")
