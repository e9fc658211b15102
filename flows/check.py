"""`maskmill models check`: what is understood of a model and from where, what it costs, and one window of it.

Nothing stops at the first thing that is missing: what is known without it is shown beside it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml

from flows.ending import COMPLETE, NOT_STARTED, UNEXPECTED
from flows.listing import listed
from flows.office import Office
from flows.zoo import model_path
from pipeline.child import in_child
from pipeline.errors import BlockError, InputError, SceneError
from pipeline.grid import CHUNK, Rect
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.network.understand import Gathered
from pipeline.plan import Plan
from pipeline.predict import Stopwatch, predict_block
from pipeline.settings import Job, SceneEntry
from pipeline.settle import Settled
from pipeline.survey import Survey
from pipeline.work import bench, census, close_bench

_NOISE = 1024  # px: the side of the image of noise, large enough for the cores of a large scene


@dataclass(frozen=True, slots=True)
class Check:
    """What was found; each part is plain data for JSON, and `problem` is the sentence that ended it early."""

    file: str
    digest: str
    card: list[dict[str, Any]]  # entry, value and where it is from
    notes: tuple[str, ...]
    missing: dict[str, str]
    field: dict[str, Any]
    output: dict[str, Any]
    margin: dict[str, Any]
    ran: dict[str, Any]
    problem: str | None
    exit_code: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def checked(job: Job, on_scene: bool) -> Check:
    """Understand a job's model, bound it, and run one block of one core in the middle of its first scene.

    Without `on_scene` the image is noise. Raises ModelError where the file is no network that makes a raster,
    SettingsError where a document beside it cannot be read.
    """
    path = model_path(job.model)
    with Survey() as survey:
        seen = survey.examined(path, job.card)
    found = seen.found
    problem, code, settled = None, COMPLETE, None
    ran: dict[str, Any] = {}
    try:
        settled, ran = _tried(job, found.card(), on_scene)
    except (InputError, BlockError) as error:
        problem, code = error.message, NOT_STARTED
    if ran and not ran["finite"]:
        problem, code = "The network says NaN or infinity: its scaling or its precision is at fault.", UNEXPECTED
    return Check(
        file=str(path),
        digest=seen.digest,
        card=_rows(found),
        notes=settled.notes if settled else found.notes,
        missing=found.missing,
        field=_field(seen.field),
        output=_output(found, settled),
        margin=_margin(settled) if settled else {},
        ran=ran,
        problem=problem,
        exit_code=code,
    )


def _rows(found: Gathered) -> list[dict[str, Any]]:
    """Each entry, in the card's order: its value and who said it; what is missing has the line that would say it."""
    rows = []
    for entry, field in Card.model_fields.items():
        if entry in found.missing:
            rows.append({"entry": entry, "value": None, "from": f"missing: add `{found.missing[entry]}`"})
        elif found.entries.get(entry) is not None:
            rows.append({"entry": entry, "value": found.entries[entry], "from": found.sources[entry]})
        elif not field.is_required() and (default := field.get_default(call_default_factory=True)):
            rows.append({"entry": entry, "value": default, "from": "default"})
    return [*rows, *({"entry": key, "value": value, "from": "told"} for key, value in found.more.items())]


def as_lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The card's rows with values as one would write them into its YAML."""
    return [{**row, "value": _line(row["value"])} for row in rows]


def _line(value: object) -> object:
    if not isinstance(value, dict | list | tuple):
        return value
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=float("inf"), sort_keys=False).strip()


def _field(field: Field | str) -> dict[str, Any]:
    """How far a network looks, or which node unbounds it."""
    if isinstance(field, str):
        return {"unknown_because": field}
    return {
        "stride": field.stride,
        "reach": field.reach if field.bounded else None,
        "bounded": field.bounded,
        "exact": field.bounded and field.inexact is None,
        "unbounded_because": field.unbounded,
        "exact_only_to_rounding_because": field.inexact,
    }


