"""The article's network as maskmill runs it: fused graphs, engines, and windows cut from a texture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.grid import Stitch
from pipeline.network import providers
from pipeline.network.engine import Engine
from pipeline.network.host import Recipe
from pipeline.plan import Network
from pipeline.settings import Job
from pipeline.settle import open_network
from pipeline.work import fused_graph
from tests.bench import networks
from tests.bench.command import ROOT

MARGIN = 24  # px, of the article's network
SIDE = 4096  # px of the texture, which repeats


@lru_cache(maxsize=1)
def texture(side: int = SIDE) -> np.ndarray:
    """Random bytes (3, side, side), smooth over some pixels as images are."""
    random = np.random.default_rng(0)
    fine = random.normal(0, 25, (3, side, side)).astype(np.float32)
    for step in (4, 16, 64):
        coarse = random.normal(0, 30, (3, side // step, side // step)).astype(np.float32)
        fine += coarse.repeat(step, axis=1).repeat(step, axis=2)
    return np.clip(fine + 90, 0, 255).astype(np.uint8)


def windows(count: int, side: int, seed: int = 0) -> tuple:
    """What `Engine.run` takes: views of the texture, as a hull's windows are views."""
    random, image = np.random.default_rng(seed), texture()
    corners = random.integers(0, image.shape[1] - side, (count, 2)).tolist()
    pixels = [image[:, row : row + side, col : col + side] for row, col in corners]
    valid = np.ones((side, side), np.bool_)
    shift, factor = (np.array(one, np.float32) for one in (networks._MEAN, [1 / one for one in networks._STD]))
    return pixels, [valid] * count, shift, factor


def article(folder: Path) -> tuple[networks.Network, Network]:
    """The network's file with its flags, and as a job would use it."""
    made = networks.network_of("article", folder, None)
    job = Job(scenes=("none.tif",), model=str(made.file), out=folder)
    return made, open_network(made.file, job)


def engine_of(
    network: Network,
    device: str,
    precision: str,
    window: int,
    batch: int,
    blend: bool = False,
    bound: bool | None = None,
) -> Engine:
    stitch = Stitch.BLEND if blend else Stitch.EXACT
    recipe = Recipe(window, MARGIN, batch, "uint8", stitch, precision=precision)
    threads = (os.cpu_count() or 1) if device == "cpu" else 1
    return Engine(fused_graph(network, recipe), device, threads, precision, bound=bound)


def told_by(module: str, *arguments: object, limit: float, **options: str) -> Iterator[dict]:
    """Run a module of ours in a process of its own and give the JSON of each line that it says, as it comes.

    A process computes in TF32 or without, and its memory on the GPU goes with it. `options` are CUDA's provider's.
    Raises RuntimeError with its last words where it fails.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", module, *(json.dumps(one) for one in arguments)]
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "MASKMILL_CUDA": json.dumps(options)}
    command = ["timeout", str(limit), *command]
    with tempfile.TemporaryFile("w+") as complaints:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
        if process.wait():
            complaints.seek(0)
            raise RuntimeError(f"{module} ended with {process.returncode}: {complaints.read().strip()[-800:]}")


def take_options() -> None:
    """In such a process: have CUDA's provider take the options."""
    providers.CUDA_OPTIONS.update(json.loads(os.environ.get("MASKMILL_CUDA", "{}")))
