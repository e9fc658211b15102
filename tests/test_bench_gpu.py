"""The GPU's benchmark works where there is none; and what it looks for holds where there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.network import providers
from tests.bench.gpu import bare
from tests.bench.gpu.check import keeps_float32
from tests.bench.gpu.engines import texture, windows
from tests.test_engine import built


def test_the_cpu_keeps_float32():
    assert keeps_float32("cpu", "fp32")


@pytest.mark.skipif(providers.why_no_cuda() is not None, reason="there is no GPU here")
def test_float32_on_a_gpu_is_float32():
    assert keeps_float32("cuda", "fp32")


@pytest.mark.parametrize("callers", [1, 2])
def test_a_rate_is_of_all_callers_together(callers):
    assert bare.rate(built(2), callers, 0.05) > 0


def test_windows_are_cut_from_a_texture_and_differ_by_their_seed():
    pixels, _, _, _ = windows(2, 64, seed=3)
    assert {one.shape for one in pixels} == {(3, 64, 64)}
    assert (pixels[0] != windows(1, 64, seed=4)[0][0]).any()
    assert texture().dtype == "uint8"


@pytest.mark.slow
def test_the_rehearsal_runs_through(tmp_path):
    command = [sys.executable, "-m", "tests.bench.gpu", "--rehearse"]
    done = subprocess.run(command, env=os.environ | {"OUT": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = {file.stem: json.loads(file.read_text()) for file in Path(tmp_path).glob("*.json")}
    assert set(said) == {f"gpu-{part}-rehearsal" for part in ("check", "bare", "run", "torch")}
    assert all("failed" not in one for one in said.values())
    assert said["gpu-run-rehearsal"]["run"][0]["ratio"] > 0
