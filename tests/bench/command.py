"""maskmill's own command, started as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKERS = os.cpu_count() or 1
_CLI = [sys.executable, "-m", "flows.cli"]


def run(scene: Path, out: Path, *flags: str) -> tuple[float, dict]:
    """(seconds of the whole command, the scene's report)."""
    start = time.perf_counter()
    command = [*_CLI, "run", str(scene), "--out", str(out), "--device", "cpu", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, json.loads((out / scene.stem / "report.json").read_text())


def plan_of(scene: Path, *flags: str) -> dict:
    """What `maskmill plan` says of the scene."""
    said = _said("plan", str(scene), "--out", str(scene.parent / "none"), "--device", "cpu", *flags)
    plan = said["plans"][0]
    if plan["refused"]:
        raise SystemExit(f"maskmill refuses the scene: {plan['refused']}")
    return plan


def shown(model: str) -> dict:
    """What `maskmill models show` says of a network."""
    return _said("models", "show", model)


def _said(*words: str) -> dict:
    done = subprocess.run([*_CLI, *words, "--json"], capture_output=True, text=True)
    if not done.stdout.strip():
        raise SystemExit(f"maskmill {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
