"""Mosaics: images on one grid of pixels, as one VRT. What is one scene has no seam where two of its images meet.

Nothing is resampled: images whose pixels do not lie on one grid are refused, with what would put them there. Where
images overlap, the first that is valid there counts, band by band where a nodata value says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader

from pipeline.errors import SceneError
from pipeline.raster.access import environment, open_file
from pipeline.raster.facts import alpha_of, transform_of

MARK = '<MDI key="made_by">maskmill mosaic</MDI>'
CLOSE = 0.01  # of a pixel: how far an image may lie beside the grid, by the rounding of those who wrote it
_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True, slots=True)
class _Bands:
    """What the images of a mosaic have in common; all but the coordinate system for each band that is not alpha."""

    crs: CRS | None
    numbers: tuple[int, ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    names: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]

    def differs(self, other: _Bands) -> str | None:
        """What another image has otherwise, in words; None where nothing."""
        for name, what in (
            ("crs", "coordinate system"),
            ("numbers", "bands"),
            ("dtypes", "type"),
            ("nodata", "nodata value"),
            ("names", "order of bands"),
            ("scales", "gain"),
            ("offsets", "offset"),
        ):
            own, its = getattr(self, name), getattr(other, name)
            if own != its and not (name == "nodata" and np.array_equal(_floats(own), _floats(its), equal_nan=True)):
                return f"{what} ({_short(its)} and {_short(own)})"
        return None


@dataclass(frozen=True, slots=True)
class _Image:
    """One image: where it lies on the ground, in pixels of its own, and what its bands are."""

    path: Path
    height: int
    width: int
    corner: tuple[float, float]  # x, y of the first pixel's outer corner
    pixel: tuple[float, float]  # its sides: to the right, and down, negative where north is up
    tile: tuple[int, int]
    bands: _Bands
    colours: tuple[ColorInterp, ...]
    palette: tuple[tuple[int, ...], ...]
    masked: bool  # whether something besides a nodata value says which pixels are valid


def mosaic_of(images: Sequence[Path], target: Path) -> bytes:
    """The VRT that shows `images` as one, to be written to `target`; where they overlap, the first is on top.

    Raises SceneError where an image cannot be opened, has no place on the ground or is rotated, where two differ in
    their coordinate system, their bands or their pixels, and where there is none.
    """
    if not images:
        raise SceneError(f"There is no image for the mosaic {target}: name some.")
    opened = [_looked_at(path) for path in dict.fromkeys(Path(os.path.abspath(path)) for path in images)]  # noqa: PTH100
    corners = [_placed(opened[0], image) for image in opened]
    top, left = min(row for row, _ in corners), min(col for _, col in corners)
    placed = [(image, row - top, col - left) for image, (row, col) in zip(opened, corners, strict=True)]
    return "\n".join(_written(placed, (top, left), target)).encode("utf-8", "surrogateescape")


def _looked_at(path: Path) -> _Image:
    with environment(str(path)), open_file(path) as dataset:
        transform, alpha = transform_of(dataset), alpha_of(dataset)
        if transform is None or transform[1] or transform[3]:
            what = "has no place on the ground" if transform is None else "is rotated"
            raise SceneError(f"The image {path} {what}, so that it is no part of a mosaic: warp it with gdalwarp.")
        numbers = tuple(band for band in dataset.indexes if band != alpha)
        flags = {flag for band in numbers for flag in dataset.mask_flag_enums[band - 1]}
        return _Image(
            path=path,
            height=dataset.height,
            width=dataset.width,
            corner=(transform[2], transform[5]),
            pixel=(transform[0], transform[4]),
            tile=dataset.block_shapes[0],
            bands=_Bands(dataset.crs, numbers, *(_of(dataset, name, numbers) for name in _PER_BAND)),
            colours=_of(dataset, "colorinterp", numbers),
            palette=_palette(dataset),
            masked=bool(flags & {MaskFlags.alpha, MaskFlags.per_dataset}),
        )


_PER_BAND = ("dtypes", "nodatavals", "descriptions", "scales", "offsets")


def _of(dataset: DatasetReader, name: str, numbers: Sequence[int]) -> tuple[Any, ...]:
    return tuple(getattr(dataset, name)[band - 1] for band in numbers)


def _palette(dataset: DatasetReader) -> tuple[tuple[int, ...], ...]:
    """The colours of a single band's numbers; empty where they have none."""
    if dataset.colorinterp[0] != ColorInterp.palette:
        return ()
    return tuple(dataset.colormap(1).values())


def _placed(first: _Image, image: _Image) -> tuple[int, int]:
    """(row, col) of an image's corner on the first one's grid. Raises SceneError where it does not lie on it."""
    if differs := first.bands.differs(image.bands):
        raise SceneError(f"{image.path} and {first.path} make no mosaic: they differ in their {differs}.")
    (across, down), places = first.pixel, _places(first, image)
    beside = max(
        abs(image.pixel[0] / across - 1) * image.width,
        abs(image.pixel[1] / down - 1) * image.height,
        *(abs(place - round(place)) for place in places),
    )
    if not beside <= CLOSE:
        raise SceneError(
            f"{image.path} and {first.path} make no mosaic: their pixels lie {beside:.3g} of a pixel beside each other "
            f"(sides of {image.pixel[0]:.10g} and {across:.10g}). Warp them to one grid first, such as by gdalwarp "
            f"-tr {abs(across):.10g} {abs(down):.10g} -tap."
        )
    return round(places[0]), round(places[1])


