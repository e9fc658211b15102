"""The Plan: everything that a worker needs to do any block of one scene, frozen, in one small pickle.

Nothing here reads a pixel or runs a network; what has to be measured is measured in `tune` and handed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self

from pipeline.errors import IdentityError, SettingsError
from pipeline.grid import Grid, Stitch
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.network.host import Recipe
from pipeline.raster.area import Area
from pipeline.raster.layer import resized
from pipeline.raster.source import Scene
from pipeline.settings import Job
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product


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
    notes: tuple[str, ...] = ()  # what the user should know of how it was understood
    rim: int = 0  # pixels of the window, on each side, that the graph is not given; `field` counts them in
    scale: Fraction = Fraction(1)  # input pixels for one that the graph says; `field` is that of the rescaled graph
    ends: tuple[str, str] = ("input", "output")  # what the graph calls its input, and the output that is the mask's


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
    agreement: float | None = None  # of a GPU with the CPU, on the pixels of a probe

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
    area: Area | None = None  # what is outside it is not done
    outlines: bool = False  # whether the finished mask is drawn as polygons too
    mixed: bool = False  # whether workers may be of another numeric class than was planned for

    @property
    def georef(self) -> Georef:
        """Where the mask lies."""
        scene = self.scene
        ties = scene.ties.attributes() if scene.ties else None
        return Georef(scene.crs, scene.transform, ties, slide=bool(scene.levels))

    @property
    def digest(self) -> str:
        """A short name for the identity."""
        return digest_of(self.identity)

    @property
    def view(self) -> Scene:
        """The scene as the network sees it."""
        return self.scene if self.grid.zoom == 1 else resized(self.scene, self.grid.zoom)

    def on(self, store: str, scene: Scene | None = None) -> Plan:
        """The same plan with the store's place, and perhaps a staged scene, filled in."""
        return replace(self, store=store, scene=scene or self.scene)


def digest_of(identity: Mapping[str, Any]) -> str:
    """Hash plain data by its canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def products_of(job: Job, card: Card) -> tuple[Product, ...]:
    """The rasters that a job makes, the mask first.

    Raises SettingsError where the network says values and what only probabilities have is asked for.
    """
    every, labels = card.channels, card.labels
    if card.says == "values":
        if asked := sorted(job.products & {"confidence", "probabilities"}):
            raise SettingsError(
                f"There is no {asked[0]} to write: {card.name} says values, not probabilities. They are written as "
                f"they are; take {asked[0]} out of `products`."
            )
        values = Product("values", every, labels, "float32") if every > 1 else Product("values", dtype="float32")
        made = [Product("mask"), values]
        return tuple([*made, Product("disagreement", dtype="float32")] if "disagreement" in job.products else made)
    made = [Product("mask", every, labels, card.mask_dtype) if card.layered else Product("mask", dtype=card.mask_dtype)]
    if "confidence" in job.products:
        made.append(Product("confidence"))
    if "probabilities" in job.products:
        made.append(Product("probabilities", every, labels))
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
        precision=job.precision,
    )


def identity_of(
    job: Job,
    network: Network,
    scene: Scene,
    choices: Choices,
    zoom: Fraction = Fraction(1),
    area: Area | None = None,
) -> dict[str, Any]:
    """The parts that make a result what it is, each under the name that a message gives it.

    In exact mode window and margin decide no pixel, so they are left out; otherwise they are part of it.
    """
    settings = {**job.deciding()}
    if not choices.margin.exact:
        settings |= {"core": choices.core, "margin in pixels": choices.margin.pixels}
    if zoom != 1:
        settings |= {"pixels that the network sees to a pixel": str(zoom)}
    return {
        "source": scene.fingerprint,
        "bands": list(scene.bands),
        "area": area.identity() if area else None,
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
