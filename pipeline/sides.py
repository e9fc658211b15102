"""How large windows and blocks are: what is fastest, by measuring. Neither decides a pixel here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.budget import allowed, block_bytes, publish_bytes
from pipeline.grid import Grid, Stitch
from pipeline.lay import ENOUGH_BLOCKS, cores_to_try, evened
from pipeline.network.card import Card
from pipeline.network.cuda import gpu_count
from pipeline.pace import Pace
from pipeline.plan import Kind, Margin, Network, recipe_of
from pipeline.probe import Probe
from pipeline.raster.address import is_remote
from pipeline.raster.reader import tiles_touched
from pipeline.raster.source import Scene
from pipeline.raster.stage import reason_to_stage
from pipeline.settings import Job
from pipeline.store.hierarchy import Product
from pipeline.tune import Tuner

WORTH_TUNING = 60.0  # seconds of work, below which no size of window is worth the measuring
TUNING_SHARE, LEAST_TUNING, MOST_TUNING = 0.1, 4.0, 10.0  # of that work; seconds: it is done once, and remembered
MUCH_READING = 1.3  # times what the image holds: more is read only while it takes little time
LITTLE_TIME = 0.1  # of a block's
LARGEST_BLOCK = 8192  # px
MOST_THREADS = 8  # of one worker
MOST_PARTS = 64  # along a side that blocks are tried for
SHARE_OF_MEMORY = 0.25  # of what may be taken, for the blocks of all workers


def paces_of(
    job: Job, network: Network, scene: Scene, grid: Grid, margin: Margin, tuner: Tuner, cores: int
) -> list[Pace]:
    """How fast the network is at several sizes of window, where these decide no pixel and it is known or worth it."""
    if margin.kind is not Kind.EXACT or job.window or network.side:
        return []
    probe = tuner.probe(network, recipe_of(grid, scene, job, 1), job.device.value, job.batch)
    at_once = 1 if probe.device == "cuda" else min(tuner.beside or job.workers or cores, len(grid))
    seconds = probe.seconds * grid.computed() / grid.window**2 / at_once * tuner.scenes
    recipes = [
        recipe_of(
            replace(grid, core=core, block=core), scene, job, job.batch or max(1, probe.batch * grid.core**2 // core**2)
        )
        for core in cores_to_try(grid, job.block)
    ]
    worth = max(LEAST_TUNING, min(seconds * TUNING_SHARE, MOST_TUNING)) if seconds >= WORTH_TUNING else 0.0
    return tuner.paces(network, recipes, probe.device, at_once, worth)


def evenly(job: Job, network: Network, grid: Grid, margin: Margin, probe: Probe) -> tuple[Grid, Probe]:
    """The grid with cores that divide the scene evenly, where windows decide no pixel, and the probe by its window.

    Smaller windows than were tried take less memory and time: no other probe is needed. A GPU's window stays: how its
    rate goes with the side is not known.
    """
    if margin.kind is not Kind.EXACT or job.window or job.block or network.side or probe.device != "cpu":
        return grid, probe
    even = evened(grid)
    return even, replace(probe, seconds=probe.seconds * even.window**2 / grid.window**2)


def block_of(
    job: Job, view: Scene, grid: Grid, probe: Probe, tuner: Tuner, workers: int, held: Callable[[Grid, int], int]
) -> Grid:
    """The grid with the largest blocks that memory and an even share for all workers allow, while they read too much.

    That is: while more than 1.3 times the image is decoded, in more than a tenth of the time that the blocks take.
    `held` says what so many workers hold of the blocks of a grid. What is staged is read from tiles that cost little.
    Where windows are blended, neighbours compute those on their rims twice: what counts is how soon all is done.
    """
    workers = job.workers or workers
    if grid.stitch is Stitch.BLEND and not job.block and grid.zoom == 1:
        return _soonest(grid, workers, lambda larger: held(larger, workers) <= SHARE_OF_MEMORY * allowed(job.memory))
    while not job.block and not reason_to_stage(view) and grid.block * 2 <= LARGEST_BLOCK:
        larger = replace(grid, block=grid.block * 2)
        too_few = len(larger) < max(ENOUGH_BLOCKS, 4 * workers)
        decoded, once = bytes_read(view, grid, range(len(grid)))
        if too_few or decoded <= MUCH_READING * once or held(larger, workers) > SHARE_OF_MEMORY * allowed(job.memory):
            break
        if decoded * tuner.decoding(view) <= LITTLE_TIME * probe.seconds * grid.computed() / grid.window**2:
            break
        grid = larger
    return grid


def _soonest(grid: Grid, workers: int, fits: Callable[[Grid], bool]) -> Grid:
    """The grid, its blocks all of one size, with which so many workers are done soonest."""
    longest = max(grid.cores)
    sides = {grid.core * -(-longest // parts) for parts in range(1, min(longest, MOST_PARTS) + 1)}
    grids = [grid, *(replace(grid, block=side) for side in sorted(sides) if side <= LARGEST_BLOCK)]
    return min((one for one in grids if one is grid or fits(one)), key=lambda one: (_turns(one, workers), one.block))


def _turns(grid: Grid, workers: int) -> float:
    """Pixels that the network sees until all blocks are done, each worker one block after another."""
    return -(-len(grid) // workers) * grid.computed() / len(grid)


def threads_for(scene: Scene, probe: Probe, cores: int) -> int:
    """How many blocks a worker has in hand where the job does not say.

    One on a core that is busy with predicting; one more where a source that is far away keeps it waiting; as many as
    there are cores for each, up to 8, to keep a GPU busy.
    """
    if probe.device == "cuda":
        return max(1, min(cores // max(1, gpu_count()), MOST_THREADS))
    return 2 if is_remote(scene.uri) or any(is_remote(layer.part.uri) for layer in scene.layers) else 1


def bytes_held(view: Scene, products: tuple[Product, ...], card: Card, grid: Grid, workers: int) -> int:
    """What workers hold of their blocks, and the coordinator when it publishes them."""
    return workers * block_bytes(grid, view, products, card) + publish_bytes(grid, products)


def bytes_read(scene: Scene, grid: Grid, blocks: Sequence[int]) -> tuple[int, int]:
    """Bytes that are decoded of a scene while blocks are read, and if each block read no more than what it owns."""
    if len(blocks) < len(grid):
        hulls = sum(tiles_touched(scene, grid.hull(block)) for block in blocks)
        return hulls, sum(tiles_touched(scene, grid.seen(block)) for block in blocks)
    if len(scene.layers) > 1:
        each = [bytes_read(replace(scene, layers=(layer,)), grid, blocks) for layer in scene.layers]
        return sum(decoded for decoded, _ in each), sum(once for _, once in each)
    down, across = grid.blocks
    row, col = down // 2, across // 2  # in the middle, where a layer that covers only a part is likeliest to be
    # A hull touches rows × columns of tiles, so the sum over all blocks is a product of two sums.
    rows = sum(tiles_touched(scene, grid.hull(one * across + col)) for one in range(down))
    cols = sum(tiles_touched(scene, grid.hull(row * across + one)) for one in range(across))
    both = tiles_touched(scene, grid.hull(row * across + col))
    return rows * cols // both if both else 0, tiles_touched(scene, grid.view)
