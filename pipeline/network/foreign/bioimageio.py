"""`bioimageio.yaml` and `rdf.yaml`: a model as bioimage.io describes it, formats 0.3 to 0.5.

An axis is a letter (0.4: `bcyx`) or an object (0.5); a step of pre- or postprocessing has a name (0.4) or an id (0.5)
and kwargs. Statistics are of the whole image (`per_sample`), as bioimageio.core takes them before it tiles.

Formats: https://github.com/bioimage-io/spec-bioimage-io, formulas: bioimageio.core's `proc_ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ModelError, SettingsError
from pipeline.network.foreign.preparation import prepared
from pipeline.network.foreign.told import Entries, Graph, Told, mapping, said, sequence, square, with_background

_LETTERS = {"b": "batch", "c": "channel", "i": "index", "t": "time"}
_FORMATS = ("0.3", "0.4", "0.5")
_METRES = {"millimeter": 1e-3, "micrometer": 1e-6, "nanometer": 1e-9, "meter": 1.0}
_VALUES = {"denoising", "restoration", "image-restoration", "super-resolution", "regression", "image-to-image"}
_HARMLESS = ("ensure_dtype", "clip")  # after the network they change no class


def is_bioimageio(document: object) -> bool:
    """Whether a document is a description of a model."""
    return (
        isinstance(document, Mapping)
        and "format_version" in document
        and document.get("type", "model") == "model"
        and "inputs" in document
    )


def files(document: Mapping[str, Any]) -> list[str]:
    """Which .onnx files it describes."""
    weights = document.get("weights")
    onnx = weights.get("onnx") if isinstance(weights, Mapping) else None
    source = onnx.get("source") if isinstance(onnx, Mapping) else None
    return [str(source)] if source else []


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor, by its id in 0.5 (batch, channel, y, x); `size` where it is fixed."""

    id: str
    size: int | None = None
    names: tuple[str, ...] = ()
    scale: float | None = None  # metres
    halo: int = 0


def read(document: Mapping[str, Any], source: str, graph: Graph) -> Told:
    """Read a model's description. Raises SettingsError where it has not its format's form, ModelError where it has
    several inputs or not two dimensions.
    """
    version = str(document["format_version"])
    if not version.startswith(_FORMATS):
        raise SettingsError(f"{source} is of bioimage.io's format {version}; maskmill knows {' and '.join(_FORMATS)}.")
    eats = _only_input(document, source)
    gives = _output_of(document, source, graph)
    axes = _axes(eats, source)
    layout, notes = _layout(axes, source)
    steps, cannot, more_notes = prepared(eats, axes_of=[axis.id for axis in axes], source=source)
    entries = said(
        name=document.get("name"),
        licence=document.get("license") if isinstance(document.get("license"), str) else None,
        layout=layout,
        window=square(*(_axis(axes, way).size for way in "yx")),
        resolution=_axis(axes, "y").scale if _axis(axes, "y").scale == _axis(axes, "x").scale else None,
        bands=list(_axis(axes, "channel").names) or None,
    )
    answer, refused = _answer(document, gives, source, graph, layout)
    halo = max((axis.halo for axis in _axes(gives, source)), default=0)
    return Told(
        source,
        entries | steps | answer,
        (*notes, *more_notes),
        cannot | refused,
        {"halo": halo} if halo else {},
    )


