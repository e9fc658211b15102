"""A STAC item as a scene: which of its assets holds which band, and what their numbers mean.

Bands are known by their common names, their own, or their asset's key: of STAC 1.0 (`eo:bands`, `raster:bands`) as of
1.1 (`bands`). An item with one image, of which it says no more than the image itself, is that image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from flows.sources.listed import Listed, Stamp
from flows.sources.names import JOINT, safe
from pipeline.errors import SceneError
from pipeline.origin import StacOrigin, utc
from pipeline.raster.address import shown
from pipeline.raster.spectrum import called
from pipeline.settings import BandSource, SceneEntry

Fields = Mapping[str, Any]
_IMAGE = re.compile(r"image/(tiff|jp2|png|jpeg|vnd\.stac\.geotiff)|application/(x-hdf|netcdf|x-netcdf)", re.IGNORECASE)
_FILE = re.compile(r"\.(tiff?|jp2|png|jpe?g|nc|h5|hdf5?)$", re.IGNORECASE)
_SIDE = frozenset({"thumbnail", "overview", "metadata", "data-mask", "cloud", "snow-ice", "saturation", "water-mask"})
_ADDRESS = re.compile(r"(https?|s3|gs|az)://", re.IGNORECASE)


def scene_of(item: Fields, href: str | None, origin: StacOrigin) -> Listed:
    """The scene that an item is; `href` is where the item was read, if it has a place of its own.

    Raises SceneError where no asset of it can be used, and ValueError, KeyError or TypeError where it is no item.
    """
    name = _name(item, origin)
    properties = item["properties"]
    assets = dict(_assets(item, href))
    entry = _entry(name, assets, href, origin, bool(properties.get("earthsearch:boa_offset_applied")))
    changed = properties.get("updated") or properties.get("created")
    taken = properties.get("datetime") or properties.get("start_datetime")
    stamp = Stamp(_size(assets), utc(changed).timestamp() if changed else None, None)
    return Listed(entry, stamp, utc(taken) if taken else None, fields=properties, box=_box(item))


def taken_of(item: Fields) -> tuple[datetime, datetime] | None:
    """(first, last) instant of an item; None where it says none. Raises ValueError or KeyError where it is no item."""
    said = item["properties"]
    if said.get("datetime"):
        return utc(said["datetime"]), utc(said["datetime"])
    if said.get("start_datetime") and said.get("end_datetime"):
        return utc(said["start_datetime"]), utc(said["end_datetime"])
    return None


def _box(item: Fields) -> list[float] | None:
    box = item.get("bbox")
    return [float(number) for number in box] if isinstance(box, list) and len(box) in {4, 6} else None


def reached(href: str, base: str | None) -> str:
    """An address that a document names, made whole; of a file here without `file://`.

    Raises SceneError where it is none that is read, or where a document from a network names a file here.
    """
    whole = href.removeprefix("file://") if href.startswith("file://") else href
    whole = unquote(whole) if href.startswith("file://") else whole
    far = base is not None and bool(_ADDRESS.match(base))
    if not _ADDRESS.match(whole):
        if urlsplit(whole).scheme in {"http", "https"} or "://" in whole or whole.startswith("/vsi") or "\0" in whole:
            raise SceneError(f"it names {shown(href)}, which is an address of a kind that is not read")
        if far and (href.startswith("file://") or Path(whole).is_absolute()):
            raise SceneError(f"it lies on a network and names a file of this machine, {shown(href)}")
        if far:
            return urljoin(str(base), whole)
        whole = str(Path(base).parent / whole) if base else whole
    return whole


def _name(item: Fields, origin: StacOrigin) -> str:
    """An item's id; with its collection before it, unless one collection alone is asked for."""
    said, collection = str(item["id"]), item.get("collection")
    if collection and len(origin.collections) != 1:
        said = f"{collection}{JOINT}{said}"
    return safe(said, said, before=origin.name)


