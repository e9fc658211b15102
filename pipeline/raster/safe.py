"""Sentinel-2's deliveries: a folder `….SAFE` with `MTD_MSIL1C.xml` or `MTD_MSIL2A.xml`, its bands as JPEG 2000.

Reflectance is (raw + RADIO_ADD_OFFSET) / QUANTIFICATION_VALUE (level 2A: BOA_ADD_OFFSET, BOA_QUANTIFICATION_VALUE); the
offset is there since processing baseline 04.00, and 0 before. Of a band that level 2A has at several resolutions, the
finest is taken.

Source: ESA, Sentinel-2 Products Specification Document 14.9; band names as STAC's electro-optical extension has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline.errors import SceneError
from pipeline.raster.delivery import BandFile, Layout
from pipeline.raster.facts import instant

_METADATA = ("MTD_MSIL1C.xml", "MTD_MSIL2A.xml")
_BAND = re.compile(r".*_(?P<band>B\d\d|B8A)(?:_(?P<metres>\d\d)m)?\.jp2", re.IGNORECASE)
_LARGEST = 16 << 20  # bytes of metadata
# In the order of the metadata's band_id.
_BANDS = {
    "b01": "coastal",
    "b02": "blue",
    "b03": "green",
    "b04": "red",
    "b05": "rededge071",
    "b06": "rededge075",
    "b07": "rededge078",
    "b08": "nir",
    "b8a": "nir08",
    "b09": "nir09",
    "b10": "cirrus",
    "b11": "swir16",
    "b12": "swir22",
}


def layout(place: Path) -> Layout | None:
    """Recognise a SAFE folder, or its metadata file. Raises SceneError where the metadata cannot be read."""
    folder = place if place.is_dir() else place.parent
    files = [folder / name for name in _METADATA if (folder / name).is_file()]
    if not files or (place.is_file() and place not in files):
        return None
    file = files[0]
    granules = sorted((folder / "GRANULE").glob("*/IMG_DATA"))
    if len(granules) > 1:
        raise SceneError(
            f"The Sentinel-2 product {folder} holds {len(granules)} tiles, which have grids of their own: name the "
            "bands of one of them in the job's `bands`."
        )
    scale, offsets, taken = _read(file)
    paths = dict(_finest(granules[0])) if granules else {}
    name = folder.name.removesuffix(".SAFE")
    return Layout(name, "Sentinel-2", dict(_named(paths, scale, offsets)), (file,), taken)


def _named(paths: dict[str, Path], scale: float, offsets: dict[int, float]) -> Iterator[tuple[str, BandFile]]:
    for number, (band, common) in enumerate(_BANDS.items()):
        if path := paths.get(band):
            found = BandFile(path, 1, 1 / scale, offsets.get(number, 0.0) / scale, nodata=0)
            yield band, found
            yield common, found
            if band[1] == "0":
                yield f"b{band[2]}", found  # b4 is b04


def _finest(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each band's file, the finest last, so that a mapping keeps it."""
    found = [(match, path) for path in folder.rglob("*.jp2") if (match := _BAND.fullmatch(path.name))]
    for match, path in sorted(found, key=lambda one: (-int(one[0]["metres"] or 0), one[1])):
        yield match["band"].lower(), path


def _read(file: Path) -> tuple[float, dict[int, float], tuple[str, str] | None]:
    """(the quantification value, the offset by band_id, when it was taken and what says so)."""
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"it has {file.stat().st_size} bytes, at most {_LARGEST} are read")
        text = file.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text:
            raise ValueError("it declares a document type")
        root = ET.fromstring(text)  # noqa: S314  # no document type, so no entities
        scale = _first(root, "BOA_QUANTIFICATION_VALUE") or _first(root, "QUANTIFICATION_VALUE")
        offsets = [one for one in root.iter() if one.tag in {"RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"}]
        read = float(scale or "nan"), {int(one.attrib["band_id"]): float(one.text or "nan") for one in offsets}
        if not (read[0] > 0 and math.isfinite(read[0] + sum(read[1].values()))):
            raise ValueError(f"its quantification value is {scale}, or an offset is no number")
    except (OSError, ValueError, KeyError, ET.ParseError) as error:
        raise SceneError(f"The Sentinel-2 metadata {file} cannot be read: {' '.join(str(error).split())}.") from None
    taken = instant(_first(root, "PRODUCT_START_TIME"))
    return *read, (taken, "PRODUCT_START_TIME") if taken else None


def _first(root: ET.Element, tag: str) -> str | None:
    return next((one.text for one in root.iter(tag)), None)