def _only_input(document: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    inputs = sequence(document["inputs"], f"`inputs` of {source}")
    if len(inputs) != 1:
        raise ModelError(f"{source} describes {len(inputs)} inputs; maskmill gives a network one, the image.")
    return mapping(inputs[0], f"An input in {source}")


def _output_of(document: Mapping[str, Any], source: str, graph: Graph) -> Mapping[str, Any]:
    """What is said of the chosen output: that of its name, else that of its place."""
    outputs = [mapping(one, f"An output in {source}") for one in sequence(document.get("outputs"), "`outputs`")]
    named = [one for one in outputs if graph.output and graph.output in (one.get("id"), one.get("name"))]
    if not named and graph.place >= len(outputs):
        raise SettingsError(
            f"{source} describes {len(outputs)} outputs, and the network has {len(graph.seen.outputs)}."
        )
    return named[0] if named else outputs[graph.place]


def _axes(tensor: Mapping[str, Any], source: str) -> list[Axis]:
    """The axes of an input or output in their order."""
    told = tensor.get("axes")
    if isinstance(told, str):
        shape = tensor.get("shape")
        sides: Sequence[Any] = shape if isinstance(shape, list) else [None] * len(told)
        halo = tensor.get("halo") if isinstance(tensor.get("halo"), list) else [0] * len(told)
        return [
            Axis(_LETTERS.get(letter, letter), side if isinstance(side, int) else None, halo=int(rim))
            for letter, side, rim in zip(told, sides, halo or (), strict=False)
        ]
    return [_axis_read(mapping(one, f"An axis in {source}")) for one in sequence(told, f"`axes` in {source}")]


def _axis_read(axis: Mapping[str, Any]) -> Axis:
    kind = str(axis.get("type"))
    size, scale = axis.get("size"), axis.get("scale")
    metres = _METRES.get(str(axis.get("unit")))
    names = axis.get("channel_names")
    return Axis(
        id=str(axis.get("id") or ("x" if kind == "space" else kind)),
        size=size if isinstance(size, int) else None,
        names=tuple(map(str, names)) if isinstance(names, list | tuple) else (),
        scale=scale * metres if metres and isinstance(scale, int | float) and scale > 0 else None,
        halo=axis["halo"] if isinstance(axis.get("halo"), int) else 0,
    )


def _axis(axes: Sequence[Axis], name: str) -> Axis:
    return next((axis for axis in axes if axis.id == name), Axis(name))


def _layout(axes: Sequence[Axis], source: str) -> tuple[str, list[str]]:
    """NCHW or NHWC, and a note where columns are said to come before rows."""
    order = [axis.id for axis in axes]
    if sorted(order) != ["batch", "channel", "x", "y"]:
        raise ModelError(
            f"{source} says that the network eats the axes {', '.join(order)}; maskmill gives it batch, channel, y and "
            "x, or batch, y, x and channel."
        )
    notes = []
    if order.index("x") < order.index("y"):
        notes.append(f"{source} puts x before y; the network is given rows first, as nearly all are in spite of that.")
    return ("NCHW" if order.index("channel") == 1 else "NHWC"), notes


def _answer(
    document: Mapping[str, Any], gives: Mapping[str, Any], source: str, graph: Graph, layout: str
) -> tuple[Entries, dict[str, str]]:
    """What the output means: classes, activation, says, threshold; and what cannot be expressed."""
    after: dict[str, Mapping[str, Any]] = {}
    for step in sequence(gives.get("postprocessing") or (), f"`postprocessing` in {source}"):
        kwargs = mapping(step, f"A step in {source}").get("kwargs")
        after[str(step.get("id") or step.get("name"))] = kwargs if isinstance(kwargs, Mapping) else {}
    after = {name: kwargs for name, kwargs in after.items() if name not in _HARMLESS}
    strange = [name for name in after if name not in ("sigmoid", "softmax", "binarize")]
    if strange:
        reason = f"{source} asks for `{strange[0]}` after the network, which maskmill does not do"
        return {}, {"classes": reason}
    channels = graph.channels(layout)
    names = list(_axis(_axes(gives, source), "channel").names)
    if not names and channels == 1:
        names = [str(gives.get("id") or gives.get("name") or "object")]
    tags = {str(tag).lower() for tag in sequence(document.get("tags") or (), f"`tags` in {source}")}
    if not after and graph.last not in ("Sigmoid", "Softmax") and tags & _VALUES:
        return {"says": "values", "activation": "none"} | ({"classes": names} if names else {}), {}
    return _decided(after, channels, names, graph), {}


def _decided(after: Mapping[str, Mapping[str, Any]], channels: int | None, names: list[str], graph: Graph) -> Entries:
    names = names or [f"channel {place}" for place in range(1, (channels or 0) + 1)]
    sigmoid = "sigmoid" in after or "binarize" in after or (graph.last == "Sigmoid" and "softmax" not in after)
    says = "logits" if "sigmoid" in after or "softmax" in after else graph.answers
    if not sigmoid and channels == 1:
        sigmoid = True
    answer: Entries = {"says": says} if says else {}
    if names:
        answer["classes"] = with_background(names) if sigmoid else names
    if sigmoid or "softmax" in after:
        answer["activation"] = "sigmoid" if sigmoid else "softmax"
    least = after.get("binarize", {}).get("threshold")
    if isinstance(least, int | float):
        answer["threshold"] = float(least)
    return answer
