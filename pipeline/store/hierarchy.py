"""How a result lies on disk: a Zarr v3 hierarchy whose metadata is written once, before any pixel.

    mask.zarr/          mask, confidence, … at level 0, with x, y and spatial_ref: what a reader finds at the root
    mask.zarr/1/        the same at half the side, made from level 0; and so on until the longer side is at most 512
    shard = block, chunk = core or a whole fraction of it, zstd, filled with nodata; a shard of nothing else has no file

No time, host, path or number of workers stands in it: the same job gives the same bytes. (The shard's side is there,
as the format wants it; it is the block's.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from pipeline.errors import SettingsError
from pipeline.grid import Grid
from pipeline.settings import STEPS, statuses
from pipeline.store.georef import (
    GRID_MAPPING,
    Attributes,
    Georef,
    array_attributes,
    coordinates,
    grid_mapping,
    group_attributes,
)
from pipeline.store.objects import put_whole, sentences
from pipeline.store.ome import image_label

COARSEST = 512  # the longer side of the last level is at most this, in pixels
_ZSTD = ZstdCodec(level=3, checksum=True)  # a reader who knows no ledger still notices a wrong bit
_MASK = "mask"  # the one product whose values are classes; the others are steps between 0 and 1, or numbers


@dataclass(frozen=True, slots=True)
class Product:
    """One array of a result, (y, x), or (class, y, x) where it has channels.

    Parameters
    ----------
    name
        "mask", "confidence", "probabilities", "values" or "disagreement".
    channels
        How many, each with a label; None for an array of two dimensions.
    labels
        What each channel is; empty without channels.
    dtype
        "uint8", "uint16", or "float32" for numbers of any unit.

    Raises SettingsError where labels and channels differ in number, or nothing is stored in such a type.

    """

    name: str
    channels: int | None = None
    labels: tuple[str, ...] = ()
    dtype: str = "uint8"

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels < 1:
            raise SettingsError(f"The product {self.name} has {self.channels} channels; it must have at least 1.")
        if len(self.labels) != (self.channels or 0):
            raise SettingsError(
                f"The product {self.name} has {self.channels or 0} channels and {len(self.labels)} labels; "
                "give each channel one label."
            )
        if self.dtype not in ("uint8", "uint16", "float32"):
            raise SettingsError(f"The product {self.name} cannot be stored as {self.dtype}.")

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel, all channels together."""
        return (self.channels or 1) * np.dtype(self.dtype).itemsize

    @property
    def numbers(self) -> bool:
        """Whether its values are numbers of a unit of their own, not a number where there is none."""
        return self.dtype == "float32"

    def shape(self, rows: int, cols: int) -> tuple[int, ...]:
        """The shape of so many pixels of it."""
        return (rows, cols) if self.channels is None else (self.channels, rows, cols)


