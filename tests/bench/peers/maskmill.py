"""maskmill's command itself, `maskmill run`; the clock inside starts once it is imported."""

from __future__ import annotations

import json
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
    seconds = time.perf_counter() - start
    folder = Path(task.out) / Path(task.scene).stem
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    # The seconds that each worker spent on blocks.
    figures = {"blocks": sum(report["seconds_by_stage"].values()) / task.threads}
    window, margin = report["grid"]["window"], report["margin"]["pixels"]
    said = {"window": window, "overlap": 2 * margin, "mask": str(folder / "mask.tif"), "figures": figures}
    say(start, (), seconds=seconds, **said)


if __name__ == "__main__":
    assert tasks  # imported before the clock starts
    main()
