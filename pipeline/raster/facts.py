"""What an open file says of its bands: types, place, nodata, masks, and in which pieces it is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, WktVersion
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from pipeline.errors import SceneError
from pipeline.raster.ground import Transform

DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})

_TIME = re.compile(r"\s*(\d{4})[-:/](\d\d)[-:/](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?")


def alpha_of(dataset: DatasetReader) -> int | None:
    """The band that is alpha, from 1, the last of several; None where there is none."""
    found = [band for band, what in zip(dataset.indexes, dataset.colorinterp, strict=True) if what == ColorInterp.alpha]
    return found[-1] if found else None


def names_of(dataset: DatasetReader) -> tuple[str | None, ...]:
    """What the file calls each of its bands: its description, else its colour; None where it says neither."""
    silent = {"undefined", "gray", "grey", "palette", "alpha"}
    colours = [None if what.name in silent else str(what.name) for what in dataset.colorinterp]
    return tuple(text or colour for text, colour in zip(dataset.descriptions, colours, strict=True))


def dtype_of(path: str, dataset: DatasetReader, bands: tuple[int, ...]) -> str:
    """The type that holds all the bands. Raises SceneError for one that no network here takes."""
    own = [str(dataset.dtypes[band - 1]) for band in bands]
    for dtype in own:
        if dtype not in DTYPES:
            kind = "complex numbers" if "complex" in dtype else dtype
            raise SceneError(f"The image {path} holds {kind}; pixels must be one of {', '.join(sorted(DTYPES))}.")
    promoted = np.result_type(*own).name if own else "uint8"
    if promoted not in DTYPES:
        raise SceneError(f"The bands {bands} of {path} are {', '.join(own)}, which have no common dtype here.")
    return promoted


def crs_of(path: str, dataset: DatasetReader) -> str | None:
    """The CRS as WKT2, or None. Raises SceneError where it cannot be understood."""
    try:
        crs = dataset.crs
        return str(crs.to_wkt(version=WktVersion.WKT2_2019)) if crs else None
    except CRSError as error:
        raise SceneError(f"The CRS of {path} cannot be understood: {error}.") from None


def transform_of(dataset: DatasetReader) -> Transform | None:
    """The six numbers, or None where the file has none that places a pixel."""
    a, b, c, d, e, f = (float(number) for number in dataset.transform[:6])
    said = np.isfinite([a, b, c, d, e, f]).all() and a * e != b * d
    return (a, b, c, d, e, f) if said and not dataset.transform.is_identity else None


def taken_of(dataset: DatasetReader) -> tuple[str, str] | None:
    """When the image was taken, ISO 8601 in UTC, and the entry that says so; None where none does.

    The date in a TIFF's own tag, which names no zone and may be that of the file, counts where nothing better does.
    """
    for entry, said in (
        ("ACQUISITIONDATETIME", dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME")),
        ("ACQUISITIONDATETIME", dataset.tags().get("ACQUISITIONDATETIME")),
        ("TIFFTAG_DATETIME", dataset.tags().get("TIFFTAG_DATETIME")),
    ):
        if taken := instant(said):
            return taken, entry
    return None


def instant(said: str | None) -> str | None:
    """A date, or a date and a time, in any of the ways that files have of saying it, as ISO 8601 in UTC; None if none.

    Parts of a second are left out, and a zone is not looked at: those who name one mean UTC.
    """
    found = _TIME.match(said or "")
    with suppress(ValueError):
        if found:
            year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
            return f"{datetime(year, month, day, hour, minute, second, tzinfo=UTC):%Y-%m-%dT%H:%M:%SZ}"
    return None


def nodata_of(dataset: DatasetReader, bands: tuple[int, ...]) -> tuple[float | None, ...]:
    """The nodata value of each band; none at all where one of them is NaN, which is invalid by itself."""
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, here and in rasterio
        found = [_held(dataset.nodatavals[band - 1], np.dtype(dataset.dtypes[band - 1])) for band in bands]
    if any(value is not None and np.isnan(value) for value in found):
        return (None,) * len(bands)
    return tuple(found)


def _held(value: float | None, dtype: np.dtype[Any]) -> float | None:
    """A nodata value as a dtype holds it; one that it cannot hold marks no pixel."""
    if value is None:
        return None
    if dtype.kind == "f":
        held = float(dtype.type(value))
        return held if np.isinf(value) or not np.isinf(held) else None
    limits = np.iinfo(dtype)
    return float(value) if float(value).is_integer() and limits.min <= value <= limits.max else None


def calibration_of(
    dataset: DatasetReader, bands: tuple[int, ...]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """(gain, offset) of each band by the file's own tags: physical = raw × gain + offset; None for both if it has none.

    GDAL calls them scale and offset; NetCDF scale_factor and add_offset.
    """
    gain = tuple(float(dataset.scales[band - 1]) for band in bands)
    offset = tuple(float(dataset.offsets[band - 1]) for band in bands)
    said = set(gain) != {1.0} or set(offset) != {0.0}
    return (gain, offset) if said and np.isfinite([gain, offset]).all() and all(gain) else (None, None)


def coloured(dataset: DatasetReader) -> int | None:
    """The first band whose pixels are numbers of colours in a palette, but for a palette of greys in their order."""
    for band, what in zip(dataset.indexes, dataset.colorinterp, strict=True):
        if what == ColorInterp.palette:
            with suppress(ValueError):  # it has no palette after all
                if any(colour[:3] != (number,) * 3 for number, colour in dataset.colormap(band).items()):
                    return int(band)
    return None


def notes_of(dataset: DatasetReader) -> Iterator[str]:
    """What a file holds besides the image that is read, and how a camera was held: each a sentence for the user."""
    if dataset.driver == "GTiff" and len(dataset.subdatasets) > 1:
        yield (
            f"The file has {len(dataset.subdatasets)} pages, and the first is the image; write another out with "
            "gdal_translate GTIFF_DIR:2:FILE, or all of them as bands of one file."
        )
    turned = dataset.tags().get("EXIF_Orientation", "1")
    if turned != "1":
        yield (
            f"The camera was held another way (EXIF orientation {turned}): the image is read as it lies in the file, "
            "and the mask lies so too."
        )


def masks_of(dataset: DatasetReader, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Bands whose mask says more than their nodata value and the alpha band do."""
    found: dict[int, None] = {}
    for band in bands:
        flags = set(dataset.mask_flag_enums[band - 1])
        if flags == {MaskFlags.nodata} or flags & {MaskFlags.all_valid, MaskFlags.alpha}:
            continue
        if MaskFlags.per_dataset in flags:
            return (band,)
        found[band] = None
    return tuple(found)


def tile_of(dataset: DatasetReader, bands: tuple[int, ...]) -> tuple[int, int]:
    """(rows, cols) that are decoded at once."""
    band = bands[0] if bands else 1
    rows, cols = dataset.block_shapes[band - 1]
    if dataset.driver == "GTiff" and rows == 1 < dataset.height and dataset.compression is not None:
        # GDAL shows one large compressed strip as rows, and decodes it from its beginning for each.
        first, second = (dataset.get_tag_item(f"BLOCK_OFFSET_0_{row}", "TIFF", bidx=band) for row in (0, 1))
        if first is not None and second is None:
            rows = dataset.height
    return int(rows), int(cols)


def tile_bytes_of(dataset: DatasetReader, bands: tuple[int, ...], alpha: int | None) -> int:
    """Bytes that decoding one tile gives, over all bands that are decoded with it."""
    together = dataset.interleaving == Interleaving.pixel
    decoded = set(dataset.indexes) if together else {*bands, *((alpha,) if alpha else ())}
    rows, cols = tile_of(dataset, bands)
    return rows * cols * sum(int(np.dtype(dataset.dtypes[band - 1]).itemsize) for band in decoded)
