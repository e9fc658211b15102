"""Whole files: whatever happens, the old one or the new one, and a sentence where the disk refuses."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RoomError, SettingsError
from pipeline.store.objects import ABSENT, put_if_absent, put_whole, remove, sentences, shard_at, shard_of, sync
from tests.faults import FOR_EVER, flaky, in_python


def test_what_is_put_is_there_and_nothing_else(tmp_path):
    file = tmp_path / "a" / "b" / "file"
    put_whole(file, b"one")
    put_whole(file, b"two")
    sync(file)
    assert file.read_bytes() == b"two"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_half_written_files_lie_in_the_stage(tmp_path):
    put_whole(tmp_path / "out" / "file", b"one", stage=tmp_path / "stage")
    assert (tmp_path / "out" / "file").read_bytes() == b"one"
    assert list((tmp_path / "stage").iterdir()) == []


def test_only_the_first_is_put_if_absent(tmp_path):
    file = tmp_path / "file"
    assert put_if_absent(file, b"one")
    assert not put_if_absent(file, b"two")
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_remove_says_whether_there_was_one(tmp_path):
    put_whole(tmp_path / "file", b"one")
    assert remove(tmp_path / "file")
    assert not remove(tmp_path / "file")


@given(st.binary())
def test_a_shard_is_its_length_and_crc(data):
    assert shard_of(data) == (len(data), zlib.crc32(data))
    assert shard_of(None) == ABSENT


def test_a_file_has_the_shard_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 9000  # more than one piece
    put_whole(tmp_path / "file", content)
    assert shard_at(tmp_path / "file") == shard_of(content)
    assert shard_at(tmp_path / "none") == ABSENT


PUT_FOR_EVER = """
import sys
from pathlib import Path
from pipeline.store.objects import put_whole
print("ready", flush=True)
for number in range(10**9):
    put_whole(Path(sys.argv[1]), b"%d" % (number % 10) * 50_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    file = tmp_path / "file"
    for delay in (0.0, 0.003, 0.01, 0.021):
        with subprocess.Popen([sys.executable, "-c", PUT_FOR_EVER, str(file)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        if file.exists():
            content = file.read_bytes()
            assert len(content) == 50_000
            assert len(set(content)) == 1


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "file"
    put_whole(file, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on file sizes: a real refusal by the kernel
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(RoomError, match=f"no room to write {file}"):
            put_whole(file, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_other_refusals_are_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / "file" / "below"
    with pytest.raises(SettingsError, match=f"{target} cannot be written"):
        put_whole(target, b"")
    with pytest.raises(SettingsError, match="cannot be written"):
        put_if_absent(target, b"")
    with pytest.raises(SettingsError, match="No such file"):
        sync(tmp_path / "missing")


def test_a_folder_in_the_way_is_refused_and_leaves_no_part(tmp_path):
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "content").write_bytes(b"")
    with pytest.raises(SettingsError, match="cannot be written"):
        put_whole(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


PUT = """
import sys, time
from pathlib import Path
from pipeline.errors import SettingsError
from pipeline.store import objects
objects.PATIENCE = float(sys.argv[2])
began = time.monotonic()
try:
    objects.put_whole(Path(sys.argv[1]), b"new")
except SettingsError as error:
    print(error.message)
print(time.monotonic() - began)
"""


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_disk_that_is_away_for_a_moment_is_asked_again(tmp_path, number):
    shaky, file = flaky(tmp_path), tmp_path / "out" / "file"
    put_whole(file, b"old")
    said = in_python(PUT, file, 90, **shaky.refuses("/out/", 4, number))
    assert file.read_bytes() == b"new"
    assert float(said.stdout) > 0.1 + 0.2  # pauses grow; what failed first was the writing, then the syncs
    assert shaky.times_left == 0
    assert list(file.parent.iterdir()) == [file]


def test_a_disk_that_stays_away_is_a_sentence_in_bounded_time(tmp_path):
    shaky, file = flaky(tmp_path), tmp_path / "out" / "file"
    put_whole(file, b"old")
    said = in_python(PUT, file, 1.0, **shaky.refuses("/out/", FOR_EVER, errno.EIO))
    sentence, seconds = said.stdout.splitlines()
    assert "file cannot be written (Input/output error, 4 times within 1 s): check" in sentence
    assert float(seconds) < 20
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_what_is_refused_for_good_is_not_asked_again(tmp_path):
    shaky, file = flaky(tmp_path), tmp_path / "out" / "file"
    put_whole(file, b"old")
    said = in_python(PUT, file, 90, **shaky.refuses("/out/", 7, errno.EROFS))
    assert "cannot be written (Read-only file system): check" in said.stdout
    assert shaky.times_left == 5  # the writing, and the closing of what was not written


def test_sentences_lets_other_errors_through():
    with pytest.raises(KeyError), sentences(Path("file")):
        raise KeyError("other")
