"""A result as a STAC 1.1 item: pure functions of what its ledger says.

The item follows the extensions projection 2.0, classification 2.0, file 2.1 and processing 1.2; as MLM 1.5 wants it of
what a model made, a link `derived_from` leads to the model's item. What STAC has no word for is `maskmill:*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.assets import GEOJSON, assets_of, mlm_name
from pipeline.grid import Rect
from pipeline.plan import digest_of
from pipeline.raster.footprint import Footprint, footprint
from pipeline.raster.ground import bounds
from pipeline.result import Result

VERSION = "1.1.0"
_SITE = "https://stac-extensions.github.io"
PROJECTION = f"{_SITE}/projection/v2.0.0/schema.json"
CLASSIFICATION = f"{_SITE}/classification/v2.0.0/schema.json"
FILE = f"{_SITE}/file/v2.1.0/schema.json"
PROCESSING = f"{_SITE}/processing/v1.2.0/schema.json"
MLM = f"{_SITE}/mlm/v1.5.0/schema.json"
_WALLS = (("/vsis3/", "s3://"), ("/vsigs/", "gs://"), ("/vsiaz/", "az://"))


def item_of(result: Result, out: str, catalogue: str) -> dict[str, Any]:
    """Make the item of a result; of one that is not published, the same without assets and links.

    Parameters
    ----------
    result
        What the ledger says.
    out, catalogue
        Where the results and the catalogue's root lie, as seen from where the item is to lie, such as "../../..".

    """
    about = result.about
    place = _footprint(about) if about else None
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [PROJECTION, CLASSIFICATION, FILE, PROCESSING],
        "id": result.name,
        "geometry": place.geometry if place else None,
        **({"bbox": place.bbox} if place else {}),
        "properties": _properties(result, place is not None),
        "links": [],
        "assets": {},
    }
    if about and result.published:
        model = f"{catalogue}/models/{card_digest(about)}.json"
        item["links"] = _links(about, catalogue, date_of(item), model)
        item["assets"] = assets_of(result, about, f"{out}/{result.name}", model)
    return item


def _properties(result: Result, placed: bool) -> dict[str, Any]:
    taken, source = _datetime(result)
    said: dict[str, Any] = {
        "created": result.made,
        "maskmill:state": result.standing.value,
        "maskmill:reason": result.reason,
        "maskmill:datetime_from": source,
        "maskmill:identity": result.identity,
        "maskmill:blocks": result.blocks,
        "maskmill:failed": result.failed,
        "maskmill:pending": result.pending,
        "maskmill:nights": result.nights,
        "maskmill:classes": [dict(one) for one in result.classes],
    }
    if result.about:
        scene = result.about["scene"]
        said |= {
            **_projection(scene),
            **_processing(result, result.about),
            "maskmill:place": None if placed else _nowhere(scene),
            "maskmill:fingerprint": scene["fingerprint"],
            "maskmill:model": result.about["model"]["digest"],
            "maskmill:card": card_digest(result.about),
            "maskmill:sources": scene["files"],
            "maskmill:megapixels": scene["shape"][0] * scene["shape"][1] / 1e6,
        }
    return {"datetime": taken, **{key: value for key, value in said.items() if value is not None}}


def date_of(item: Mapping[str, Any]) -> str:
    """The day that an item belongs to, YYYY-MM-DD."""
    return str(item["properties"]["datetime"])[:10]


def day_folder(day: str) -> str:
    """Where the items of a day lie, from the catalogue's root."""
    return f"{day[:4]}/{day}"


def _footprint(about: Mapping[str, Any]) -> Footprint | None:
    scene = about["scene"]
    transform = tuple(scene["transform"]) if scene["transform"] and not scene["slide"] else None
    return footprint(scene["crs"], transform, *scene["shape"])


def _nowhere(scene: Mapping[str, Any]) -> str:
    """Why an item has no geometry."""
    if scene["slide"]:
        return "none: a slide, whose coordinates are micrometres"
    if scene["crs"] and scene["transform"]:
        return "none: the outline in the CRS leaves the Earth"
    return "none: the source has no georeference" + (" but control points or RPCs" if scene["ties"] else "")


