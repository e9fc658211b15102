"""A product as a Cloud-Optimized GeoTIFF, whose overviews are the levels of the Zarr, pixel for pixel.

GDAL's COG driver writes the file's head, with all that the file says of itself, from a raster of the same size that has
no pixel. The tiles of all levels are made beforehand, by many (see `tiles`), and are appended. The file is, byte for
byte, the one that GDAL would have written alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import rasterio.shutil

from pipeline.network.legend import MaskClass
from pipeline.raster.access import environment
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.source import Scene
from pipeline.raster.ties import Ties
from pipeline.settings import STEPS, statuses
from pipeline.store.hierarchy import Product, levels
from pipeline.store.objects import sentences
from pipeline.store.ome import UNIT
from pipeline.tiles import DEFLATE, TILE, Pieces, join

Tick = Callable[[int], None]

STATUS_COLOURS = {"failed": (255, 0, 255), "outside": (96, 96, 96), "nodata": (0, 0, 0)}
_GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}


@dataclass(frozen=True, slots=True)
class Dress:
    """What a COG says of itself beside its pixels."""

    classes: tuple[MaskClass, ...]
    provenance: Mapping[str, Any]


def write(product: Product, scene: Scene, dress: Dress, pieces: Pieces, folder: Path, tick: Tick) -> Path:
    """Write `<product>.tif` into a folder, of pieces that are all made, and nothing else; returns its path.

    Raises RoomError where the disk is full, SettingsError for other refusals.
    """
    target = folder / f"{product.name}.tif"
    sizes = levels(scene.height, scene.width)
    names = [folder / f".{product.name}.{level}.vrt" for level in range(len(sizes))]
    with sentences(target):
        for path, size in zip(names[1:], sizes[1:], strict=True):
            path.write_text(_empty(product, size), encoding="utf-8")
        names[0].write_text(_vrt(product, scene, dress, names[1:]), encoding="utf-8")
        _write_head(names[0], target, product)
        with target.open("r+b") as file:
            join(file, partial(pieces.path, product.name), pieces.side, tick)
        for path in names:
            path.unlink()
    return target


def _write_head(source: Path, target: Path, product: Product) -> None:
    """Have GDAL write a file without pixels. Raises OSError, with GDAL's words and no number, where it cannot."""
    try:
        with environment():
            rasterio.shutil.copy(
                str(source),
                str(target),
                driver="COG",
                BLOCKSIZE=TILE,
                COMPRESS="DEFLATE",
                LEVEL=DEFLATE,
                PREDICTOR="FLOATING_POINT" if product.numbers else "NO",
                OVERVIEWS="FORCE_USE_EXISTING",
                BIGTIFF="IF_SAFER",
                SPARSE_OK=True,  # what has no pixel has no tile
            )
    except GDAL_ERRORS as error:
        raise OSError(reason(error)) from error


def _vrt(product: Product, scene: Scene, dress: Dress, overviews: Sequence[Path]) -> str:
    """The first level as an empty VRT, with the others as its overviews and everything that the COG is to say."""
    crs = f"<SRS>{escape(scene.crs)}</SRS>" if scene.crs else ""
    place = ""
    if scene.transform:
        a, b, c, d, e, f = scene.transform
        place = f"<GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>"
    place += _ties(scene.ties) if scene.ties else ""
    said = _tags(product, dress) | _micrometres(scene)
    tags = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in said.items())
    bands = "".join(_band(product, dress, overviews, number) for number in range(1, (product.channels or 1) + 1))
    return (
        f'<VRTDataset rasterXSize="{scene.width}" rasterYSize="{scene.height}">{crs}{place}'
        f"<Metadata>{tags}</Metadata>{bands}</VRTDataset>"
    )


def _ties(ties: Ties) -> str:
    """Ground control points and RPCs as a VRT has them."""
    points = "".join(
        f'<GCP Id="" Info="" Pixel="{col!r}" Line="{row!r}" X="{x!r}" Y="{y!r}" Z="{z!r}"/>'
        for row, col, x, y, z in ties.points
    )
    keys = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in ties.rpcs)
    listed = f"<GCPList Projection={quoteattr(ties.crs or '')}>{points}</GCPList>" if points else ""
    return listed + (f'<Metadata domain="RPC">{keys}</Metadata>' if keys else "")