def _margin(settled: Settled) -> dict[str, Any]:
    """The margin, and what it costs: far from the scene's rim, pixels computed for each pixel of the mask."""
    grid, margin = settled.plan.grid, settled.plan.margin
    return {
        "pixels": margin.pixels,
        "kind": margin.kind.value,
        "why": margin.why,
        "window": grid.window,
        "core": grid.core,
        "computed_per_pixel": round((grid.window / grid.core) ** 2, 3),
    }


def _output(found: Gathered, settled: Settled | None) -> dict[str, Any]:
    """What comes out of the network, and what becomes of it."""
    graph = found.graph
    shape = ", ".join("?" if side is None else str(side) for side in graph.shape)
    facts: dict[str, Any] = {"name": graph.output, "shape": f"({shape})", "of": len(graph.seen.outputs)}
    if settled:
        card = settled.plan.network.card
        facts["says"] = f"{card.says}, {card.activation}"
        facts["makes"] = {product.name: list(product.labels) or "one band" for product in settled.plan.products}
        facts["classes"] = {str(one.value): one.name for one in card.classes}
    return facts


def _tried(job: Job, card: Card, on_scene: bool) -> tuple[Settled, dict[str, Any]]:
    """Plan a block of one core and do it in a child process, on the scene's middle or on noise."""
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder:
        if on_scene:
            entry = _first(job)
        else:
            entry = SceneEntry(name="noise", uri=str(_noise(Path(folder), card)))
            job = job.model_copy(update={"bands": None, "resolution": None})
        with Office.of(job) as office:
            settled = office.settle(entry, None)
            grid = settled.plan.grid
            sides = {"block": grid.core if grid.zoom == 1 else CHUNK, "window": grid.window}
            one = replace(office, job=job.model_copy(update=sides)).settle(entry, None)
        ran = in_child(run_one, one.plan)
    return settled, {
        "on": settled.plan.scene.shown if on_scene else "noise",
        **ran,
        "provider": settled.probe.provider,
        "numeric_class": settled.plan.choices.numeric_class,
        "fallback": settled.probe.fallback,
        "seconds_per_window": settled.probe.seconds,
    }


def _first(job: Job) -> SceneEntry:
    """The first scene of a job. Raises SceneError where it has none."""
    found = next(listed(job.model_copy(update={"settle": 0.0})), None)
    if found is None:
        raise SceneError("The job names no scene that is there.")
    return found.entry


def _noise(folder: Path, card: Card) -> Path:
    """An image of noise, as many bands and of the type that a card wants."""
    kind = np.dtype(card.dtype or "uint8")
    draw = np.random.default_rng(0)
    shape = (len(card.bands), _NOISE, _NOISE)
    if kind.kind == "f":
        pixels = draw.random(shape, np.float32).astype(kind)
    else:
        limits = np.iinfo(kind)
        pixels = draw.integers(max(limits.min, 0), min(limits.max, 10_000), shape, kind, endpoint=True)
    path = folder / "noise.tif"
    with rasterio.open(
        path, "w", "GTiff", width=_NOISE, height=_NOISE, count=len(pixels), dtype=kind, tiled=True
    ) as file:
        file.write(pixels)
    return path


def run_one(plan: Plan) -> dict[str, Any]:
    """Do the block in the middle of a scene; to be called in a process of its own. Raises BlockError."""
    grid = plan.grid
    block = grid.height // 2 // grid.block * grid.blocks[1] + grid.width // 2 // grid.block
    owned: Rect = grid.owned(block)
    try:
        made = predict_block(bench(plan), block, Stopwatch())
    except BlockError as error:
        if "NaN or infinity" not in error.message:
            raise
        return {"finite": False}
    finally:
        close_bench()
    counts, _ = census(plan.scene, owned, made.rasters["mask"], plan.network.card)
    names = {one.value: one.name for one in plan.network.card.legend}
    shares = {names.get(value, str(value)): round(count / owned.area, 4) for value, count in counts.items()}
    return {
        "rows": [owned.top, owned.bottom],
        "columns": [owned.left, owned.right],
        "finite": True,
        "shares": shares if len(shares) <= 16 else {"values": len(shares)},
    }
