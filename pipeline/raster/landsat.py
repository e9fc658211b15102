"""Landsat's deliveries: bands as `…_B4.TIF` (level 2: `…_SR_B4.TIF`), metadata as `…_MTL.txt`, `.json` or `.xml`.

Level 1, reflectance at the top of the atmosphere: (raw × REFLECTANCE_MULT + REFLECTANCE_ADD) / sin(SUN_ELEVATION).
Level 2, surface reflectance: raw × REFLECTANCE_MULT + REFLECTANCE_ADD, without the sun.

Source: USGS, Landsat 8-9 Collection 2 Level 1 and Level 2 data format control books (LSDS-1822, LSDS-1328); band names
as STAC's electro-optical extension has them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from pipeline.errors import SceneError
from pipeline.raster.delivery import BandFile, Layout
from pipeline.raster.facts import instant

_METADATA = re.compile(r"(?P<name>.+)_MTL\.(txt|json|xml)", re.IGNORECASE)
_BAND = re.compile(r"_(?:SR_|ST_)?B(?P<band>\d{1,2})(?:_VCID_(?P<gain>\d))?\.tiff?", re.IGNORECASE)
_LARGEST = 1 << 20  # bytes of metadata; real ones have 20 thousand
_OLI = ("coastal", "blue", "green", "red", "nir", "swir16", "swir22", "pan", "cirrus", "lwir11", "lwir12")
_TM = ("blue", "green", "red", "nir", "swir16", "lwir", "swir22", "pan")
_COMMON = {4: _TM, 5: _TM, 7: _TM, 8: _OLI, 9: _OLI}  # by satellite; band 1 first

Groups = Mapping[str, Mapping[str, str]]


def layout(place: Path) -> Layout | None:
    """Recognise a folder with an MTL file, or an MTL file. Raises SceneError where the metadata cannot be read."""
    folder = place if place.is_dir() else place.parent
    found = [place] if place.is_file() else sorted(folder.iterdir()) if folder.is_dir() else []
    metadata = [path for path in found if _METADATA.fullmatch(path.name)]
    if not metadata:
        return None
    file = min(metadata, key=lambda path: (".txt", ".json", ".xml").index(path.suffix.lower()))
    names = {match["name"] for path in metadata if (match := _METADATA.fullmatch(path.name))}
    if len(names) > 1:
        raise SceneError(
            f"The folder {folder} holds the metadata of {len(names)} Landsat scenes, {', '.join(sorted(names))}: "
            "name one of the _MTL files."
        )
    (name,) = names
    groups = _read(file)
    taken = instant(f"{_said(groups, 'DATE_ACQUIRED')}T{_said(groups, 'SCENE_CENTER_TIME')}")
    said = (taken, "SCENE_CENTER_TIME") if taken else None
    return Layout(name, "Landsat", dict(_bands(folder, name, groups)), (file,), said)


def _bands(folder: Path, name: str, groups: Groups) -> Iterator[tuple[str, BandFile]]:
    satellite = re.search(r"(\d)\D*$", _said(groups, "SPACECRAFT_ID") or "")
    common = _COMMON.get(int(satellite[1]), ()) if satellite else ()
    for path in sorted(folder.iterdir()):
        match = _BAND.fullmatch(path.name, len(name)) if path.name.startswith(name) else None
        if (
            match is None or match["gain"] == "2"
        ):  # the thermal band of Landsat 7 comes twice; the low gain is told first
            continue
        number = int(match["band"])
        thermal = "_ST_" in path.name.upper()
        band = BandFile(path, 1, *((None, None) if thermal else _reflectance(groups, number)), nodata=0)
        yield f"b{number}", band
        if number <= len(common):
            yield common[number - 1], band
            if common[number - 1] == "nir":
                yield "nir08", band  # as STAC calls Landsat's


def _reflectance(groups: Groups, band: int) -> tuple[float | None, float | None]:
    """(gain, offset) of a band; (None, None) where the metadata gives radiance alone."""
    surface = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
    level2 = surface in groups
    own = groups[surface] if level2 else {key: value for group in groups.values() for key, value in group.items()}
    gain, offset = own.get(f"REFLECTANCE_MULT_BAND_{band}"), own.get(f"REFLECTANCE_ADD_BAND_{band}")
    if gain is None or offset is None:
        return None, None
    if level2:
        return float(gain), float(offset)
    elevation = float(own.get("SUN_ELEVATION", "nan"))
    if not 0 < elevation <= 90:
        raise SceneError(f"The Landsat metadata says a sun elevation of {elevation}, which gives no reflectance.")
    sine = math.sin(math.radians(elevation))
    return float(gain) / sine, float(offset) / sine


def _said(groups: Groups, key: str) -> str | None:
    return next((group[key] for group in groups.values() if key in group), None)


def _read(file: Path) -> Groups:
    """The metadata's groups. Raises SceneError where it is not what its ending says."""
    try:
        text = file.read_bytes()[:_LARGEST].decode("utf-8")
        groups = {".json": _json, ".xml": _xml}.get(file.suffix.lower(), _text)(text)
        numbers = [v for group in groups.values() for k, v in group.items() if k.startswith(("REFLECTANCE_", "SUN_E"))]
        if not groups or not all(math.isfinite(float(number)) for number in numbers):
            raise ValueError("it holds no groups, or numbers that are none")
    except (OSError, ValueError, ET.ParseError, AttributeError) as error:
        raise SceneError(f"The Landsat metadata {file} cannot be read: {' '.join(str(error).split())}.") from None
    return groups


def _text(text: str) -> Groups:
    """ODL: GROUP = name, lines of key = value, END_GROUP = name."""
    groups: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            current = groups.setdefault(value, {})
        elif equals and key != "END_GROUP":
            current[key] = value.strip('"')
    return groups


def _json(text: str) -> Groups:
    (whole,) = json.loads(text).values()
    return {name: {key: str(value) for key, value in _mapping(group).items()} for name, group in whole.items()}


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  JSON holds anything
    if not isinstance(value, Mapping):
        raise ValueError("a group of it holds no keys")
    return value


def _xml(text: str) -> Groups:
    if "<!DOCTYPE" in text:
        raise ValueError("it declares a document type")
    root = ET.fromstring(text)  # noqa: S314  # no document type, so no entities
    return {group.tag: {one.tag: one.text or "" for one in group} for group in root}