def _datetime(result: Result) -> tuple[str | None, str | None]:
    """(ISO 8601, where it is from): when the image was taken, else when its file was changed, else what there is."""
    if result.about:
        scene = result.about["scene"]
        if scene["taken"]:
            return scene["taken"][0], scene["taken"][1]
        if scene["files"] and (changed := _changed(scene["files"][0])):
            return changed, "the source's time of change"
    return result.made, "the result's making" if result.made else None


def _changed(file: Mapping[str, Any]) -> str | None:
    """When a file was changed: what stands for a local file is ns since 1970, for an address perhaps its date."""
    which = str(file["version"])
    try:
        if not file["address"].startswith(("/vsi", "http")) and which.isdecimal():
            when = datetime.fromtimestamp(int(which) // 10**9, UTC)
        else:
            when = parsedate_to_datetime(which.replace("_", " ")).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _projection(scene: Mapping[str, Any]) -> dict[str, Any]:
    if scene["slide"]:
        return {"proj:code": None, "proj:shape": scene["shape"]}
    code = {"proj:code": scene["code"]} if scene["code"] or not scene["crs"] else {"proj:wkt2": scene["crs"]}
    transform = scene["transform"] and tuple(scene["transform"])
    height, width = scene["shape"]
    return {
        **code,
        "proj:shape": scene["shape"],
        "proj:transform": scene["transform"],
        "proj:bbox": bounds(transform, Rect(0, 0, height, width)),
        "gsd": scene["resolution"],
    }


def _processing(result: Result, about: Mapping[str, Any]) -> dict[str, Any]:
    scene, software, choices = about["scene"], about["software"], result.plan["choices"]
    model, margin = about["model"], choices["margin"]
    lineage = (
        f"maskmill {software['maskmill']} ran the network {model['mlm']['mlm:name']} ({model['digest']}) on "
        f"{shown_source(scene['uri'])} ({scene['fingerprint']}), with {choices['numeric_class']} and a margin of "
        f"{margin['pixels']} px ({margin['kind']}); the result is {result.identity}."
    )
    return {"processing:level": "L4", "processing:lineage": lineage, "processing:software": software}


def shown_source(uri: str) -> str:
    """A source's address as others write it."""
    for wall, scheme in _WALLS:
        uri = uri.replace(wall, scheme) if uri.startswith(wall) else uri
    return uri.removesuffix("?***")


def _links(about: Mapping[str, Any], catalogue: str, day: str, model: str) -> list[dict[str, Any]]:
    source, name = shown_source(about["scene"]["uri"]), mlm_name(about["model"]["mlm"]["mlm:name"])
    href = Path(source).as_uri() if source.startswith("/") and not source.startswith("/vsi") else quote(source, "/:*")
    return [
        {"rel": "root", "href": f"{catalogue}/catalog.json", "type": "application/json"},
        {"rel": "parent", "href": f"{catalogue}/{day_folder(day)}/catalog.json", "type": "application/json"},
        {"rel": "derived_from", "href": href, "title": "The image"},
        {"rel": "derived_from", "href": model, "type": GEOJSON, "title": "The model", "mlm:name": name},
    ]


def card_digest(about: Mapping[str, Any]) -> str:
    """What a model's item is called: one network may be used with several cards."""
    return digest_of({key: about["model"][key] for key in ("digest", "mlm")})


def model_item(about: Mapping[str, Any]) -> dict[str, Any]:
    """The STAC item of the model that a result was made with, of any place and time: a card says neither."""
    model, mlm = about["model"], about["model"]["mlm"]
    name = mlm_name(mlm["mlm:name"])
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [MLM, CLASSIFICATION],
        "id": card_digest(about),
        "geometry": None,
        "properties": {
            "title": mlm["mlm:name"],
            "datetime": None,
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            **mlm,
            "mlm:name": name,
        },
        "links": [{"rel": "root", "href": "../catalog.json", "type": "application/json"}],
        "assets": {
            "model": {
                "href": Path(model["path"]).as_uri(),
                "type": "application/octet-stream; framework=onnx",
                "title": "The network",
                "roles": ["mlm:model"],
                "mlm:artifact_type": "onnx",
                "maskmill:digest": model["digest"],
                "bands": [{"name": band["name"]} for band in mlm["bands"]],
            }
        },
    }
