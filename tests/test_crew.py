"""What a run has its blocks done by: that its preparations keep nobody from ending."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from tests.mill import surroundings
from tests.oracle import noise, save_model, save_scene, small_unet

HANGS = """
import importlib, time
from flows.crew import import_early
importlib.import_module = lambda name: time.sleep(1000)
import_early()
"""


def test_a_process_that_ends_does_not_wait_for_what_it_was_importing():
    """As where Ctrl-C came amid an import of the main thread, which leaves Python's lock of imports taken."""
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=60)


WATCHED = """
import sys, threading, time
from flows.cli import main

seen = []
LONG = {"flows.feed": 0.4, "dask": 0.8}  # seconds: so that another thread comes between

class Slow:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("dask", "distributed"):
            seen.append(threading.get_ident())
        time.sleep(LONG.get(name, 0))

sys.meta_path.insert(0, Slow)
try:
    main()
finally:
    print(sum(one != other for one, other in zip(seen, seen[1:])), len(seen), file=sys.stderr)
"""


@pytest.mark.parametrize("cluster", ["local", {"class": "distributed.LocalCluster", "arguments": {"n_workers": 1}}])
def test_one_thread_at_a_time_imports_dask(tmp_path, cluster):
    """Its modules import each other, and the second thread would be given half a module."""
    save_model(tmp_path / "model.onnx", small_unet())
    save_scene(tmp_path / "scene.tif", noise(300, 300))
    said = {"scenes": ["scene.tif"], "model": "model.onnx", "out": "out", "device": "cpu", "workers": 1}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**said, "cluster": cluster}))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "run", "--job", "job.yaml", "--json"],
        cwd=tmp_path,
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    changes, imports = map(int, done.stderr.split()[-2:])
    assert changes <= 1, done.stderr
    assert imports > 100
