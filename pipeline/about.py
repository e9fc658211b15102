"""What a result is about: the scene, the model and the software, noted beside its plan whenever a run opens it.

The plan says what makes a result what it is, the journal what is done; neither says where the scene lies, what its
files were like, what the classes are called. `ledger/about.json` does, so that a catalogue is made of ledgers alone:
neither the image nor the model is opened for it, and both may be gone.
"""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime as ort
import rasterio

from pipeline.network.mlm import to_mlm
from pipeline.plan import Plan
from pipeline.raster.address import kept
from pipeline.raster.seal import seen
from pipeline.store.objects import put_whole

FILE = "about.json"
FORMAT = 1


def note(plan: Plan, ledger: Path, anew: bool) -> None:
    """Write down what a result is about, where that is not what stands there.

    `anew`: blocks are going to be done, by the software of now; otherwise that of then stays.
    """
    had, said = read(ledger), about(plan)
    if had and not anew:
        said["software"] = had["software"]
    if said != had:
        put_whole(ledger / FILE, json.dumps(said, indent=1, sort_keys=True).encode())


def read(ledger: Path) -> dict[str, Any] | None:
    """What `note` wrote into a ledger's folder; None where it is not there or is damaged."""
    with suppress(OSError, ValueError):
        said = json.loads((ledger / FILE).read_bytes())
        if isinstance(said, dict) and said.get("format") == FORMAT:
            return said
    return None


def about(plan: Plan) -> dict[str, Any]:
    """Plain data for JSON. Times are ISO 8601, sizes bytes, resolutions metres; transforms as in `Scene`."""
    scene, network = plan.scene, plan.network
    card = network.card
    files = [{"address": name, "size": size, "version": which} for name, size, which in seen(scene)]
    said = {
        "format": FORMAT,
        "scene": {
            "uri": kept(scene.uri),
            "shape": [scene.height, scene.width],
            "crs": scene.crs,
            "code": plan.georef.code,
            "transform": scene.transform,
            "slide": bool(scene.levels),
            "ties": scene.ties is not None,
            "resolution": scene.resolution_m,
            "pixel_area": scene.pixel_area(),
            "fingerprint": scene.fingerprint,
            "taken": scene.taken,
            "files": files,
        },
        "model": {
            "digest": network.digest,
            "path": network.path,
            "legend": [{"value": one.value, "name": one.name, "colour": one.colour} for one in card.legend],
            "layered": card.layered,
            "mlm": to_mlm(card, network.ends),
        },
        "products": [{"name": one.name, "labels": one.labels, "dtype": one.dtype} for one in plan.products],
        "software": {
            "maskmill": version("maskmill"),
            "onnxruntime": ort.__version__,
            "rasterio": rasterio.__version__,
            "GDAL": rasterio.__gdal_version__,
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(said))
    return plain
