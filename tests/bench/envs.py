"""The peers' environments, one for those that agree, made under `.bench/env` and kept.

What they share with maskmill (ONNX Runtime, rasterio) has maskmill's versions, so that libraries of other ages
are not what is compared.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.command import ROOT

HOME = ROOT / ".bench"
OWN = "maskmill"  # no environment of its own: the one that the benchmark runs in
_WANTED = Path(__file__).parent / "env"
_SHARED = ("rasterio", "onnxruntime", "onnxruntime-gpu", "onnx", "psutil")


def python_of(name: str) -> str:
    """The interpreter of an environment, which is made where it is not there or not as its file says now."""
    if name == OWN:
        return sys.executable
    folder = HOME / "env" / name
    wanted = (_WANTED / f"{name}.txt").read_text(encoding="utf-8")
    pins = "".join(f"{package}=={version(package)}\n" for package in _SHARED if _here(package))
    stamp = hashlib.sha256((wanted + pins + sys.version).encode()).hexdigest()
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists() or made.read_text() != stamp:
        print(f"making the environment {name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        (folder / "pins.txt").write_text(pins)
        runtime = "onnxruntime-gpu" if _here("onnxruntime-gpu") else "onnxruntime"
        files = ["-r", str(_WANTED / f"{name}.txt"), "-c", str(folder / "pins.txt")]
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *files, runtime], check=True)
        made.write_text(stamp)
    return str(python)


def _here(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
