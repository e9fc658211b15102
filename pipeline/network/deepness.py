"""The metadata keys of QGIS Deepness: read as entries of a card, so that its models work here, and said of a card.

Each value is JSON (class names of old models: a Python literal). Deepness takes bytes, divides them by 255, subtracts
`standardization_mean` and divides by `standardization_std`; it puts no activation after the network.

Not taken over on reading: `tiles_overlap` (the margin or the job says it), `seg_small_segment` (masks are not smoothed
here), and that Deepness lets no class win below `seg_thresh` where there are several; here the most probable wins. A
Regressor's `reg_output_scaling` is told and not applied.

Keys: https://qgis-plugin-deepness.readthedocs.io, "Adding metadata to ONNX model"
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from pipeline.errors import ModelError, SettingsError
from pipeline.network.card import Card
from pipeline.network.signature import Signature

_MARKS = {"model_type", "standardization_mean", "standardization_std", "seg_thresh", "reg_output_scaling"}
_MOST_OVERLAP = 80  # %: what is left must be worth a window
_CHANNELS = 3  # red, green and blue, in this order, are what Deepness is given by default


def is_deepness(metadata: Mapping[str, str]) -> bool:
    """Whether any key is there that no other program writes."""
    return not _MARKS.isdisjoint(metadata)


def read_deepness(
    metadata: Mapping[str, str], seen: Signature, output: str | None, channels: int | None, source: str
) -> tuple[dict[str, Any], list[str]]:
    """Read Deepness' keys as entries of a card, and notes on what was left aside.

    `channels` is how many the chosen `output` has, where that is known. Raises ModelError for a model that makes no
    raster and SettingsError for a value that cannot be read.
    """
    said = {key: _value(key, text, source) for key, text in metadata.items() if key in _READ}
    kind = str(said.get("model_type", "Segmentor")).capitalize()
    if kind not in ("Segmentor", "Regressor"):
        raise ModelError(
            f"{source} says that the network is a {kind}; maskmill makes masks and rasters of values, and takes models "
            "of the types Segmentor and Regressor."
        )
    entries: dict[str, Any] = {"dtype": "uint8", "layout": "NCHW", "scaling": _scaling(said, source)}
    if seen.shape[1] == _CHANNELS:
        entries["bands"] = ["red", "green", "blue"]
    if isinstance(said.get("resolution"), int | float):
        entries["resolution"] = said["resolution"] / 100  # centimetres to metres
    for key in ("tile_size", "tiles_size"):  # Deepness' code reads the first, its documentation names the second
        if key in said:
            entries["window"] = said[key]
    if kind == "Regressor":
        return entries | {"says": "values", "activation": "none"}, _untouched(said, source)
    if said.get("seg_thresh"):  # 0 is none at all
        entries["threshold"] = said["seg_thresh"]
    for key in ("names", "class_names"):
        if key in said:
            entries["classes"] = _classes(said[key], _place(seen, output), channels, source)
    return entries, []


def _untouched(said: Mapping[str, Any], source: str) -> list[str]:
    """That a Regressor's values are the network's own."""
    factor = said.get("reg_output_scaling", 1)
    if factor == 1:
        return []
    return [f"{source} would have the values multiplied by {factor}; they are kept as the network says them."]


def unsaid(card: Card) -> str | None:
    """Why Deepness' keys cannot say a card, so that it would make another mask; None where they can."""
    if card.dtype not in (None, "uint8"):
        return f"it takes images of bytes, and the network {card.dtype}"
    if card.layout != "NCHW":
        return f"it gives channels first, and the network takes {card.layout}"
    if card.needs_statistics or card.scaling.kind == "window" or card.clip or (card.affine(None)[1] <= 0).any():
        return "it knows no scaling but a mean and a standard deviation of each band"
    if card.says == "logits":
        return "it puts no activation behind the network, which says logits"
    if card.activation == "sigmoid" and card.channels > 1:
        return "of several channels it takes the largest, and here none may be there"
    return None


def to_deepness(card: Card, side: int | None, overlap: float) -> dict[str, str]:
    """Say a card in Deepness' keys, each value JSON; for a card of which nothing is `unsaid`.

    `side` is that of a window, in pixels, and `overlap` the part of it that is shared with the next. Noughts switch off
    what is not done here: a least probability where there are several classes, and a median filter over the mask.
    """
    shift, factor = card.affine(None)
    values = card.says == "values"
    said: dict[str, Any] = {
        "model_type": "Regressor" if values else "Segmentor",
        "class_names": {str(entry.index): entry.name for entry in card.classes},
        "standardization_mean": [_short(number / 255) for number in shift.tolist()],
        "standardization_std": [_short(1 / (number * 255)) for number in factor.tolist()],
        "tiles_overlap": min(_MOST_OVERLAP, ceil(100 * overlap)),
        **({"resolution": _short(card.resolution * 100)} if card.resolution else {}),
        **({"tile_size": side, "tiles_size": side} if side else {}),
    }
    if values:
        said["reg_output_scaling"] = 1.0
    else:
        said |= {"seg_thresh": card.threshold if card.activation == "sigmoid" else 0, "seg_small_segment": 0}
    return {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in said.items()}


def _short(number: float) -> float:
    """Seven digits, which is what float32 holds."""
    return float(f"{number:.7g}")


_READ = _MARKS | {"class_names", "names", "resolution", "tiles_size", "tile_size"}


def _value(key: str, text: str, source: str) -> Any:  # noqa: ANN401  JSON holds anything
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise SettingsError(f"{source} holds {text[:40]!r} under `{key}`, which is not JSON.") from None


def _scaling(said: Mapping[str, Any], source: str) -> dict[str, Any]:
    mean, std = said.get("standardization_mean"), said.get("standardization_std")
    if (mean is None) != (std is None):
        raise SettingsError(f"{source} holds one of `standardization_mean` and `standardization_std`; both are needed.")
    if mean is None:
        return {"kind": "constant", "divide_by": 255}
    return {"kind": "mean_std", "mean": mean, "std": std, "divide_by": 255}


def _place(seen: Signature, output: str | None) -> int:
    """Which of the lists of names is meant: that of the chosen output."""
    return list(seen.outputs).index(output) if output in seen.outputs else 0


def _classes(names: object, place: int, channels: int | None, source: str) -> list[str]:
    """Read names by index; newer models hold a list of them, one for each output."""
    if isinstance(names, Sequence) and not isinstance(names, str):
        names = names[min(place, len(names) - 1)] if names else None
    try:
        by_index = {int(key): str(name) for key, name in names.items()}  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        raise SettingsError(
            f"{source} must hold the classes by index under `class_names`, such as {{0: sea}}."
        ) from None
    if sorted(by_index) != list(range(len(by_index))):
        raise SettingsError(f"{source} names the classes {sorted(by_index)}; they must count from 0 without a gap.")
    listed = [by_index[index] for index in range(len(by_index))]
    return ["background", *listed] if channels == 1 and len(listed) == 1 else listed
