"""A checkpoint made one ONNX file, which holds all that `maskmill run` wants to know; nothing is written in doubt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from models.architecture import Architecture
from models.checkpoint import Checkpoint
from models.export import OPSET, Answering, Graph, exported, noise, spoken
from models.parity import AGREEMENT, Parity, compared, speaker
from models.real import windows
from pipeline.errors import ModelError, SettingsError
from pipeline.lay import OVERLAP, rounded_up
from pipeline.network.card import Card
from pipeline.network.deepness import to_deepness, unsaid
from pipeline.network.digest import model_digest
from pipeline.network.field import Field, field_of
from pipeline.network.halve import halved
from pipeline.network.mlm import embed
from pipeline.network.signature import signature
from pipeline.raster.source import Scene, open_scene
from pipeline.store.objects import put_whole

KEY = "maskmill:export"
"""Of the file's metadata: how it was exported, as JSON."""

_SIDE = 256  # px: of what is compared, where the card names no window
_NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A file that was written, and what is known of it."""

    file: Path
    model: ModelProto
    card: Card
    field: Field
    parity: tuple[Parity, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "file": str(self.file),
            "bytes": self.file.stat().st_size,
            "digest": model_digest(self.model),
            **self.facts,
            "card": self.card.model_dump(mode="json"),
            "notes": list(self.notes),
        }


def ship(
    checkpoint: Path, out: Path, image: Path | None = None, side: int | None = None, half: bool = False
) -> Shipped:
    """Export a checkpoint to `out`, which is written whole or not at all.

    Parameters
    ----------
    image
        What torch and ONNX are also compared on, beside noise.
    side
        Rows and columns that the file is to have, for programs that want a model of one size; None: open.
    half
        Weights and what flows between them in float16; input and output stay float32.

    Raises ModelError, with the numbers, where the file does not say what the checkpoint says.

    """
    if out.suffix != ".onnx":
        raise SettingsError(f"The model is to be {out}: give a name that ends in .onnx.")
    held = Checkpoint.load(checkpoint)
    network, card = _network(held, checkpoint)
    scene = open_scene(str(image.resolve()), card.file_bands) if image else None
    graph = exported(network, len(card.bands), card.says, side)
    card = card.model_copy(update={"window": _side(graph.model) or card.window})
    said, said_by = spoken(network), speaker(graph.model)
    parity = [compared(said, said_by, noise(graph.model, len(card.bands), network.stride), _NOISE, card)]
    if scene is not None:
        parity.append(compared(said, said_by, windows(card, scene, _seen(card, network.stride)), scene.name, card))
    for each in parity:
        each.demand()
    model = graph.model
    if half:
        model, found = _halved(graph.model, card, network.stride, scene)
        parity.append(found)
    return _written(out, model, card, graph, parity)


def _network(held: Checkpoint, path: Path) -> tuple[Answering, Card]:
    """The checkpoint's network, its weights in it, and its card as the file will have it."""
    card = held.card
    made = Architecture.of(held.architecture).build(len(card.bands), card.channels)
    try:
        made.load_state_dict(held.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"The weights of {path} are not those of {held.architecture}: {reason[:300]}") from None
    says = "values" if card.says == "values" else "probabilities"
    scores = {**card.scores, **held.scores}
    return Answering(made.eval(), card), card.model_copy(update={"says": says, "scores": scores})


def _halved(model: ModelProto, card: Card, stride: int, scene: Scene | None) -> tuple[ModelProto, Parity]:
    """The model in float16, and how it agrees with float32. Raises ModelError below 99.9 % of the pixels."""
    made = halved(onnx.shape_inference.infer_shapes(model), ends=False)
    seen = windows(card, scene, _seen(card, stride)) if scene else noise(model, len(card.bands), stride)
    on = scene.name if scene else _NOISE
    found = compared(speaker(model), speaker(made), seen, f"{on}, float16", card)
    if not found.agreement >= AGREEMENT:
        raise ModelError(
            f"In float16 the network agrees with itself on {found.agreement:.2%} of {found.pixels} pixels of {on}, and "
            f"{AGREEMENT:.1%} are wanted; leave --fp16 out."
        )
    return made, found


def _written(out: Path, model: ModelProto, card: Card, graph: Graph, parity: list[Parity]) -> Shipped:
    """Put all that is known into the file, and the file in its place."""
    field, side = field_of(model), _side(model)
    facts = {
        "opset": OPSET,
        "input": [size or "open" for size in signature(model).shape],
        "precision": "float32" if model is graph.model else "float16",
        "stride": field.stride if field.bounded else None,
        "reach": field.reach if field.bounded else None,
        "unbounded_because": field.unbounded,
        "parity": [each.as_dict() for each in parity],
    }
    notes = [f"Not all sides are open: {graph.fixed}"] if graph.fixed and side is None else []
    if all(each.on.startswith(_NOISE) for each in parity):
        notes.append("It was compared on noise alone: `--on IMAGE` compares it on pixels such as it will see.")
    whole, reason = embed(model, card), unsaid(card)
    shared = 2 * field.margin / (side or card.window or _SIDE) if field.bounded else OVERLAP
    said = {} if reason else to_deepness(card, side or card.window, shared)
    for key, value in {**said, KEY: json.dumps(facts, sort_keys=True)}.items():
        whole.metadata_props.add(key=key, value=value)
    if reason:
        notes.append(f"QGIS Deepness would not make this mask: {reason}.")
    elif side is None:
        notes.append("QGIS Deepness opens models of one size alone: `--side 512` makes one.")
    put_whole(out, whole.SerializeToString(deterministic=True))
    return Shipped(out, model, card, field, tuple(parity), facts, tuple(notes))


def _side(model: ModelProto) -> int | None:
    """The side of a graph whose rows and columns are as many and not open."""
    _, _, rows, cols = signature(model).shape
    return rows if rows == cols else None


def _seen(card: Card, stride: int) -> int:
    """The side of the windows that are compared."""
    return rounded_up(card.window or _SIDE, stride)
