"""How large windows are, where they decide no pixel: what is fastest, measured once and remembered."""

from __future__ import annotations

from dataclasses import replace

from pipeline.grid import Grid
from pipeline.lay import cores_to_try
from pipeline.pace import Pace
from pipeline.plan import Kind, Margin, Network, recipe_of
from pipeline.raster.source import Scene
from pipeline.settings import Job
from pipeline.tune import Tuner

WORTH_TUNING = 30.0  # seconds of work, below which no size of window is worth the measuring
TUNING_SHARE, MOST_TUNING = 0.05, 10.0  # of that work; seconds


def paces_of(
    job: Job, network: Network, scene: Scene, grid: Grid, margin: Margin, tuner: Tuner, cores: int
) -> list[Pace]:
    """How fast the network is at several sizes of window, where these decide no pixel and the work is worth it."""
    if margin.kind is not Kind.EXACT or job.window or network.side:
        return []
    probe = tuner.probe(network, recipe_of(grid, scene, job, 1), job.device.value, job.batch)
    at_once = 1 if probe.device == "cuda" else min(job.workers or cores, len(grid))
    seconds = probe.seconds * grid.computed() / grid.window**2 / at_once * tuner.scenes
    if seconds < WORTH_TUNING:
        return []
    recipes = [
        recipe_of(
            replace(grid, core=core, block=core), scene, job, job.batch or max(1, probe.batch * grid.core**2 // core**2)
        )
        for core in cores_to_try(grid, job.block)
    ]
    return tuner.paces(network, recipes, probe.device, at_once, min(seconds * TUNING_SHARE, MOST_TUNING))
