"""The Plan: everything that a worker needs to do any block of one scene, frozen, in one small pickle.

Also the arithmetic that makes it: which margin, which window, which block. Nothing here reads a pixel or runs a
network; what has to be measured is measured in `tune` and handed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import count
from typing import Any, Self

from pipeline.errors import IdentityError, ModelError, SettingsError
from pipeline.grid import Grid, Stitch
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.network.host import Recipe
from pipeline.raster.source import Scene
from pipeline.settings import Job
from pipeline.store.hierarchy import Product

CORE = 512  # px: on a CPU, cores of 512 beat 1536 by 1.9 × (caches); a chunk of 512 suits readers of the mask
BLOCK = 2048  # px: a shard of 16 chunks
FEW_BLOCKS = 64  # below this many, smaller blocks keep all workers busy to the end
COARSEST = 16  # px: ONNX Runtime sums in another order on feature maps smaller than this
OVERLAP = 0.25  # of the window, blended with its neighbour, unless the job says otherwise
BLEND_WINDOW = 512  # px, where neither job, card nor graph names one


class Kind(StrEnum):
    """How well a margin keeps the tiling out of the answer."""

    EXACT = "exact"  # at least the reach: no pixel differs
    ROUNDING = "exact to rounding"  # at least the reach, through interpolation whose weights round: 1e-4
    MEASURED = "measured"  # below the reach, the smallest found to differ by at most 1e-3
    CHOSEN = "chosen"  # below the reach, by the user
    BLEND = "blend"  # no margin is exact; overlapping windows are averaged


@dataclass(frozen=True, slots=True)
class Margin:
    """The margin of a plan, in pixels, what it is called and why.

    `difference` is the largest |Δp| measured against a window with the exact margin; None where none was measured.
    """

    pixels: int
    kind: Kind
    why: str
    difference: float | None = None

    @property
    def exact(self) -> bool:
        """Whether it is at least the reach, so that windows decide no pixel."""
        return self.kind in {Kind.EXACT, Kind.ROUNDING}

    @property
    def stitch(self) -> Stitch:
        """Which windows a block needs."""
        return Stitch.BLEND if self.kind is Kind.BLEND else Stitch.EXACT


@dataclass(frozen=True, slots=True)
class Network:
    """A model as a job uses it: where it lies, what it is, what it eats, how far it looks."""

    path: str
    digest: str
    card: Card
    field: Field
    side: int | None  # the fixed side of its square input, in pixels, where the graph has one


@dataclass(frozen=True, slots=True)
class Choices:
    """What was found once for a result and is obeyed by every worker and resume; lies in the folder as JSON."""

    core: int
    block: int
    margin: Margin
    shift: tuple[float, ...]
    factor: tuple[float, ...]
    device: str
    numeric_class: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self:
        """The inverse of as_dict, after JSON made lists of tuples."""
        margin = Margin(**{**said["margin"], "kind": Kind(said["margin"]["kind"])})
        tuples = {name: tuple(said[name]) for name in ("shift", "factor")}
        return cls(**{**said, **tuples, "margin": margin})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker needs. Pickles to less than 64 kB."""

    scene: Scene
    network: Network
    grid: Grid
    margin: Margin
    recipe: Recipe
    choices: Choices
    products: tuple[Product, ...]
    identity: dict[str, Any]
    store: str  # where the mask is being built

    @property
    def digest(self) -> str:
        """A short name for the identity."""
        return digest_of(self.identity)

    def on(self, store: str, scene: Scene | None = None) -> Plan:
        """The same plan with the store's place, and perhaps a staged scene, filled in."""
        return replace(self, store=store, scene=scene or self.scene)


def digest_of(identity: Mapping[str, Any]) -> str:
    """Hash plain data by its canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def stated_margin(job: Job, network: Network) -> Margin | None:
    """The margin where the job and the graph alone decide it; None where it has to be measured.

    Raises ModelError where an exact margin is asked of a network that has none.
    """
    field = network.field
    if job.margin == "exact" and not field.bounded:
        raise ModelError(
            f"No margin makes this network exact: {field.unbounded}. "
            "Take --margin blend, or auto, which blends and reports the disagreement."
        )
    if job.margin == "blend" or not field.bounded:
        return _blend_margin(job, network)
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
    pixels = _shared(window, job, network.field.stride if network.field.bounded else 1)
    why = network.field.unbounded or "blending was asked for"
    return Margin(pixels, Kind.BLEND, f"{why}; neighbouring windows share {2 * pixels} of {window} px")


def _shared(window: int, job: Job, stride: int) -> int:
    """Half of what a window shares with the next, in pixels."""
    return rounded_up(round(window * (job.overlap or OVERLAP) / 2), stride)


def blend_window(job: Job, network: Network) -> int:
    """The side of the window where windows are blended: the job's, the card's, the graph's, or 512, in that order."""
    if job.window and network.side and job.window != network.side and not network.field.bounded:
        raise SettingsError(
            f"The window cannot be {job.window} px: this network mixes all its pixels ({network.field.unbounded}) and "
            f"was exported for {network.side} × {network.side}. Leave --window out."
        )
    return job.window or network.side or network.card.window or BLEND_WINDOW


