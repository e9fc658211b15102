"""From a job, a network and a scene to a Plan and its Budget: everything that is decided before the first block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.aoi import Interest, interest_of
from pipeline.budget import (
    DASK_BYTES,
    MIB,
    SLACK,
    Budget,
    allowed,
    block_bytes,
    demand_window,
    disk_bytes,
    ledger_bytes,
    publish_bytes,
    stage_bytes,
)
from pipeline.calibrate import Affine, affine_of, calibrated, calibration_note, measured_note
from pipeline.errors import BlockError, SceneError, SettingsError
from pipeline.grid import Grid, Stitch
from pipeline.lay import COARSEST, lay_grid, stated_margin
from pipeline.network.card import Card
from pipeline.network.cuda import gpu_count
from pipeline.network.digest import model_digest
from pipeline.network.field import field_of
from pipeline.network.mlm import ends_of
from pipeline.network.model_file import find_model, load_model
from pipeline.network.understand import understand
from pipeline.pace import Pace, fastest
from pipeline.place import placed
from pipeline.plan import Choices, Margin, Network, Plan, identity_of, products_of, recipe_of
from pipeline.probe import Probe
from pipeline.raster.access import CACHE_BYTES
from pipeline.raster.layer import resized
from pipeline.raster.source import Scene
from pipeline.raster.stage import as_staged, reason_to_stage, to_stage
from pipeline.resolution import zoom_of
from pipeline.settings import Job
from pipeline.sides import block_of, bytes_held, bytes_read, evenly, paces_of, threads_for
from pipeline.tune import Trial, Tuner


@dataclass(frozen=True, slots=True)
class Settled:
    """A plan, what it will hold, what was tried for it, and what the user should know."""

    plan: Plan
    budget: Budget
    probe: Probe
    notes: tuple[str, ...]
    interest: Interest = field(default_factory=Interest)
    paces: tuple[Pace, ...] = ()  # of the sizes of window that were tried, if any

    @property
    def staged(self) -> str | None:
        """Why the scene is written as a tiled file first; None where it is read as it is."""
        return reason_to_stage(self.plan.scene)

    def as_dict(self) -> dict[str, Any]:
        """The plan as a person wants it told; plain data for JSON. Reads no pixel."""
        plan, grid = self.plan, self.plan.grid
        scene_pixels, touched = grid.height * grid.width, self.interest.touched(grid)
        computed = grid.computed(touched)
        read = as_staged(plan.scene) if self.staged else plan.scene
        read = read if grid.zoom == 1 else resized(read, grid.zoom)
        decoded, once = bytes_read(read, grid, touched)
        return {
            "scene": plan.scene.name,
            "pixels": scene_pixels,
            "shape": [grid.height, grid.width],
            "window": grid.window,
            "core": grid.core,
            "block": grid.block,
            "blocks": len(grid),
            "blocks_outside": len(grid) - len(touched),
            "windows": computed // grid.window**2,
            "margin": grid.margin,
            "margin_kind": plan.margin.kind.value,
            "margin_why": plan.margin.why,
            "margin_difference": plan.margin.difference,
            "zoom": float(grid.zoom),
            "computed_per_pixel": computed / scene_pixels,
            "bytes_read": decoded,
            "read_amplification": decoded / max(once, 1),
            "staged": self.staged,
            "memory": self.budget.as_dict(),
            "disk": self.budget.disk,
            "device": plan.choices.device,
            "provider": self.probe.provider,
            "numeric_class": plan.choices.numeric_class,
            "agreement_with_cpu": plan.choices.agreement,
            "batch": plan.recipe.batch,
            "tuned": [pace.as_dict() for pace in self.paces],
            "seconds": self.probe.seconds * computed / grid.window**2 / self.budget.workers,
            "identity": plan.digest,
            "notes": list(self.notes),
        }


def open_network(path: Path, job: Job) -> Network:
    """Read a model and its card, how far it looks and where its answer lies. Raises ModelError and SettingsError."""
    file = find_model(path)
    model = load_model(file)
    found = understand(model, file, job.card)
    card = found.card
    field = field_of(model, card.output, card.layout)
    side, ends = _fixed_side(model, card), ends_of(card, model)
    network = Network(str(file.resolve()), model_digest(model), card, field, side, found.notes, ends=ends)
    return placed(network, model, job)


def _fixed_side(model: onnx.ModelProto, card: Card) -> int | None:
    """The side of a square input whose sides are fixed in the graph; None where they are free."""
    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(one for one in model.graph.input if one.name not in weights)
    sides = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    rows, cols = sides[2:4] if card.layout == "NCHW" else sides[1:3]
    return rows if rows > 0 and rows == cols else None


@contextmanager
def before_the_first_block() -> Iterator[None]:
    """Raise SceneError for a part of the image that cannot be read: later it would be one block's hole."""
    try:
        yield
    except BlockError as error:
        raise SceneError(error.message) from None


