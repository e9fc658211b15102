"""A scene of a few hundred blocks, the mask that an undisturbed run makes of it, and a run that is being disturbed."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from flows.cluster import ENVIRONMENT
from tests.mill import COMMAND, surroundings
from tests.oracle import noise, save_model, save_scene, small_unet, tree

ROWS, COLS = 3600, 3200
SIDES = ("--window", "140", "--block", "128", "--device", "cpu")  # 725 blocks


def make_world(folder: Path) -> None:
    """Write scene and model, and have the mask made once, by one process."""
    save_model(folder / "model.onnx", small_unet())
    save_scene(folder / "scene.tif", noise(ROWS, COLS))
    done = subprocess.run(
        command(folder, "undisturbed", "--cluster", "inline"), env=surroundings(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def command(folder: Path, out: str, *flags: str) -> list[str]:
    """The run of the scene into a folder."""
    said = [str(folder / "scene.tif"), "--model", str(folder / "model.onnx"), "--out", str(folder / out)]
    return [*COMMAND, "run", *said, *SIDES, *flags]


class Disturbed:
    """The command while it runs: its processes, its folder, how it ends."""

    def __init__(self, folder: Path, out: str) -> None:
        self.folder, self.out = folder, out
        self.scene = folder / out / "scene"
        self._log = folder / f"{out}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command(folder, out, "--workers", "2"), env=surroundings(), stdout=log, stderr=log
            )

    def family(self) -> list[psutil.Process]:
        """The workers that the command has started."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [one for one in found if _is_worker(one)]
        return []

    def signalled(self, number: int) -> bool:
        """Send the command a signal, if it still runs."""
        if self.process.poll() is not None:
            return False
        self.process.send_signal(number)
        return True

    def ended(self, seconds: float) -> int:
        """Its exit code; an AssertionError where it does not end in time."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended after {seconds} s: {self.said()}") from None

    def said(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")[-2000:]

    def holds_lease(self) -> bool:
        """Whether the scene is being held, by this run and not by one that was killed."""
        leases = sorted((self.folder / self.out / ".leases" / "scene").glob("lease-*.json"))
        said = [json.loads(lease.read_bytes()) for lease in leases[-1:] if lease.exists()]
        return any(one["pid"] == self.process.pid and not one["released"] for one in said)

    def second(self) -> tuple[int, str]:
        """The same command once more, while this one runs: (exit code, what it wrote)."""
        done = subprocess.run(
            command(self.folder, self.out, "--workers", "2"), env=surroundings(), capture_output=True, text=True
        )
        return done.returncode, done.stderr

    def close(self) -> None:
        """End it and what it started, however it was left."""
        family = self.family()
        for one in [*family, self.process]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=20)


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is one of Dask's; the child that opens files is told by its killer's name, and that is its end."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return all(name in process.environ() for name in ENVIRONMENT)
    return False


def assert_same(folder: Path, out: str) -> None:
    """The bytes are those of the undisturbed run, and nothing lies beside them."""
    here, there = folder / out / "scene", folder / "undisturbed" / "scene"
    assert tree(here / "mask.zarr") == tree(there / "mask.zarr")
    assert (here / "mask.tif").read_bytes() == (there / "mask.tif").read_bytes()
    assert not (here / ".stage").exists()
    assert [str(path.relative_to(here)) for path in here.rglob("*.partial")] == []
