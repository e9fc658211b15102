"""VRTs: small XML files that name other images. Which images is looked at here, before GDAL follows them.

GDAL reads whatever a VRT names: files of other folders, addresses, raw bytes, warps with their own inputs, even Python.
Only mosaics and stacks of plain images in the VRT's own folder (or below), or in folders that the job allows, are let
through: elements not known here are refused, so that what GDAL learns to follow tomorrow is refused too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline.errors import SceneError

_LARGEST = 64 << 20  # bytes; a mosaic of a hundred thousand images has fewer
_ELEMENTS = """
VRTDataset SRS GeoTransform GCPList GCP Metadata MDI VRTRasterBand Description UnitType Offset Scale NoDataValue
HideNoDataValue ColorInterp ColorTable Entry CategoryNames Category Histograms HistItem HistMin HistMax BucketCount
IncludeOutOfRange Approximate HistCounts MaskBand OverviewList SimpleSource ComplexSource AveragedSource SourceFilename
SourceBand SourceProperties SrcRect DstRect NODATA UseMaskBand ScaleOffset ScaleRatio LUT Exponent SrcMin SrcMax DstMin
DstMax ColorTableComponent
"""
# GDAL takes an attribute for a child of the same name, so that attributes are named one by one too.
_ATTRIBUTES = """
rasterXSize rasterYSize dataType band blockXSize blockYSize dataAxisToSRSAxisMapping coordinateEpoch domain format key
resampling relativeToVRT shared RasterXSize RasterYSize DataType BlockXSize BlockYSize xOff yOff xSize ySize c1 c2 c3 c4
Projection Id Info Pixel Line X Y Z le_hex_equiv
"""
_HARMLESS, _PLAIN = frozenset(_ELEMENTS.split()), frozenset(_ATTRIBUTES.split())
# Metadata of these domains is followed when a dataset is opened or read.
_FOLLOWED_DOMAINS = frozenset({"GEOLOCATION", "OVERVIEWS", "RPC"})


def looks_like(head: bytes) -> bool:
    """Whether a file's first bytes are a VRT's, whatever the file is called."""
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    return text.startswith("<VRTDataset") or (text.startswith(("<?xml", "<!--")) and "<VRTDataset" in text)


def sources_of(path: Path, allow: Sequence[str] = ()) -> list[Path]:
    """Return the images that the VRT at `path` (resolved) names, each once, in the order of their first mention.

    Raises SceneError for anything but a mosaic or stack of existing files inside the VRT's folder or those of `allow`.
    """
    root = _parsed(path)
    for element in root.iter():
        _refuse_unknown(path, element)
    found: dict[Path, None] = {}
    folders = [path.parent, *(Path(folder).resolve() for folder in allow)]
    for element in root.iter("SourceFilename"):
        found[_source(path, element, folders)] = None
    if not found:
        raise SceneError(f"The VRT {path} names no image.")
    return list(found)


def _parsed(path: Path) -> ET.Element:
    if path.stat().st_size > _LARGEST:
        raise SceneError(f"The VRT {path} has more than {_LARGEST} bytes: build a smaller mosaic.")
    text = path.read_bytes()
    # Without a document type there are no entities to expand: the standard parser is safe then.
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise SceneError(f"The VRT {path} declares a document type; a VRT needs none: remove it.")
    try:
        return ET.fromstring(text)  # noqa: S314
    except ET.ParseError as error:
        raise SceneError(f"The VRT {path} is not well-formed XML: {error}.") from None


def _refuse_unknown(path: Path, element: ET.Element) -> None:
    unknown = sorted(set(element.attrib) - _PLAIN)
    nested = len(element) > 0 and element.tag == "SourceFilename"
    if element.tag not in _HARMLESS or unknown or nested:
        raise SceneError(
            f"The VRT {path} holds <{' '.join([element.tag, *unknown])}>, and only mosaics and stacks of plain images "
            f"are read: write it out with gdal_translate."
        )
    if element.tag == "Metadata" and (element.get("domain") or "").upper() in _FOLLOWED_DOMAINS:
        raise SceneError(f"The VRT {path} has metadata of the domain {element.get('domain')}: remove it.")


def _source(path: Path, element: ET.Element, folders: Sequence[Path]) -> Path:
    """The file that one SourceFilename names; it lies in one of the folders after every link was followed."""
    name = element.text or ""
    relative = element.get("relativeToVRT", "0") == "1"
    if name != name.strip() or not name or name.startswith("/vsi") or re.search(r"[:<>\0]", name):
        raise SceneError(f"The VRT {path} names {name!r}, which is no file of its folder.")
    if not relative and not name.startswith("/"):
        raise SceneError(
            f"The VRT {path} names {name!r} relative to wherever a program is started: "
            f'say relativeToVRT="1", as gdalbuildvrt does.'
        )
    source = (path.parent / name).resolve()
    if not any(source.is_relative_to(folder) for folder in folders):
        raise SceneError(
            f"The VRT {path} names {name!r}, outside its folder: put the images beside the VRT, or name their folder "
            "in the job file: `allow: [folder]`."
        )
    if not source.is_file():
        raise SceneError(f"The VRT {path} names {name!r}, and there is no such file.")
    return source
