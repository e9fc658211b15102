"""The card in the model's own file, in the words of the STAC Machine Learning Model extension (MLM) 1.5.

The key `mlm` of an ONNX file's metadata holds the JSON of an item's properties: `mlm:*`, `bands`, `gsd`, `license` and
`classification:classes` as the extensions define them, so that other programs read what they know. What they have no
word for stands under `maskmill:*` in the same JSON. Reading is forgiving, because a job may replace any part: what is
not said, or cannot be expressed by a card, is left out and asked for later.

Fields: https://github.com/stac-extensions/mlm, https://github.com/stac-extensions/classification
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from pipeline.errors import SettingsError
from pipeline.network.card import Card
from pipeline.network.legend import MaskClass
from pipeline.network.scaling import Constant, MeanStd, MinMax, OverScene, SceneStatistics, Unscaled, WindowStatistics
from pipeline.network.signature import signature

KEY = "mlm"
_OWN = "maskmill:"
_OWN_ENTRIES = (
    "gain",
    "offset",
    "units",
    "scaling",
    "clip",
    "fill",
    "output",
    "says",
    "activation",
    "exclusive",
    "threshold",
    "training_data",
    "scores",
)
_TASKS = ("semantic-segmentation", "segmentation")
_AXES = {"NCHW": ("batch", "channel", "height", "width"), "NHWC": ("batch", "height", "width", "channel")}
_SCENE = {"type": "processing", "format": "maskmill", "expression": "scene"}  # the other statistical kinds alike


def embed(model: ModelProto, card: Card) -> ModelProto:
    """Give a copy of the model that carries the card in its metadata, in place of any that it carried."""
    whole = ModelProto()
    whole.CopyFrom(model)
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != KEY]
    del whole.metadata_props[:]
    text = json.dumps(to_mlm(card, ends_of(card, model)), ensure_ascii=False, allow_nan=False, sort_keys=True)
    for key, value in (*kept, (KEY, text)):
        whole.metadata_props.add(key=key, value=value)
    return whole


def ends_of(card: Card, model: ModelProto) -> tuple[str, str]:
    """What the graph calls its input, and the output that is the mask's."""
    seen = signature(model)
    return seen.input, card.output or next(iter(seen.outputs))


def to_mlm(card: Card, ends: tuple[str, str]) -> dict[str, Any]:
    """Say a card as STAC item properties; `read_mlm` is its inverse. `ends` are the graph's, as `ends_of` says them."""
    properties = {
        "mlm:name": card.name,
        "mlm:architecture": card.architecture,
        "mlm:framework": "ONNX",
        "mlm:tasks": [_TASKS[0]],
        "mlm:input": [
            {
                "name": ends[0],
                "bands": [band.name for band in card.bands],
                "input": _structure(card, len(card.bands)),
                "value_scaling": _value_scaling(card),
                "resize_type": None,
                "pre_processing_function": None,
            }
        ],
        "mlm:output": [
            {
                "name": ends[1],
                "tasks": [_TASKS[0]],
                "result": _structure(card, card.channels),
                "classification:classes": _classes_said(card.classes),
                "post_processing_function": None,
            }
        ],
        "bands": [_said({"name": b.name, "data_type": card.dtype, f"{_OWN}index": b.index}) for b in card.bands],
        **_said({"gsd": card.resolution, "license": card.licence}),
    }
    own = card.model_dump(mode="json", include=set(_OWN_ENTRIES))
    if not card.exclusive:
        del own["exclusive"]
    if _is_plain(card):  # value_scaling says it all
        own = {key: value for key, value in own.items() if key not in ("gain", "offset", "scaling")}
    return properties | {_OWN + key: value for key, value in own.items()}