def _assets(item: Fields, href: str | None) -> Iterator[tuple[str, Fields]]:
    """The assets that are images, by key, with whole addresses; data first, then what is made for looking at."""
    found = []
    for key, asset in item["assets"].items():
        roles = set(asset.get("roles") or ())
        kind = asset.get("type") or ""
        if _IMAGE.match(kind) or (not kind and _FILE.search(urlsplit(asset["href"]).path)):
            rank = (2 if roles & _SIDE else 1 if "visual" in roles or key == "visual" else 0, "jp2" in kind)
            found.append((rank, key, {**asset, "href": reached(asset["href"], href)}))
    for _, key, asset in sorted(found, key=lambda one: one[0]):
        yield key, asset


def _entry(
    name: str, assets: Mapping[str, Fields], href: str | None, origin: StacOrigin, harmonised: bool
) -> SceneEntry:
    if isinstance(origin.assets, str):
        return SceneEntry(name=name, uri=_asset(assets, origin.assets)["href"])
    if origin.assets:
        chosen = {band: _sources(_asset(assets, key), harmonised)[0] for band, key in origin.assets.items()}
        return SceneEntry(name=name, uri=href or next(iter(chosen.values())).file, bands=chosen)
    data = {key: asset for key, asset in assets.items() if not set(asset.get("roles") or ()) & _SIDE}
    if not data:
        raise SceneError(f"none of its assets is an image: {', '.join(assets) or 'it has none'}")
    if len(data) == 1:
        (asset,) = data.values()
        if not any(one.gain is not None or one.nodata is not None for one in _sources(asset, harmonised)):
            return SceneEntry(name=name, uri=asset["href"])
    bands = _named(data, harmonised)
    return SceneEntry(name=name, uri=href or next(iter(bands.values())).file, bands=bands)


def _asset(assets: Mapping[str, Fields], key: str) -> Fields:
    if key not in assets:
        raise SceneError(f"it has no image asset `{key}`, only {', '.join(assets) or 'none'}")
    return assets[key]


def _named(assets: Mapping[str, Fields], harmonised: bool) -> dict[str, BandSource]:
    """Every band under each of its names; of two with one name the first, and files of one band before others."""
    found: dict[str, BandSource] = {}
    for key, asset in sorted(assets.items(), key=lambda one: len(_bands(one[1])) > 1):
        for said, source in zip(_bands(asset), _sources(asset, harmonised), strict=True):
            words = [said.get("eo:common_name"), said.get("common_name"), said.get("name")]
            for word in (*words, key if len(_bands(asset)) == 1 else None):
                if word:
                    found.setdefault(called(str(word)), source)
    if not found:
        raise SceneError("it has several images and does not name their bands: say `assets: {red: key, …}`")
    return found


def _sources(asset: Fields, harmonised: bool) -> list[BandSource]:
    """Where an asset's bands lie. `harmonised`: the offset that is said is in the numbers already (Earth Search)."""
    sources = []
    for number, said in enumerate(_bands(asset), start=1):
        scale, offset = (_first(said, f"raster:{key}", key) for key in ("scale", "offset"))
        gain = 1.0 if scale is None and offset is not None else scale
        shift = None if gain is None else 0.0 if harmonised else offset or 0.0
        nodata = _number(said.get("nodata"))
        sources.append(BandSource(file=asset["href"], band=number, gain=gain, offset=shift, nodata=nodata))
    return sources


def _bands(asset: Fields) -> Sequence[Fields]:
    """What is said of each band, by all that says it, over what is said of all."""
    lists = [asset.get(key) or [] for key in ("bands", "eo:bands", "raster:bands")]
    common = {key: asset[key] for key in ("nodata", "raster:scale", "raster:offset") if key in asset}
    count = max(1, *(len(one) for one in lists))
    return [{**common, **_merged(one[at] for one in lists if at < len(one))} for at in range(count)]


def _merged(parts: Iterator[Fields]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _first(said: Fields, *keys: str) -> float | None:
    return next((_number(said[key]) for key in keys if said.get(key) is not None), None)


def _number(said: object) -> float | None:
    """A finite number; STAC also writes "nan" and "inf"."""
    number = float(str(said)) if said is not None else math.nan
    return number if math.isfinite(number) else None


def _size(assets: Mapping[str, Fields]) -> int | None:
    sizes = [size for asset in assets.values() if isinstance(size := asset.get("file:size"), int)]
    return sum(sizes) if len(sizes) == len(assets) > 0 else None
