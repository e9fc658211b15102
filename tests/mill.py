"""A small world for the command's tests: an image, a network that fits it, a job file, and the command itself."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import yaml
from rasterio import Affine

from tests.cards import network
from tests.images import noise, write_image

COMMAND = [sys.executable, "-m", "flows.cli"]


def world(folder, scenes=1, side=96):
    """Write `scene0.tif`… and `net.onnx` with its card beside it; returns the job, as a mapping."""
    for index in range(scenes):
        profile = {"tiled": True, "blockxsize": 64, "blockysize": 64}
        profile |= {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
        write_image(folder / f"scene{index}.tif", noise(3, side, side, seed=index), **profile)
    weights = np.array([[1, 0, -1], [-1, 0, 1]], np.float32).reshape(2, 3, 1, 1)
    onnx.save(network(3, 2, weights=weights), folder / "net.onnx")
    card = {
        "name": "colder",
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "constant", "divide_by": 255},
        "classes": ["red", "blue"],
        "activation": "softmax",
        "says": "logits",
    }
    (folder / "net.yaml").write_text(yaml.safe_dump(card))
    names = [f"scene{index}.tif" for index in range(scenes)]
    # The window is small, and so is the memory that a probe takes.
    return {"scenes": names, "model": "./net.onnx", "out": "out", "workers": 1, "window": 32, "block": 32}


def write_job(folder, job, name="job.yaml"):
    path = folder / name
    path.write_text(yaml.safe_dump(job))
    return path


def maskmill(*arguments, cwd, timeout=120, **environment):
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=surroundings(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def surroundings(**more):
    """This process's environment without what names a server."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_API")} | more


def last_json(done):
    return json.loads(done.stdout.splitlines()[-1])
