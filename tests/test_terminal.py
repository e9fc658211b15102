"""What a person sees: the command on a terminal of its own, and Ctrl-C pressed on it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from types import SimpleNamespace

import pytest
import rasterio

from tests.mill import COMMAND, surroundings
from tests.oracle import noise, save_model, save_scene, small_unet
from tests.warm import left_in

ROWS, COLS = 50, 120
CTRL_C = b"\x03"
STOPPED = "maskmill: Stopped. What was finished is kept; the same command goes on from there."


def on_terminal(*arguments, cwd, keys=(), when=b"", seconds=120, **environment):
    """Run the command on a terminal; once `when` is seen on it, press each key after so many seconds.

    `ended` are the seconds from the first key to the end, `left` the processes that outlive the command.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLS, 0, 0))

    def take_terminal():
        os.setsid()
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=surroundings(TERM="xterm", **environment),
        stdin=its,
        stdout=its,
        stderr=its,
        preexec_fn=take_terminal,  # noqa: PLW1509  # no thread of the tests holds what it needs
    )
    os.close(its)
    shown, began, waiting = b"", time.monotonic(), list(keys)
    pressed, due = None, None
    while time.monotonic() - began < seconds and (piece := _piece(ours)) is not None:
        shown += piece
        if waiting and due is None and when in shown:
            due = time.monotonic() + waiting.pop(0)
        if due is not None and time.monotonic() >= due:
            os.write(ours, CTRL_C)
            pressed, due = pressed or due, None
    code = process.wait(10)
    ended = time.monotonic() - (pressed or began)
    os.close(ours)
    # The terminal echoes a key wherever it comes, in the midst of a letter, too, and drops what was not shown yet.
    text = shown.replace(b"^C", b"").decode(errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return SimpleNamespace(code=code, shown=shown, lines=lines, ended=ended, left=left_in(process.pid))


def _piece(terminal):
    """What comes within a moment; None when nothing more can come."""
    if not select.select([terminal], [], [], 0.05)[0]:
        return b""
    try:
        return os.read(terminal, 65536) or None
    except OSError:  # Linux says so when the last process has let go
        return None


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    save_scene(folder / "small.tif", noise(200, 300))
    save_model(folder / "model.onnx", small_unet())
    size = {"width": 12_000, "height": 12_000, "count": 3, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(folder / "large.tif", "w", driver="GTiff", tiled=True, blockxsize=512, blockysize=512, **size):
        pass
    return folder


def run_of(scene, *flags):
    return ("run", scene, "--model", "model.onnx", "--device", "cpu", "--workers", "2", *flags)


def assert_stopped(done):
    # Python may end as if by the signal itself, which a shell tells as 130, too.
    assert done.code in (130, -signal.SIGINT), done.lines
    assert done.lines[-1] == STOPPED
    assert sum("Stopped" in line for line in done.lines) == 1
    strange = [line for line in done.lines if not line.startswith(("planning ", "large ", "maskmill: "))]
    assert not strange, "\n".join(strange)
    assert done.shown.rfind(b"\x1b[?25h") >= done.shown.rfind(b"\x1b[?25l")  # the cursor is back
    assert done.ended < 15
    assert not done.left


def test_a_run_shows_a_bar_and_then_a_table(place):
    done = on_terminal(*run_of("small.tif", "--out", "out"), cwd=place)
    assert done.code == 0, done.lines
    assert b"planning" in done.shown
    assert b"0.060 of 0.060 megapixels" in done.shown
    table = done.lines[-3:]
    assert table[0].split() == ["Scenes"]
    assert table[1].split()[:3] == ["scene", "state", "pixels"]
    assert table[2].split()[:3] == ["small", "complete", "60,000"]
    assert not done.left


def test_ctrl_c_ends_a_run_with_one_sentence_and_the_ledger_is_whole(place, tmp_path):
    out = tmp_path / "out"
    done = on_terminal(*run_of("large.tif", "--out", out), cwd=place, keys=[3.0], when=b"144.0 megapixels")
    assert_stopped(done)
    told = on_terminal("status", out, cwd=place)
    assert told.code == 0, told.lines
    assert told.lines[-1].split()[0] == "large"


@pytest.mark.slow
@pytest.mark.parametrize("keys", [[3.0, 0.2], [3.0, 0.0, 0.0, 0.5, 1.0]], ids=["twice", "five times"])
def test_more_ctrl_c_changes_nothing(place, tmp_path, keys):
    out = tmp_path / "out"
    assert_stopped(on_terminal(*run_of("large.tif", "--out", out), cwd=place, keys=keys, when=b"144.0 megapixels"))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8, 1.2, 1.8, 2.6])
def test_ctrl_c_ends_a_plan_at_any_moment(place, tmp_path, seconds):
    out = tmp_path / "out"
    assert_stopped(on_terminal(*run_of("large.tif", "--out", out), cwd=place, keys=[seconds], when=b"planning"))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5, 0.9, 1.4])
def test_ctrl_c_ends_a_run_while_its_workers_start(place, tmp_path, seconds):
    out = tmp_path / "out"
    assert_stopped(on_terminal(*run_of("large.tif", "--out", out), cwd=place, keys=[seconds], when=b"144.0 megapixels"))


@pytest.mark.slow
def test_ctrl_c_ends_a_flow_run_and_its_server(place, tmp_path):
    run = run_of("large.tif", "--out", tmp_path / "out", "--prefect")
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    done = on_terminal(*run, cwd=place, keys=[3.0], when=b"144.0 megapixels", **home)
    assert done.code == 130, done.lines
    assert STOPPED in done.lines
    assert not any("Traceback" in line for line in done.lines), done.lines
    assert done.ended < 30
    assert not done.left


def test_a_plan_reads_as_sentences(place, tmp_path):
    plan = ("plan", "large.tif", "--model", "model.onnx", "--device", "cpu", "--out", tmp_path / "out")
    done = on_terminal(*plan, cwd=place)
    assert done.code == 0, done.lines
    said = {line.split()[0]: line for line in done.lines}
    assert "12,000 × 12,000 px, 144 megapixels" in said["image"]
    assert re.search(r"144 blocks of 1,0(00|24) px", said["blocks"])  # 1024 where windows of twice the side are faster
    assert re.search(r"\d+ windows of [\d,]+ px, cores of [\d,]+ px", said["windows"])  # how large was measured
    assert "6 px, exact: the network looks 5 px to each side" in said["margin"]
    assert re.search(r"1\.\d+ pixels for each pixel", said["computed"])
    assert "times the image" in said["read"]
    assert "MiB, the coordinator" in said["memory"]
    assert "about" in said["time"]
    assert not (tmp_path / "out").exists()