def lay_grid(job: Job, network: Network, scene: Scene, margin: Margin) -> Grid:
    """Lay windows, cores and blocks over a scene. Raises SettingsError where the sides asked for do not fit."""
    blend = margin.kind is Kind.BLEND
    stride = network.field.stride if network.field.bounded else 1
    if blend:
        core = blend_window(job, network) - 2 * margin.pixels
    elif job.window:
        core = job.window - 2 * margin.pixels
    else:
        core = _core_for(scene, stride, margin.pixels)
    if core < stride or core % stride:
        window = core + 2 * margin.pixels
        raise SettingsError(
            f"The window cannot be {window} px: less two margins of {margin.pixels} it must leave a core that is a "
            f"multiple of the network's stride, {stride}. Take {_fitting(window, job, stride, margin)}."
        )
    block = job.block or core * _cores_in_block(scene, core)
    return Grid(scene.height, scene.width, stride, core, margin.pixels, block, margin.stitch)


def _fitting(window: int, job: Job, stride: int, margin: Margin) -> int:
    """The least window, from one that is too small on, that leaves a core of whole strides."""
    if margin.kind is not Kind.BLEND:
        return rounded_up(max(window - 2 * margin.pixels, stride), stride) + 2 * margin.pixels
    sides = count(rounded_up(window, stride), stride)
    return next(side for side in sides if side - 2 * _shared(side, job, stride) >= stride)


def _core_for(scene: Scene, stride: int, margin: int) -> int:
    """The side of a core: 512, or for a small scene a power of two that holds it, so that few sizes are built."""
    least = max(stride, rounded_up(COARSEST * stride - 2 * margin, stride))
    core = max(rounded_up(CORE, stride), least)
    while core // 2 >= max(scene.height, scene.width, least) and (core // 2) % stride == 0:
        core //= 2
    return core


def _cores_in_block(scene: Scene, core: int) -> int:
    """How many cores a block has on a side: as many as make 2048 px, fewer on a scene of few blocks."""
    side = max(1, BLOCK // core)
    while side > 1 and -(-scene.height // (side * core)) * -(-scene.width // (side * core)) < FEW_BLOCKS:
        side //= 2
    return side


def rounded_up(pixels: int, step: int) -> int:
    """The least multiple of step that is not below pixels."""
    return -(-pixels // step) * step


def products_of(job: Job, card: Card) -> tuple[Product, ...]:
    """The rasters that a job makes, the mask first."""
    channels = tuple(one.name for one in card.classes[-card.channels :])
    made = [Product("mask")]
    if "confidence" in job.products:
        made.append(Product("confidence"))
    if "probabilities" in job.products:
        made.append(Product("probabilities", len(channels), channels))
    if "disagreement" in job.products:
        made.append(Product("disagreement"))
    return tuple(made)


def recipe_of(grid: Grid, scene: Scene, job: Job, batch: int) -> Recipe:
    """What the fused graph must be for a grid."""
    return Recipe(
        window=grid.window,
        margin=grid.margin,
        batch=batch,
        dtype=scene.dtype,
        stitch=grid.stitch,
        confidence="confidence" in job.products,
        probabilities="probabilities" in job.products,
    )


def identity_of(job: Job, network: Network, scene: Scene, choices: Choices) -> dict[str, Any]:
    """The parts that make a result what it is, each under the name that a message gives it.

    In exact mode window and margin decide no pixel, so they are left out; otherwise they are part of it.
    """
    settings = {**job.deciding()}
    if not choices.margin.exact:
        settings |= {"core": choices.core, "margin in pixels": choices.margin.pixels}
    return {
        "source": scene.fingerprint,
        "bands": list(scene.bands),
        "model": network.digest,
        "card": network.card.identity(),
        "settings": settings,
        "numeric class": choices.numeric_class,
    }


def demand_same(had: Mapping[str, Any], wanted: Mapping[str, Any], folder: str) -> None:
    """Raise IdentityError naming each part in which two identities differ."""
    parts = [name for name in wanted if had.get(name) != wanted[name]]
    if not parts:
        return
    told = "; ".join(f"{name}: {_short(had.get(name))} there, {_short(wanted[name])} now" for name in parts)
    raise IdentityError(
        f"{folder} holds another result: it differs in {told}. Take another --out, or --overwrite to build this one "
        "beside it and replace it when complete."
    )


def _short(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 160 else f"{text[:120]}… ({digest_of({'value': value})[:8]})"