@before_the_first_block()
def settle(job: Job, network: Network, scene: Scene, tuner: Tuner, frozen: Choices | None, cores: int) -> Settled:
    """Decide everything about one scene; what the folder has frozen is obeyed.

    `cores` are those of this machine, or the threads of somebody else's workers. Raises an InputError where something
    does not fit: bands, window, block, margin, device.
    """
    demand_bands(network.card, scene)
    interest = interest_of(job, scene)
    products = products_of(job, network.card)
    zoom, seen_at = zoom_of(job, network.card, scene)
    view = scene if zoom == 1 else resized(scene, zoom)
    eats = calibrated(network.card, scene)
    affine = (frozen.shift, frozen.factor) if frozen else affine_of(eats, view, interest.seen_at(zoom))
    margin = _margin(job, network, view, tuner, affine, frozen)
    grid = _obeyed(job, network, scene, margin, frozen, zoom) if frozen else lay_grid(job, network, scene, margin, zoom)
    demand_window(recipe_of(grid, scene, job, job.batch or 1), len(scene.bands), job.memory)
    paces = [] if frozen else paces_of(job, network, scene, grid, margin, tuner, cores)
    taken = fastest(paces) if paces else None
    if taken and taken.core != grid.core:
        grid = lay_grid(job, network, scene, margin, zoom, taken.core)
    if network.field.bounded:
        tuner.demand_relaxable(network, grid.window)
    one = recipe_of(grid, scene, job, 1)
    probe = tuner.probe(network, one, job.device.value, taken.batch if taken else job.batch)
    at_once = taken.at_once if taken and not job.far else cores
    if not frozen:
        grid, probe = evenly(job, network, grid, margin, probe)
        grid = block_of(job, view, grid, probe, tuner, at_once, partial(bytes_held, view, products, network.card))
    agreed = _agreed(Trial(network, view, *affine, probe.device, job.precision), grid.window, probe, tuner, frozen)
    choices = Choices(grid.core, grid.block, margin, *affine, probe.device, probe.numeric_class, agreed)
    own = replace(network, card=eats)
    plan = Plan(
        scene=scene,
        network=own,
        grid=grid,
        margin=margin,
        recipe=recipe_of(grid, scene, job, probe.batch),
        choices=choices,
        products=products,
        identity=identity_of(job, own, scene, choices, zoom, interest.area),
        store="",
        outlines="outlines" in job.products,
        mixed=job.mixed,
        area=interest.area,
    )
    told = (calibration_note(eats, scene), measured_note(eats, interest.fence), *_probe_notes(probe), seen_at)
    notes = (*network.notes, *scene.notes, *interest.notes, *(note for note in told if note))
    notes += tuple(_grid_notes(job, margin, grid, frozen))
    budget = budget_of(job, plan, probe, at_once, interest)
    return Settled(plan, budget, probe, notes, interest, tuple(paces))


def _probe_notes(probe: Probe) -> Iterator[str | None]:
    if probe.fallback:
        yield f"The network runs on the CPU. {probe.fallback}"
    yield probe.note


def _grid_notes(job: Job, margin: Margin, grid: Grid, frozen: Choices | None) -> Iterator[str]:
    if note := _coarse_note(margin, grid):
        yield note
    if not frozen:
        return
    if job.window and job.window != grid.window:
        yield f"The window is {grid.window} px, as this folder's plan has it, not {job.window}."
    if job.block and job.block != grid.block:
        yield f"The block is {grid.block} px, as this folder's plan has it, not {job.block}."


