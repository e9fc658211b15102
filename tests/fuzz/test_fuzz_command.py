"""Command lines of strangers, through the real Typer app in this process: a promised exit code, and no traceback."""

import os
import sys
import tempfile
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cli import app
from flows.ending import exit_code
from tests.fuzz.drawn import scalars
from tests.fuzz.law import fuzz, fuzzed, limited, listing
from tests.mill import world, write_job

pytestmark = fuzz
COMMANDS = (
    ["run"], ["plan"], ["status"], ["verify"], ["catalogue"], ["clean"], ["compare"], ["schedule"], ["deploy"],
    ["models"], ["models", "list"], ["models", "show"], [],
)  # fmt: skip
FLAGS = (
    "--model", "--out", "--job", "--device", "--precision", "--margin", "--overlap", "--resolution", "--window",
    "--block", "--batch", "--workers", "--threads", "--cluster", "--bands", "--aoi", "--products", "--memory",
    "--overwrite", "--dry-run", "--json", "--sample", "--cron", "--timezone", "--pool", "--type", "--help", "--debug",
    "--nothing", "-", "--", "--out=", "-t",
)  # fmt: skip
VALUES = (
    "job.yaml", "net.onnx", "scene0.tif", "out", ".", "nowhere", "nowhere/*.tif", "net.yaml", "inline", "local", "cpu",
    "auto", "0 2 * * *", "UTC", "1,2,3", "3,2,x", "8G", "0", "-1", "32", "1e999", "tcp://127.0.0.1:1", "@job.yaml",
)  # fmt: skip


def words():
    """What a shell can give: no NUL, and half a character where a name's bytes are no UTF-8."""
    said = st.sampled_from(VALUES) | st.sampled_from(FLAGS) | scalars().map(str) | st.just("\udcff")
    return said.map(lambda word: word.replace("\0", "")[:5000].encode("utf-8", "surrogateescape")).map(os.fsdecode)


@st.composite
def lines(draw):
    """A command, up to two arguments, up to four flags with what follows them."""
    command = draw(st.sampled_from(COMMANDS))
    flags = [draw(st.tuples(st.sampled_from(FLAGS), words())) for _ in range(draw(st.integers(0, 4)))]
    return [*command, *draw(st.lists(words(), max_size=2)), *(word for flag in flags for word in flag)]


def starts(line):
    """Whether it would make masks, or serve until it is stopped: other tests' business, and minutes."""
    return "--cron" in line or (line[:1] == ["run"] and "net.onnx" in line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    write_job(folder, world(folder) | {"model": "./nowhere.onnx"})
    return folder


@contextmanager
def _heard(file):
    """What is written on both streams goes to a file."""
    kept, (sys.stdout, sys.stderr) = (sys.stdout, sys.stderr), (file, file)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept


@given(line=lines())
@fuzzed(400)
def test_a_command_line_of_anything(folder, line):
    """No model of the world is where the job says, so that no line makes masks."""
    if starts(line):
        return
    before, here, kept = listing(folder), os.getcwd(), os.environ.copy()  # noqa: PTH109
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as said:
        os.chdir(folder)
        try:
            with limited(60), _heard(said):
                code = exit_code(app, line)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(kept)
        said.seek(0)
        text = said.read()
    assert code in (0, 2, 3), (code, text)
    assert "Traceback" not in text
    assert "Unexpected: " not in text
    assert listing(folder) == before
