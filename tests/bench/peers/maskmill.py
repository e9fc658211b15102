"""maskmill's command itself, `maskmill run`; the clock inside starts once it is imported."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from given import given, say

from flows import cli, tasks


def main() -> None:
    task = given()
    shutil.rmtree(task.out, ignore_errors=True)
    start = time.perf_counter()
    sys.argv = ["maskmill", "run", task.scene, "--out", task.out, "--device", "cpu", "--workers", str(task.threads)]
    sys.argv += task.flags
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    mask = Path(task.out) / Path(task.scene).stem / "mask.tif"
    say(start, (), window=task.window, overlap=2 * task.margin, mask=str(mask))


if __name__ == "__main__":
    assert tasks  # imported before the clock starts
    main()
