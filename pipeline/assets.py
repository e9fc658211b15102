"""What of a result lies where: the assets of its STAC item, with their classes, lengths and checksums."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.result import Result
from pipeline.settings import statuses

GEOJSON = "application/geo+json"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_TITLES = {
    "mask": "The mask: a class, or a status, for each pixel",
    "values": "What the network says, as numbers",
    "confidence": "Confidence of the class, in steps of 1/250",
    "probabilities": "Probability of each class, in steps of 1/250",
    "disagreement": "How far overlapping windows are apart",
}
_OTHERS = {
    "quicklook.png": ("quicklook", "image/png", ["overview", "thumbnail"], "Image, mask and overlay"),
    "outlines.geojson": ("outlines", GEOJSON, ["data"], "The mask's outlines as polygons"),
    "report.json": ("report", "application/json", ["metadata"], "What the run made and cost"),
}
_STATUSES = {
    "failed": "no value: the block failed",
    "outside": "no value: outside the area of interest",
    "nodata": "no value: the source has none",
}


def assets_of(result: Result, about: Mapping[str, Any], folder: str, model: str) -> dict[str, Any]:
    """The assets of a published result.

    Parameters
    ----------
    result, about
        What its ledger says.
    folder, model
        Where the result and its model's item lie, as seen from where the item is to lie.

    """
    expression = {"format": "stac-mlm", "expression": model}
    zarr = {"type": "application/vnd.zarr; version=3", "title": "All rasters, as a multiscale Zarr", "roles": ["data"]}
    assets: dict[str, Any] = {}
    for product in about["products"]:
        name = product["name"]
        assets[name] = {
            "href": f"{folder}/{name}.tif",
            "type": _COG,
            "title": _TITLES[name],
            "roles": ["data"],
            **_sums(result.files, f"{name}.tif"),
            "data_type": product["dtype"],
            "nodata": "nan" if product["dtype"] == "float32" else int(statuses(product["dtype"]).nodata),
            **(_classified(about, product) if name == "mask" else _labelled(product)),
            "mlm:name": mlm_name(about["model"]["mlm"]["mlm:name"]),
            "processing:expression": expression,
        }
    assets["zarr"] = {"href": f"{folder}/mask.zarr", **zarr}
    for file, (key, kind, roles, title) in _OTHERS.items():
        if file in result.files:
            assets[key] = {"href": f"{folder}/{file}", "type": kind, "title": title, "roles": roles}
            assets[key] |= _sums(result.files, file)
    return assets


def mlm_name(name: str) -> str:
    """A model's name as MLM wants it: letters, digits, _ . and -, a letter first."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("_.-")
    return plain if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]+[A-Za-z0-9]", plain) else f"model-{plain or 'unnamed'}"


def _sums(files: Mapping[str, tuple[int, str]], name: str) -> dict[str, Any]:
    """A file's length and its checksum as a multihash: 12 for SHA-256, 20 for its 32 bytes."""
    if name not in files:
        return {}
    size, digest = files[name]
    return {"file:size": size, "file:checksum": f"1220{digest}"}


def _labelled(product: Mapping[str, Any]) -> dict[str, Any]:
    return {"bands": [{"name": label} for label in product["labels"]]} if product["labels"] else {}


def _classified(about: Mapping[str, Any], product: Mapping[str, Any]) -> dict[str, Any]:
    """The mask's classes and statuses; where it has a band for each class, they are those of each band."""
    last = _status_classes(product["dtype"])
    if not about["model"]["layered"]:
        return {"classification:classes": [*(_class(**one) for one in about["model"]["legend"]), *last]}
    colours = {one["name"]: one["colour"] for one in about["model"]["legend"]}
    return {
        "bands": [
            {
                "name": label,
                "classification:classes": [
                    {"value": 0, "name": "absent", "description": f"not {label}"},
                    _class(1, label, colours[label]),
                    *last,
                ],
            }
            for label in product["labels"]
        ]
    }


def _class(value: int, name: str, colour: str) -> dict[str, Any]:
    """One class: its name as classification 2.0 wants it, and the whole one beside it."""
    short = re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-") or f"class-{value}"
    return {"value": value, "name": short, "title": name, "description": name, "color_hint": colour[1:].upper()}


def _status_classes(dtype: str) -> Sequence[dict[str, Any]]:
    return [
        {"value": value, "name": name, "description": _STATUSES[name], **({"nodata": True} if name == "nodata" else {})}
        for value, name in statuses(dtype).named().items()
    ]