def levels(height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of every level: the scene, then half of it, rounded up, until the longer side is at most 512."""
    shapes = [(height, width)]
    while max(shapes[-1]) > COARSEST:
        rows, cols = shapes[-1]
        shapes.append((-(-rows // 2), -(-cols // 2)))
    return shapes


def create(
    path: Path,
    grid: Grid,
    products: Sequence[Product],
    chunk: int,
    *,
    georef: Georef,
    classes: Sequence[tuple[int, str, str]],
) -> None:
    """Write the metadata of the whole hierarchy, and no shard. Run again, it repairs what an interrupted run left.

    Parameters
    ----------
    path
        The folder `mask.zarr`.
    grid
        The scene's shape, and the block, which becomes the shard.
    products
        The arrays at every level.
    chunk
        The chunks' side in pixels; a whole fraction of the block.
    georef
        The scene's place.
    classes
        The mask's legend: (value, name, "#rrggbb") of each class.

    Raises SettingsError where the chunk does not divide the block or the folder cannot be written, RoomError where
    the disk is full.

    """
    if chunk < 1 or grid.block % chunk:
        raise SettingsError(f"The chunk is {chunk} pixels; it must be a whole fraction of the block, {grid.block}.")
    files = _files(grid, products, chunk, georef, classes)
    for name in sorted(files, key=lambda name: (name == "zarr.json", name)):  # the root last: it says that all is there
        file = path / name
        with sentences(file):
            intact = file.is_file() and file.read_bytes() == files[name]
        if not intact:
            put_whole(file, files[name], stage=stage_of(path))


def array_name(product: str, level: int) -> str:
    """Where a product's array lies in the hierarchy."""
    return f"{level}/{product}" if level else product


def shard_name(array: str, dimensions: int, row: int, col: int) -> str:
    """Where a shard lies in the hierarchy; all channels are in one."""
    return f"{array}/c/{'0/' * (dimensions - 2)}{row}/{col}"


def stage_of(path: Path) -> Path:
    """Where half-written files of the hierarchy at `path` lie: beside it, never in it."""
    return path.parent / ".stage"


def _files(
    grid: Grid,
    products: Sequence[Product],
    chunk: int,
    georef: Georef,
    classes: Sequence[tuple[int, str, str]],
) -> dict[str, bytes]:
    """Every file of the hierarchy but the shards, by its name in it."""
    shapes = levels(grid.height, grid.width)
    kept: dict[str, Any] = {}
    store = MemoryStore(kept)
    methods = {product.name: "mode" if product.name == _MASK else "average" for product in products}
    said = group_attributes(georef, shapes, methods) | _for_microscopy(georef, products, len(shapes), classes)
    root = zarr.create_group(store, attributes=said)
    for level, shape in enumerate(shapes):
        group = root.create_group(str(level)) if level else root
        for product in products:
            sides = {"shards": (grid.block,) * 2, "chunks": (chunk,) * 2}
            _add_product(
                group, product, shape, sides, array_attributes(georef, level, shape) | _meaning(product, classes)
            )
        _add_place(group, georef, level, shape)
    return {name: buffer.to_bytes() for name, buffer in kept.items()}


def _for_microscopy(
    georef: Georef, products: Sequence[Product], count: int, classes: Sequence[tuple[int, str, str]]
) -> Attributes:
    """What a slide's mask says to viewers of microscopy; nothing for other scenes."""
    if not georef.slide or not any(product.name == _MASK and product.channels is None for product in products):
        return {}
    side = (georef.transform[4], georef.transform[0]) if georef.transform else None
    return {"ome": image_label([array_name(_MASK, level) for level in range(count)], side, classes)}


def _add_product(
    group: zarr.Group, product: Product, shape: tuple[int, int], sides: Mapping[str, tuple[int, int]], said: Attributes
) -> None:
    """An array of nodata."""
    channels = () if product.channels is None else (product.channels,)
    group.create_array(
        product.name,
        shape=product.shape(*shape),
        shards=(*channels, *sides["shards"]),
        chunks=(*(1 for _ in channels), *sides["chunks"]),
        dtype=product.dtype,
        fill_value=statuses(
            product.dtype
        ).nodata,  # and no attribute `_FillValue`: xarray would turn classes into floats
        compressors=_ZSTD,
        dimension_names=(*("class" for _ in channels), "y", "x"),
        attributes=said,
    )


def _add_place(group: zarr.Group, georef: Georef, level: int, shape: tuple[int, int]) -> None:
    """The variables by which CF says where a level lies."""
    mapping = grid_mapping(georef, level)
    if mapping is not None:
        group.create_array(GRID_MAPPING, shape=(), dtype="int64", fill_value=0, attributes=mapping)
    for name, (values, said) in (coordinates(georef, level, shape) or {}).items():
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=values.shape,
            dtype="float64",
            compressors=_ZSTD,
            dimension_names=(name,),
            attributes=said,
        )
        array[:] = values


def _meaning(product: Product, classes: Sequence[tuple[int, str, str]]) -> Attributes:
    """What the values of a product are: CF's flags, and STAC's classification for the mask."""
    labels: Attributes = {"labels": list(product.labels)} if product.labels else {}
    if product.numbers:
        said: Attributes = {"long_name": product.name, "comment": f"not a number where {_MASK} holds a status"}
        return said | labels
    named = statuses(product.dtype).named()
    if product.name == _MASK and product.channels:
        colours = [colour for _, _, colour in classes[-product.channels :]]
        said = {"long_name": "whether each pixel is of the class", "label_colors": " ".join(colours)}
        return said | _flags([0, 1, *named], ["no", "yes", *named.values()]) | labels
    if product.name == _MASK:
        values, names = [value for value, _, _ in classes], [name for _, name, _ in classes]
        return {
            "long_name": "class of each pixel",
            **_flags([*values, *named], [*names, *named.values()]),
            "flag_colors": " ".join([*(colour for _, _, colour in classes), *("#000000" for _ in named)]),
            "classification:classes": [_stac(*said) for said in classes] + [_stac(*s, None) for s in named.items()],
        }
    said = _flags(list(named), list(named.values()))
    said |= {"long_name": product.name, "steps": STEPS, "comment": f"value / {STEPS} for values of 0 to {STEPS}"}
    return said | labels


def _flags(values: list[int], names: list[str]) -> Attributes:
    """CF 1.11, section 3.5: meanings are one word each."""
    return {"flag_values": values, "flag_meanings": " ".join(_word(name) for name in names)}


def _stac(value: int, name: str, colour: str | None) -> Attributes:
    """A class as STAC's classification extension v2 says it; a status is nodata to it."""
    said: Attributes = {"value": value, "name": _word(name), "title": name}
    return said | ({"nodata": True} if colour is None else {"color_hint": colour.removeprefix("#").upper()})


def _word(name: str) -> str:
    """A name as one word of letters, digits, - and _."""
    return re.sub(r"[^0-9A-Za-z-]+", "_", name).strip("_") or "_"
