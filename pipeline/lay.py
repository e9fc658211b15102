"""How windows, cores and blocks are laid over a scene: arithmetic without a pixel or a run of the network."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import count
from math import ceil, floor

from pipeline.errors import ModelError, SettingsError
from pipeline.grid import CHUNK, Grid
from pipeline.plan import Kind, Margin, Network, Plan
from pipeline.raster.source import Scene
from pipeline.settings import Job

CORE = 512  # px: on a CPU, cores of 512 beat 1536 by 1.9 × (caches); a chunk of 512 suits readers of the mask
WIDE_MARGIN = 1.4  # pixels computed per pixel, above which cores of twice that are faster, caches or not
BLOCK = 2048  # px: a shard of 16 chunks
FEW_BLOCKS = 16  # below this many, smaller blocks keep all workers busy to the end
ENOUGH_BLOCKS = 64  # from this many on, a worker that has one block more than another matters little
SMALL_BLOCK = 1024  # px: below, the hull's rim costs more reading than the even shares save
COARSEST = 16  # px: ONNX Runtime sums in another order on feature maps smaller than this
WORTH_EVENING = 0.98  # of what the network would see: above, a core of a usual side is kept
OVERLAP = 0.25  # of the window, blended with its neighbour, unless the job says otherwise
BLEND_WINDOW = 512  # px, where neither job, card nor graph names one


def stated_margin(job: Job, network: Network) -> Margin | None:
    """The margin where the job and the graph alone decide it; None where it has to be measured.

    Raises ModelError where an exact margin is asked of a network that has none, SettingsError for a margin of which
    the network says nothing.
    """
    field = network.field
    if job.margin == "exact" and not field.bounded:
        raise ModelError(
            f"No margin makes this network exact: {field.unbounded}. "
            "Take --margin blend, or auto, which blends and reports the disagreement."
        )
    if job.margin == "blend" or not field.bounded:
        return _blend_margin(job, network)
    if isinstance(job.margin, int) and job.margin < field.offset:
        raise SettingsError(
            f"The margin cannot be {job.margin} px: the network says nothing of the outer {field.offset} px of its "
            f"window. Take {field.margin} or more."
        )
    if isinstance(job.margin, int) and job.margin < field.reach:
        return None
    if isinstance(job.margin, int):
        return _exact_margin(network, rounded_up(job.margin, field.stride))
    exact = _exact_margin(network, field.margin)
    core = job.window - 2 * exact.pixels if job.window else CORE
    doubled = core < 1 or (core + 2 * exact.pixels) ** 2 > 2 * core**2
    return None if job.margin == "auto" and doubled else exact


def _exact_margin(network: Network, pixels: int) -> Margin:
    field = network.field
    kind = Kind.ROUNDING if field.inexact else Kind.EXACT
    why = f"the network looks {field.reach} px to each side, its stride is {field.stride}"
    return Margin(pixels, kind, f"{why}; {field.inexact}" if field.inexact else why)


def _blend_margin(job: Job, network: Network) -> Margin:
    window = blend_window(job, network)
    stride, less = network.field.stride if network.field.bounded else 1, network.field.offset
    pixels = _shared(window, job, stride, less)
    why = network.field.unbounded or "blending was asked for"
    said = f"{2 * (pixels - less)} of {window - 2 * less} px"
    return Margin(pixels, Kind.BLEND, f"{why}; neighbouring windows share {said}")


def _shared(window: int, job: Job, stride: int, less: int) -> int:
    """The margin where windows are blended: half of what neighbours share, and the `less` px of which nothing is said.

    Raises SettingsError where the network says nothing of the whole window.
    """
    if window <= 2 * less:
        raise SettingsError(
            f"The window cannot be {window} px: the network says nothing of its outer {less} px. "
            f"Take more than {2 * less}."
        )
    return rounded_up(less + round((window - 2 * less) * (job.overlap or OVERLAP) / 2), stride)


def blend_window(job: Job, network: Network) -> int:
    """The side of the window where windows are blended: the job's, the card's, the graph's, or 512, in that order."""
    if job.window and network.side and job.window != network.side and not network.field.bounded:
        raise SettingsError(
            f"The window cannot be {job.window} px: this network mixes all its pixels ({network.field.unbounded}) and "
            f"was exported for {network.side} × {network.side}. Leave --window out."
        )
    return job.window or network.side or network.card.window or BLEND_WINDOW