def read_mlm(properties: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read STAC item properties as entries of a card: those that are said, and that a card can express.

    Raises SettingsError where the model makes no masks, takes several inputs, or was written by a later maskmill;
    TypeError, KeyError and the like where the properties have not the form of MLM's.
    """
    _refuse_other_tasks(properties, source)
    eats, gives = _only(properties, "mlm:input", source), _only(properties, "mlm:output", source)
    structure = eats.get("input") or {}
    said: dict[str, Any] = {
        "name": properties.get("mlm:name"),
        "architecture": properties.get("mlm:architecture"),
        "layout": _layout(structure),
        "classes": _classes_read(gives.get("classification:classes") or [], f"{_OWN}says" in properties),
    }
    said = {key: value for key, value in said.items() if value}
    said |= {"resolution": properties.get("gsd"), "licence": properties.get("license"), "window": _window(structure)}
    said |= _bands_read(eats.get("bands") or [], properties.get("bands") or [])
    scaling = _scaling_read(eats)
    if scaling is not None:
        said["scaling"] = scaling
    return said | _own_entries(properties, source)


def _said(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _structure(card: Card, channels: int) -> dict[str, Any]:
    side = card.window or -1
    sides = {"batch": -1, "channel": channels, "height": side, "width": side}
    order = _AXES[card.layout]
    return {"shape": [sides[axis] for axis in order], "dim_order": list(order), "data_type": "float32"}


def _window(structure: Mapping[str, Any]) -> int | None:
    sides = dict(zip(structure.get("dim_order") or (), structure.get("shape") or (), strict=False))
    height, width = sides.get("height", -1), sides.get("width", -1)
    return height if height == width and height > 0 else None


def _layout(structure: Mapping[str, Any]) -> str | None:
    order = tuple(structure.get("dim_order") or ())
    return next((layout for layout, axes in _AXES.items() if axes == order), None)


def _is_plain(card: Card) -> bool:
    """Whether a scaling is one that MLM has a word for, on raw pixels."""
    if card.scaling.kind not in {"none", "constant", "mean_std", "min_max", "scene"}:
        return False
    divided = isinstance(card.scaling, MeanStd) and card.scaling.divide_by != 1
    refined = isinstance(card.scaling, SceneStatistics) and card.scaling != SceneStatistics()
    return not card.clip and not divided and not refined and set(card.gain) == {1.0} and set(card.offset) == {0.0}


def _value_scaling(card: Card) -> list[dict[str, Any]] | None:
    """Say how raw pixels are scaled: one object for all bands, or one for each."""
    scaling = card.scaling
    if isinstance(scaling, OverScene | WindowStatistics) or card.clip:
        return [_SCENE | {"expression": scaling.kind}]
    middle, divisor = scaling.shift_and_divisor(None)
    if not _is_plain(card):
        gain = np.asarray(card.gain)
        middle, divisor = (middle - card.offset) / gain, divisor / gain
    elif isinstance(scaling, Unscaled):
        return None
    elif isinstance(scaling, Constant):
        return [{"type": "scale", "value": scaling.divide_by}]
    elif isinstance(scaling, MinMax):
        pairs = zip(scaling.min, scaling.max, strict=True)
        return [{"type": "min-max", "minimum": low, "maximum": high} for low, high in pairs]
    numbers = zip(*np.broadcast_arrays(middle, divisor), strict=True)
    return [{"type": "z-score", "mean": float(mean), "stddev": float(std)} for mean, std in numbers]


def _scaling_read(eats: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a scaling; None where none is said, or one that is not a shift and a divisor."""
    if "value_scaling" not in eats or eats.get("pre_processing_function") is not None:
        return None
    objects = eats["value_scaling"]
    if objects is None:
        return {"kind": "none"}
    if objects == [_SCENE]:
        return {"kind": "scene"}
    return _affine_read([each or {"type": None} for each in objects])


def _affine_read(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Read a shift and a divisor of each band; None where one object is neither."""
    types = {each.get("type") for each in objects}
    if types == {"scale"} and len(objects) == 1:
        return {"kind": "constant", "divide_by": objects[0]["value"]}
    if types == {"min-max"}:
        return {"kind": "min_max", "min": [o["minimum"] for o in objects], "max": [o["maximum"] for o in objects]}
    pairs = [pair for each in objects if (pair := _shift_and_divisor(each)) is not None]
    if not pairs or len(pairs) < len(objects):
        return None
    return {"kind": "mean_std", "mean": [pair[0] for pair in pairs], "std": [pair[1] for pair in pairs]}


def _shift_and_divisor(scaling: Mapping[str, Any]) -> tuple[float, float] | None:
    """Read one object of `value_scaling`; None for those that clip or compute."""
    match scaling.get("type"):
        case None:
            return 0.0, 1.0
        case "z-score":
            return scaling["mean"], scaling["stddev"]
        case "min-max":
            return scaling["minimum"], scaling["maximum"] - scaling["minimum"]
        case "offset":
            return scaling["value"], 1.0
        case "scale":
            return 0.0, scaling["value"]
    return None


def _classes_said(classes: Sequence[MaskClass]) -> list[dict[str, Any]]:
    """Say classes by their index; their names in STAC are of letters, digits, - and _, and a description is free."""
    said = []
    for entry in classes:
        short = re.sub(r"[^0-9A-Za-z_-]+", "-", entry.name).strip("-") or f"class-{entry.value}"
        each = {"value": entry.value, "name": short, "color_hint": entry.colour[1:].upper()}
        said.append(each | ({} if short == entry.name else {"description": entry.name}))
    return said


def _classes_read(said: Sequence[Mapping[str, Any]], ours: bool) -> list[dict[str, Any]]:
    """Read classes. `ours` stand by index; of others, values that count from 0 are the indices, else the places are."""
    if not ours and sorted(each["value"] for each in said) == list(range(len(said))):
        said = sorted(said, key=lambda each: int(each["value"]))
    wording = ("description", "name") if ours else ("title", "name", "description")
    return [
        {
            "value": each["value"],
            "name": next((each[key] for key in wording if each.get(key)), None),
            **({"colour": f"#{each['color_hint']}"} if each.get("color_hint") else {}),
        }
        for each in said
    ]


def _bands_read(names: Sequence[Any], described: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Read the input's bands; their types and places in the file come from the item's `bands`, where they are there."""
    names = [name["name"] if isinstance(name, Mapping) else name for name in names]
    if [each.get("name") for each in described] != names:  # the item lists all of a sensor's bands, or none
        by_name = {each.get("name"): each for each in described}
        described = [by_name.get(name, {}) for name in names]
    types = {each.get("data_type") for each in described}
    bands = [{"name": n, "index": d.get(f"{_OWN}index")} for n, d in zip(names, described, strict=True)]
    return ({"bands": bands} if bands else {}) | {"dtype": types.pop() if len(types) == 1 else None}


def _own_entries(properties: Mapping[str, Any], source: str) -> dict[str, Any]:
    own = {key.removeprefix(_OWN): value for key, value in properties.items() if key.startswith(_OWN)}
    if strange := sorted(own.keys() - set(_OWN_ENTRIES)):
        raise SettingsError(
            f"{source} says `{_OWN}{strange[0]}`, which this maskmill does not know; a later one wrote it: update."
        )
    return own


def _only(properties: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    """The one object of a list; empty where the list is not said."""
    objects = properties.get(key, [{}])
    if not isinstance(objects, list) or not all(isinstance(each, Mapping) for each in objects) or not objects:
        raise SettingsError(f"{source} must hold a list of objects under `{key}`, as STAC MLM 1.5 says.")
    if len(objects) > 1 and key == "mlm:input":
        raise SettingsError(f"{source} describes {len(objects)} inputs; maskmill gives a network one, the image.")
    first: Mapping[str, Any] = objects[0]
    return first


def _refuse_other_tasks(properties: Mapping[str, Any], source: str) -> None:
    tasks = properties.get("mlm:tasks") or []
    if tasks and not set(tasks) & set(_TASKS):
        raise SettingsError(
            f"{source} says that the network does {', '.join(map(str, tasks))}; maskmill makes masks, and takes "
            f"networks for {' or '.join(_TASKS)}."
        )
