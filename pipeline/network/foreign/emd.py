"""Esri's model definition (.emd), where it is plain: pixel classification ("ImageClassification" in its words).

`ExtractBands` count from 0. With `NormalizationStats`, arcgis.learn takes (x − min) / (max − min) and then the scaled
mean and deviation, of the bands that are extracted. Without them nothing says how pixels are scaled, and the card
asks for it. A channel more than there are classes, none of them 0, is the background, as arcgis.learn trains it.

Keys: https://github.com/Esri/raster-deep-learning, docs/writing_model_definition.md; arcgis.learn's `normalize_batch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import ModelError, SettingsError
from pipeline.network.foreign.told import (
    Entries,
    Graph,
    Told,
    colour,
    mapping,
    numbers,
    said,
    sequence,
    square,
)

_MASKS = {"imageclassification", "pixelclassification"}
_MARKS = {"ModelType", "Framework", "ExtractBands", "ImageHeight", "InferenceFunction"}


def is_emd(document: object) -> bool:
    """Whether a document is a model definition."""
    return isinstance(document, Mapping) and len(_MARKS & document.keys()) >= 2


def files(document: Mapping[str, Any]) -> list[str]:
    """Which .onnx files it describes."""
    file = str(document.get("ModelFile", "")).replace("\\", "/")
    return [file] if file.endswith(".onnx") else []


def read(document: Mapping[str, Any], source: str, graph: Graph) -> Told:
    """Read a definition. Raises ModelError for networks that make no masks, SettingsError for another form."""
    kind = str(document.get("ModelType", "ImageClassification"))
    if kind.lower() not in _MASKS:
        raise ModelError(f"{source} says that the network is for {kind}; maskmill takes those for ImageClassification.")
    drawn = _drawn(document, source)
    entries = said(
        name=document.get("ModelName") if isinstance(document.get("ModelName"), str) else None,
        architecture=_architecture(document),
        bands=_bands(document, drawn),
        scaling=_scaling(document, drawn, source),
        window=square(document.get("ImageHeight"), document.get("ImageWidth")),
        resolution=_resolution(document),
    )
    if "Classes" in document:
        entries |= _classes(sequence(document["Classes"], f"`Classes` in {source}"), source, graph)
    return Told(source, entries)


def _architecture(document: Mapping[str, Any]) -> str | None:
    configuration = document.get("ModelConfiguration")
    return configuration.lstrip("_") or None if isinstance(configuration, str) else None


def _drawn(document: Mapping[str, Any], source: str) -> list[int]:
    """Which bands of the image are drawn, from 0."""
    bands = sequence(document.get("ExtractBands") or (), f"`ExtractBands` in {source}")
    if not all(isinstance(band, int) and band >= 0 for band in bands):
        raise SettingsError(f"`ExtractBands` in {source} must hold band numbers from 0.")
    return list(bands)


def _bands(document: Mapping[str, Any], drawn: Sequence[int]) -> list[dict[str, Any]] | None:
    """The bands by name and place; None where the file draws none."""
    names = document.get("Bands")
    names = names if isinstance(names, list) else []
    named = [str(names[band]).lower() if band < len(names) else f"band {band + 1}" for band in drawn]
    return [{"name": name, "index": band + 1} for name, band in zip(named, drawn, strict=True)] or None


def _scaling(document: Mapping[str, Any], drawn: Sequence[int], source: str) -> dict[str, Any] | None:
    """Two affine steps in one: minimum and range, then the scaled mean and deviation."""
    statistics = document.get("NormalizationStats")
    if not isinstance(statistics, Mapping) or document.get("DoNormalize", True) is not True:
        return None
    keys = ("band_min_values", "band_max_values", "scaled_mean_values", "scaled_std_values")
    if any(statistics.get(key) is None for key in keys):
        return None
    all_of = [np.asarray(numbers(statistics[key], f"`{key}` in {source}")) for key in keys]
    chosen = list(drawn) or list(range(len(all_of[0])))
    if any(len(one) <= max(chosen) for one in all_of):
        raise SettingsError(f"`NormalizationStats` in {source} do not hold numbers for each of `ExtractBands`.")
    low, high, mean, deviation = (one[chosen] for one in all_of)
    return {
        "kind": "mean_std",
        "mean": (low + mean * (high - low)).tolist(),
        "std": (deviation * (high - low)).tolist(),
    }


def _resolution(document: Mapping[str, Any]) -> float | None:
    """Metres, where the least and the largest size of a cell are one."""
    cells = [document.get(key) for key in ("MinCellSize", "MaxCellSize")]
    sides = [cell.get("x") if isinstance(cell, Mapping) else cell for cell in cells]
    same = sides[0] == sides[1] and isinstance(sides[0], int | float) and sides[0] > 0
    return float(sides[0]) if same and document.get("ImageSpaceUsed") == "MAP_SPACE" else None  # type: ignore[arg-type]


def _classes(told: Sequence[Any], source: str, graph: Graph) -> Entries:
    """Classes by their values; one channel more than classes is the background."""
    classes = []
    for one in told:
        each = mapping(one, f"A class in {source}")
        classes.append(said(name=str(each.get("Name")), value=each.get("Value"), colour=colour(each.get("Color"))))
    channels = graph.channels("NCHW")
    if channels and len(classes) == channels - 1 and all(one.get("value") != 0 for one in classes):
        classes.insert(0, {"name": "background", "value": 0})
    return {"classes": classes}