def lay_grid(
    job: Job, network: Network, scene: Scene, margin: Margin, zoom: Fraction = Fraction(1), core: int | None = None
) -> Grid:
    """Lay windows, cores and blocks over a scene; with a core of so many pixels, unless the job says a window.

    Raises SettingsError where the sides asked for do not fit.
    """
    blend = margin.kind is Kind.BLEND
    stride = network.field.stride if network.field.bounded else 1
    if blend:
        core = blend_window(job, network) - 2 * margin.pixels
    elif job.window:
        core = job.window - 2 * margin.pixels
    else:
        core = core or _core_for(ceil(max(scene.height, scene.width) * zoom), stride, margin.pixels)
    if core < stride or core % stride:
        window = core + 2 * margin.pixels
        raise SettingsError(
            f"The window cannot be {window} px: less two margins of {margin.pixels} it must leave a core that is a "
            f"multiple of the network's stride, {stride}. "
            f"Take {_fitting(window, job, stride, margin, network.field.offset)}."
        )
    unit = core if zoom == 1 else CHUNK
    block = job.block or unit * _units_in_block(scene, unit, zoom)
    return Grid(scene.height, scene.width, stride, core, margin.pixels, block, margin.stitch, zoom)


def _fitting(window: int, job: Job, stride: int, margin: Margin, less: int) -> int:
    """The least window, from one that is too small on, that leaves a core of whole strides."""
    if margin.kind is not Kind.BLEND:
        return rounded_up(max(window - 2 * margin.pixels, stride), stride) + 2 * margin.pixels
    sides = count(rounded_up(max(window, 2 * less + 1), stride), stride)
    return next(side for side in sides if side - 2 * _shared(side, job, stride, less) >= stride)


def _core_for(longest: int, stride: int, margin: int) -> int:
    """The side of a core: 512, or twice that where its margin would cost much.

    For a small view it is that divided by a power of two, which holds it still, so that few sizes are built.
    """
    least = max(stride, rounded_up(COARSEST * stride - 2 * margin, stride))
    core = max(rounded_up(CORE, stride), least)
    if (core + 2 * margin) ** 2 > WIDE_MARGIN * core**2 and 2 * core <= longest:
        return 2 * core
    while core // 2 >= max(longest, least) and (core // 2) % stride == 0:
        core //= 2
    return core


def evened(grid: Grid) -> Grid:
    """The grid with cores at most as large, of which whole ones nearly fill the scene: the network sees less beyond it.

    Windows at the far edges are computed whole, which on a scene of a few cores is much of the work. To be taken only
    where windows decide no pixel.
    """
    if grid.zoom != 1:
        return grid
    least = max(grid.stride, COARSEST * grid.stride - 2 * grid.margin, grid.core // 2)
    counts = zip((grid.height, grid.width), grid.cores, strict=True)
    sides = {rounded_up(-(-side // (count + more)), grid.stride) for side, count in counts for more in (0, 1)}
    cores = grid.block // grid.core
    laid = [replace(grid, core=side, block=side * cores) for side in sides if least <= side < grid.core]
    best = min(laid, key=lambda one: (one.computed(), -one.core), default=grid)
    return best if best.computed() <= WORTH_EVENING * grid.computed() else grid


def cores_to_try(grid: Grid, block: int | None) -> list[int]:
    """The grid's own core and its double and half, where these fit the network, the view and the block asked for."""
    longest, least = max(grid.view.shape), COARSEST * grid.stride - 2 * grid.margin
    others = [grid.core * 2] if grid.core * 2 <= longest else []
    others += [grid.core // 2] if grid.core // 2 >= least and grid.core // 2 % grid.stride == 0 else []
    return [grid.core, *(core for core in others if not block or block % core == 0)]


def narrower(plan: Plan) -> Plan | None:
    """The plan with windows of at most half the core, one at a time, which make the same bytes; None: there is none.

    Where windows decide pixels there is none, nor where the network's coarsest map would be smaller than sums in one
    order need.
    """
    grid = plan.grid
    smaller = (core for core in range(grid.core // 2, 0, -1) if grid.core % core == 0 == core % grid.stride)
    core = next(smaller, 0)
    if plan.margin.kind is not Kind.EXACT or not core or core + 2 * grid.margin < COARSEST * grid.stride:
        return None
    less = replace(grid, core=core)
    return replace(plan, grid=less, recipe=replace(plan.recipe, window=less.window, batch=1))


def _units_in_block(scene: Scene, unit: int, zoom: Fraction) -> int:
    """How many cores, or chunks, a block has on a side: as many as make 2048 px, fewer on a scene of few blocks.

    Where the view has more pixels than the scene, 2048 px of the view.
    """

    def blocks(side: int) -> int:
        return -(-scene.height // (side * unit)) * -(-scene.width // (side * unit))

    side = max(1, floor(BLOCK / max(zoom, Fraction(1))) // unit)
    while side > 1 and blocks(side) < (ENOUGH_BLOCKS if side * unit > SMALL_BLOCK else FEW_BLOCKS):
        side //= 2
    return side


def rounded_up(pixels: int, step: int) -> int:
    """The least multiple of step that is not below pixels."""
    return -(-pixels // step) * step
