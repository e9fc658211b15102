"""What every peer is given, a JSON file named by its first argument, and what it gives back, one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort


def given() -> SimpleNamespace:
    """The task: scene, out, model, shift, factor, threads, margin, stride, window, core, batch, … of this run."""
    return SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


def scaled(raw: np.ndarray, task: SimpleNamespace) -> np.ndarray:
    """Pixels (band, row, col) as the network wants them, float32."""
    shift, factor = (np.array(numbers, np.float32)[:, None, None] for numbers in (task.shift, task.factor))
    return (raw.astype(np.float32) - shift) * factor


def session_of(task: SimpleNamespace, threads: int) -> ort.InferenceSession:
    """The network in ONNX Runtime; 0 threads are as many as it likes, which is one for each core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(task.model, options, providers=["CPUExecutionProvider"])


def say(start: float, packages: tuple[str, ...], **more: object) -> None:
    """Print the seconds since `start`, the versions of what was used, and whatever else there is to say."""
    seconds = more.pop("seconds", None) or time.perf_counter() - start
    versions = {name: version(name) for name in packages} | {"onnxruntime": ort.__version__}
    print(json.dumps({"seconds": seconds, "versions": versions, **more}))