def _agreed(trial: Trial, window: int, probe: Probe, tuner: Tuner, frozen: Choices | None) -> float | None:
    """How far a GPU agrees with the CPU, measured once for a result; None on the CPU."""
    if probe.device != "cuda":
        return None
    if frozen and frozen.numeric_class == probe.numeric_class and frozen.agreement is not None:
        return frozen.agreement
    return tuner.agreement(trial, window)


def _margin(job: Job, network: Network, scene: Scene, tuner: Tuner, affine: Affine, frozen: Choices | None) -> Margin:
    stated = stated_margin(job, network)
    if stated:
        return stated
    if frozen and frozen.margin.stitch is Stitch.EXACT:
        return frozen.margin  # what was measured once; the identity holds what was asked for
    chosen = job.margin if isinstance(job.margin, int) else None
    return tuner.margin(Trial(network, scene, *affine, device=job.device.value), chosen)


def _obeyed(job: Job, network: Network, scene: Scene, margin: Margin, frozen: Choices, zoom: Fraction) -> Grid:
    """The grid of the folder's plan.

    Unless the margin is exact, a window that is asked for decides pixels: then the identities tell it from the frozen.
    """
    asked = job.window and not margin.exact
    sides = {} if asked else {"window": None, "block": None}
    laid = lay_grid(job.model_copy(update=sides), network, scene, margin, zoom)
    try:
        return replace(laid, core=laid.core if asked else frozen.core, block=frozen.block)
    except SettingsError:  # frozen for another network or window: the identities will say so
        return laid


def demand_bands(card: Card, scene: Scene) -> None:
    """Raise SceneError where the scene does not give what the card eats."""
    if len(scene.bands) != len(card.bands):
        names = ", ".join(band.name for band in card.bands)
        raise SceneError(
            f"{scene.shown}: the model eats {len(card.bands)} bands ({names}) and {len(scene.bands)} are chosen "
            f"({', '.join(map(str, scene.bands))}); name them with --bands."
        )
    if card.dtype and np.dtype(card.dtype) != np.dtype(scene.dtype):
        raise SceneError(
            f"{scene.shown}: its pixels are {scene.dtype}, and the model was made for {card.dtype}. If the numbers "
            "mean the same, say so in the job file: card: {dtype: " + scene.dtype + "}."
        )


def _coarse_note(margin: Margin, grid: Grid) -> str | None:
    if not margin.exact or grid.window >= COARSEST * grid.stride:
        return None
    return (
        f"A window of {grid.window} px makes the network's coarsest map smaller than {COARSEST} × {COARSEST}, where "
        "sums are taken in another order: its cores may differ from one pass by rounding. "
        f"Take {COARSEST * grid.stride} or more."
    )


def budget_of(job: Job, plan: Plan, probe: Probe, cores: int, interest: Interest) -> Budget:
    """Add up what the run will hold, from what the probe held, what the plan's blocks and its area need.

    Where the job names no number of workers there is one for each GPU, or as many as there are cores; and as fit.
    """
    area, inside = interest.held, interest.pixels(plan.grid)
    threads = job.threads or threads_for(plan.scene, probe, cores)
    pixels = plan.recipe.window**2 * plan.recipe.batch * len(plan.scene.bands) * 8
    blocks = block_bytes(plan.grid, plan.scene, plan.products, plan.network.card)
    ledger = ledger_bytes(plan.grid, plan.network.card)
    staged = to_stage(plan.scene)
    beside = min(len(job.scenes), 2)  # one scene is published while the blocks of the next are done
    at_once = max(publish_bytes(plan.grid, plan.products), *(stage_bytes(file) for file in staged), 0)
    one = Budget(
        worker=probe.peak + area + threads * (blocks + pixels) + CACHE_BYTES + DASK_BYTES + SLACK,
        coordinator=probe.rest + beside * (area + at_once + ledger) + 2 * SLACK + 64 * MIB,
        workers=1,
        disk=disk_bytes(plan.grid, plan.products, staged, inside),
        threads=threads,
    )
    if job.far:  # their memory is not this machine's
        return replace(one, workers=min(cores, len(plan.grid)))
    useful = gpu_count() if probe.device == "cuda" else cores
    at_most = max(1, min(useful, one.fitting(allowed(job.memory))))
    return replace(one, workers=min(job.workers or at_most, len(plan.grid)))
