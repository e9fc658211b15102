"""The JSON beside the networks of ukis-csmask: bands, their mean and deviation, the tile's side.

The networks take reflectance from 0 to 1 and say logits of three classes, which the package names in its
documentation and not in the file. https://github.com/dlr-eoc/ukis-csmask
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import SettingsError
from pipeline.network.foreign.told import Graph, Told, mapping, numbers, said, sequence, square

_CLASSES = ["clear", "cloud", "shadow"]


def is_ukis(document: object) -> bool:
    """Whether a document is one of ukis-csmask's."""
    data = document.get("data") if isinstance(document, Mapping) else None
    statistics = data.get("dataset_statistics") if isinstance(data, Mapping) else None
    return isinstance(statistics, Mapping) and "band_names" in statistics and "img" in statistics


def read(document: Mapping[str, Any], source: str, graph: Graph) -> Told:  # noqa: ARG001  one signature for all
    """Read a network's description. Raises SettingsError where it has not its form."""
    data, model = document["data"], mapping(document.get("model", {}), f"`model` in {source}")
    statistics = data["dataset_statistics"]
    pair = sequence(statistics["img"], f"`img` in {source}")
    if len(pair) != 2:
        raise SettingsError(f"{source} must hold the mean and the deviation of each band under `img`.")
    mean, deviation = (numbers(one, f"`img` in {source}") for one in pair)
    sides = data.get("target_size")
    entries = said(
        name=f"ukis-csmask {model['version']}" if model.get("version") else None,
        architecture=" ".join(str(model[key]) for key in ("encoder_name", "decoder_name") if model.get(key)) or None,
        bands=[str(name) for name in sequence(statistics["band_names"], f"`band_names` in {source}")],
        units="reflectance",
        scaling={"kind": "mean_std", "mean": mean, "std": deviation},
        classes=_CLASSES if data.get("classes") == len(_CLASSES) else None,
        says="logits",
        activation="softmax",
        window=square(*sides) if isinstance(sides, list) and len(sides) == 2 else None,
    )
    note = (
        f"{source}: the network eats reflectance from 0 to 1; where an image holds other numbers and does not say how "
        "they come to it, say `gain` and `offset` in the card, such as `gain: 0.0001` for Sentinel-2."
    )
    return Told(source, entries, (note,))