def _band(product: Product, dress: Dress, overviews: Sequence[Path], number: int) -> str:
    label = product.labels[number - 1] if product.labels else product.name
    coarser = "".join(
        f'<Overview><SourceFilename relativeToVRT="1">{escape(path.name)}</SourceFilename>'
        f"<SourceBand>{number}</SourceBand></Overview>"
        for path in overviews
    )
    if _has_palette(product):
        look = f"<ColorInterp>Palette</ColorInterp>{_colour_table(dress.classes)}"
    else:
        # A TIFF cannot say grey of a second band: GDAL would put that into a file beside it.
        look = f"<ColorInterp>{'Gray' if number == 1 else 'Undefined'}</ColorInterp>"
    if product.name != "mask" and not product.numbers:
        look += f"<Scale>{1 / STEPS!r}</Scale>"
    return _vrt_band(product, number, f"<Description>{escape(label)}</Description>", f"{look}{coarser}")


def _empty(product: Product, size: tuple[int, int]) -> str:
    """A coarser level as an empty VRT."""
    bands = "".join(_vrt_band(product, number) for number in range(1, (product.channels or 1) + 1))
    return f'<VRTDataset rasterXSize="{size[1]}" rasterYSize="{size[0]}">{bands}</VRTDataset>'


def _vrt_band(product: Product, number: int, before: str = "", after: str = "") -> str:
    """A band without pixels, with more said of it before its nodata and after."""
    kind, nodata = _GDAL_TYPES[product.dtype], statuses(product.dtype).nodata
    return (
        f'<VRTRasterBand dataType="{kind}" band="{number}" blockXSize="{TILE}" blockYSize="{TILE}">'
        f"{before}<NoDataValue>{nodata}</NoDataValue>{after}</VRTRasterBand>"
    )


def _has_palette(product: Product) -> bool:
    """One of 16 bits would take 393 kB in each level of the file; its colours are in the tags alone."""
    return product.name == "mask" and product.channels is None and product.dtype == "uint8"


def _colour_table(classes: Sequence[MaskClass]) -> str:
    colours = {value: STATUS_COLOURS[name] for value, name in statuses("uint8").named().items()}
    colours |= {one.value: rgb(one.colour) for one in classes}
    rows = (colours.get(value, (0, 0, 0)) for value in range(256))
    entries = (f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255"/>' for red, green, blue in rows)
    return f"<ColorTable>{''.join(entries)}</ColorTable>"


def rgb(colour: str) -> tuple[int, int, int]:
    """(red, green, blue) of a colour written #rrggbb."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _tags(product: Product, dress: Dress) -> dict[str, str]:
    """Classes as STAC's classification extension lists them, statuses among them, and what made the pixels."""
    said = {f"MASKMILL_{key.upper()}": _plain(value) for key, value in dress.provenance.items()}
    if product.numbers:
        return said | {"MASKMILL_UNIT": "the network's own; not a number where mask.tif holds a status"}
    if product.name == "mask" and not product.channels:
        return (
            said | {"classification_classes": json.dumps(legend(dress.classes, product.dtype))} | _colour_note(product)
        )
    others = ", ".join(
        f"{value} {'no data' if name == 'nodata' else name}" for value, name in statuses(product.dtype).named().items()
    )
    if product.name == "mask":
        colours = {name: one.colour for name, one in zip(product.labels, dress.classes[1:], strict=True)}
        return said | {
            "MASKMILL_UNIT": f"a band for each class: 1 where it is, 0 where not; {others}",
            "MASKMILL_COLOURS": json.dumps(colours),
        }
    return said | {"MASKMILL_UNIT": f"0 to {STEPS} in steps of 1/{STEPS}; {others}"}


def _colour_note(product: Product) -> dict[str, str]:
    if _has_palette(product):
        return {}
    return {"MASKMILL_COLOURS": "those of classification_classes; a palette of 65536 colours is left out"}


def _micrometres(scene: Scene) -> dict[str, str]:
    """What a slide's transform is in, and the same as TIFF's resolution, which readers of microscopy look for."""
    if not scene.levels or scene.transform is None:
        return {}
    across, down = 1e4 / scene.transform[0], 1e4 / scene.transform[4]
    resolution = {"TIFFTAG_XRESOLUTION": f"{across:.9g}", "TIFFTAG_YRESOLUTION": f"{down:.9g}"}
    return {"MASKMILL_COORDINATES": UNIT, **resolution, "TIFFTAG_RESOLUTIONUNIT": "3"}  # pixels to the centimetre


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def legend(classes: Sequence[MaskClass], dtype: str) -> list[dict[str, Any]]:
    """Every value that a mask can hold, as STAC's `classification:classes` lists them."""
    said: list[dict[str, Any]] = [
        {"value": one.value, "name": one.name, "color_hint": one.colour.lstrip("#").upper()} for one in classes
    ]
    for value, name in statuses(dtype).named().items():
        hint = "".join(f"{part:02X}" for part in STATUS_COLOURS[name])
        said.append({"value": value, "name": name, "color_hint": hint} | ({"nodata": True} if name == "nodata" else {}))
    return said