def _places(first: _Image, image: _Image) -> tuple[float, float]:
    """(row, col) of an image's corner on the first one's grid, with their fractions."""
    return (
        (image.corner[1] - first.corner[1]) / first.pixel[1],
        (image.corner[0] - first.corner[0]) / first.pixel[0],
    )


def _written(placed: Sequence[tuple[_Image, int, int]], origin: tuple[int, int], target: Path) -> list[str]:
    """The lines of the VRT; images at their (row, col) in it; `origin` is its corner on the first one's grid."""
    first = placed[0][0]
    height = max(row + image.height for image, row, _ in placed)
    width = max(col + image.width for image, _, col in placed)
    across, down = first.pixel
    x, y = first.corner[0] + origin[1] * across, first.corner[1] + origin[0] * down
    masked = any(image.masked for image, _, _ in placed) or None in first.bands.nodata
    lines = [f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">', f"<Metadata>{MARK}</Metadata>"]
    if first.bands.crs:
        lines.append(f'<SRS dataAxisToSRSAxisMapping="2,1">{escape(first.bands.crs.to_wkt())}</SRS>')
    lines.append(f"<GeoTransform>{x!r}, {across!r}, 0.0, {y!r}, 0.0, {down!r}</GeoTransform>")
    for place in range(len(first.bands.numbers)):
        lines += _band(placed, place, target, masked)
    if masked:
        lines += ["<MaskBand>", '<VRTRasterBand dataType="Byte">']
        for image, row, col in reversed(placed):
            lines += _source(image, (row, col), "mask,1", "Byte", target, "<NODATA>0</NODATA>")
        lines += ["</VRTRasterBand>", "</MaskBand>"]
    return [*lines, "</VRTDataset>", ""]


def _band(placed: Sequence[tuple[_Image, int, int]], place: int, target: Path, masked: bool) -> list[str]:
    first = placed[0][0]
    bands, kind = first.bands, _TYPES.get(first.bands.dtypes[place])
    if kind is None:
        raise SceneError(f"The image {first.path} holds {bands.dtypes[place]}, of which no mosaic is made here.")
    nodata = bands.nodata[place]
    lines = [f'<VRTRasterBand dataType="{kind}" band="{place + 1}">']
    lines += [f"<Description>{escape(name)}</Description>"] if (name := bands.names[place]) else []
    lines += [f"<NoDataValue>{nodata!r}</NoDataValue>"] if nodata is not None else []
    lines += [f"<Offset>{bands.offsets[place]!r}</Offset>"] if bands.offsets[place] else []
    lines += [f"<Scale>{bands.scales[place]!r}</Scale>"] if bands.scales[place] != 1 else []
    lines.append(f"<ColorInterp>{first.colours[place].name.capitalize()}</ColorInterp>")
    if first.palette:
        entries = "".join('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*entry) for entry in first.palette)
        lines.append(f"<ColorTable>{entries}</ColorTable>")
    more = "<UseMaskBand>true</UseMaskBand>" if masked else f"<NODATA>{nodata!r}</NODATA>"
    for image, row, col in reversed(placed):  # what comes later is painted over what came before
        lines += _source(image, (row, col), str(bands.numbers[place]), kind, target, more)
    return [*lines, "</VRTRasterBand>"]


def _source(image: _Image, corner: tuple[int, int], band: str, kind: str, target: Path, more: str) -> list[str]:
    """One image in one band of the VRT; its size is said, so that GDAL opens it when it is read."""
    folder = Path(os.path.abspath(target)).parent  # noqa: PTH100
    within = image.path.is_relative_to(folder)
    name = image.path.relative_to(folder).as_posix() if within else image.path.as_posix()
    size, tile = f'xSize="{image.width}" ySize="{image.height}"', image.tile
    return [
        "<ComplexSource>",
        f'<SourceFilename relativeToVRT="{int(within)}">{escape(name)}</SourceFilename>',
        f"<SourceBand>{band}</SourceBand>",
        f'<SourceProperties RasterXSize="{image.width}" RasterYSize="{image.height}" DataType="{kind}" '
        f'BlockXSize="{tile[1]}" BlockYSize="{tile[0]}"/>',
        f'<SrcRect xOff="0" yOff="0" {size}/>',
        f'<DstRect xOff="{corner[1]}" yOff="{corner[0]}" {size}/>',
        more,
        "</ComplexSource>",
    ]


def _floats(values: Sequence[float | None]) -> list[float]:
    return [np.inf if value is None else value for value in values]


def _short(value: object) -> str:
    text = value.to_string() if isinstance(value, CRS) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
