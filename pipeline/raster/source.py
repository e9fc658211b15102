"""An image to do: opened safely once, and told in a small frozen value that travels to every worker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster import ground, vrt
from pipeline.raster.access import environment, open_file
from pipeline.raster.address import Address, address_of, shown
from pipeline.raster.complaints import told_of
from pipeline.raster.facts import (
    alpha_of,
    calibration_of,
    crs_of,
    dtype_of,
    masks_of,
    nodata_of,
    notes_of,
    taken_of,
    tile_bytes_of,
    tile_of,
    transform_of,
)
from pipeline.raster.fingerprint import fingerprint_of
from pipeline.raster.ground import Transform
from pipeline.raster.levels import Level
from pipeline.raster.naming import demand_name, scene_name
from pipeline.raster.seal import Seal, seal_of
from pipeline.raster.slide import is_slide
from pipeline.raster.ties import Ties, place_note, ties_of

if TYPE_CHECKING:
    from pipeline.raster.layer import Layer

MICRO = 1e-6  # metres in a slide's unit
LARGEST_TILE = 1 << 31  # bytes, decoded
_REMOTE = (
    "The image is read at an address: it is known again by its size, the server's ETag or time of change, its head and "
    "its tail, not by all its bytes."
)


@dataclass(frozen=True, slots=True)
class Scene:
    """An image and the bands of it that are wanted.

    Parameters
    ----------
    name
        What its folder of results is called: [A-Za-z0-9._-], at most 200 characters, no leading dot.
    uri
        Absolute path of the file, or its address.
    height, width
        In pixels.
    bands
        Bands of the file from 1, in the order wanted; a band may come twice.
    dtype
        numpy's name of what `Reader.read` gives: the bands' own, or what numpy promotes them to.
    crs
        WKT2, or None.
    transform
        (a, b, c, d, e, f): x = a·col + b·row + c, y = d·col + e·row + f; None where the file has none.
    nodata
        For each of `bands` the value that means nodata, in the band's dtype; None where there is none.
    alpha
        The file's alpha band, from 1; None where there is none, or where it is wanted as a band.
    masks
        Bands whose mask bands have to be read; one stands for all where they share it.
    tile
        (rows, cols) that are decoded at once.
    tile_bytes
        Bytes that decoding one tile gives, over all bands that are decoded with it.
    driver
        GDAL's name of the format, or OpenSlide.
    fingerprint
        Digest of the files that decide pixels.
    seal
        What is said of those files, for `seal.demand_unchanged`; of a scene of layers each of these has its own.
    ties
        Ground control points and RPCs, to be kept in the result.
    allow
        Folders that a VRT may name images in, beside its own.
    notes
        What a user should know of the image, each said once.
    layers
        The rasters that it is made of, each on a grid of its own; empty for a file that is read as it is. With them,
        `bands`, `nodata`, `alpha`, `masks` and `driver` are those of no file.
    gain, offset
        For each of `bands`: physical = raw × gain + offset, as the scene's own metadata say; None where they do not.
    levels
        Of a whole slide: the level that this is, then the coarser ones; empty for other images. A slide has no CRS,
        and its transform gives micrometres.
    taken
        When the image was taken, ISO 8601 in UTC, and what says so; None where nothing does.

    """

    name: str
    uri: str
    height: int
    width: int
    bands: tuple[int, ...]
    dtype: str
    crs: str | None
    transform: Transform | None
    nodata: tuple[float | None, ...]
    alpha: int | None
    masks: tuple[int, ...]
    tile: tuple[int, int]
    tile_bytes: int
    driver: str
    fingerprint: str
    ties: Ties | None = None
    allow: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    gain: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    levels: tuple[Level, ...] = ()
    seal: Seal = b""
    taken: tuple[str, str] | None = None

    def __repr__(self) -> str:  # addresses may hold passwords and signatures
        return f"Scene({self.name}, {self.shown}, {self.height} × {self.width}, bands {self.bands})"

    def __post_init__(self) -> None:
        if self.tile_bytes > LARGEST_TILE:
            raise SceneError(
                f"The image {self.shown} is cut into pieces of {self.tile_bytes} bytes, which are decoded whole, and "
                f"{LARGEST_TILE} at most are: write it anew with tiles (gdal_translate -co TILED=YES)."
            )
        demand_name(self.name)
        if self.height < 1 or self.width < 1:
            raise SceneError(f"The image {self.shown} has {self.height} × {self.width} pixels: there is nothing to do.")
        if not self.bands:
            raise SceneError(f"No band of the image {self.shown} is chosen: name at least one.")
        if len(self.nodata) != len(self.bands):
            raise ValueError(f"{len(self.bands)} bands need as many nodata values, not {len(self.nodata)}")

    @property
    def shown(self) -> str:
        """The uri as it may be printed: without the signature of an address."""
        return shown(self.uri)

    @property
    def rect(self) -> Rect:
        """The whole scene."""
        return Rect(0, 0, self.height, self.width)

    @property
    def always_valid(self) -> bool:
        """Whether nothing in the file can make a pixel invalid."""
        if self.layers or self.levels:
            return False
        declared = any(value is not None for value in self.nodata)
        return not (declared or self.alpha or self.masks or np.dtype(self.dtype).kind == "f")

    @property
    def geographic(self) -> bool:
        """Whether its coordinates are angles."""
        known = ground.units(self.crs) if self.crs else None
        return known is not None and known[0]

    @property
    def resolution_m(self) -> float | None:
        """Side of a pixel in metres, on the map, or on the ellipsoid in the image's middle; None: unknown."""
        if self.levels:
            area = self.pixel_area()
            return math.sqrt(area) if area else None
        return ground.resolution(self.crs, self.transform, self.height)

    def pixel_area(self) -> float | None:
        """Area of one pixel in m², on the map or of the slide; None where the CRS is not projected."""
        if self.levels:
            return self.transform[0] * self.transform[4] * MICRO**2 if self.transform else None
        return ground.pixel_area(self.crs, self.transform)


def row_areas(scene: Scene, top: int, bottom: int) -> NDArray[np.float64] | None:
    """Area in m² of one pixel of each row from `top` to `bottom` − 1, on the ellipsoid of a geographic CRS.

    None where the CRS is not geographic or the image is rotated.
    """
    return ground.row_areas(scene.crs, scene.transform, top, bottom)


def open_scene(uri: str, bands: Sequence[int] | None, name: str | None = None, allow: Sequence[str] = ()) -> Scene:
    """Open an image, look at everything about it but its pixels, and close it.

    Without `bands`, all bands that are not alpha are taken. Raises SceneError, in one sentence, for what is no image,
    is cut short, cannot be reached, has no such band, a dtype that no network here takes, or reaches beyond its folder
    and the folders `allow`.
    """
    address = address_of(uri)
    path = shown(address.uri)
    if address.plain and address.file and is_slide(address.file):
        from pipeline.raster.whole_slide import open_slide  # noqa: PLC0415  # it makes what is defined here

        return open_slide(address.file, bands, name)
    with environment(uri), told_of(path), open_file(uri, allow) as dataset:
        alpha = alpha_of(dataset)
        chosen = _chosen(path, dataset, bands, alpha)
        crs, transform, ties = crs_of(path, dataset), transform_of(dataset), ties_of(dataset)
        notes = (place_note(ties, crs, transform), _REMOTE if address.remote else None, *notes_of(dataset))
        gain, offset = calibration_of(dataset, chosen)
        files = _files(address, dataset, allow)
        seal = seal_of(address, files)
        return Scene(
            name=scene_name(uri) if name is None else name,
            uri=address.uri,
            height=dataset.height,
            width=dataset.width,
            bands=chosen,
            dtype=dtype_of(path, dataset, chosen),
            crs=crs,
            transform=transform,
            nodata=nodata_of(dataset, chosen),
            alpha=None if alpha in chosen else alpha,  # GDAL takes the fourth of four bands for alpha, asked or not
            masks=masks_of(dataset, chosen),
            tile=tile_of(dataset, chosen),
            tile_bytes=tile_bytes_of(dataset, chosen, alpha),
            driver=dataset.driver,
            fingerprint=fingerprint_of(address, files),
            ties=ties,
            allow=tuple(allow),
            notes=tuple(note for note in notes if note),
            gain=gain,
            offset=offset,
            seal=seal,
            taken=taken_of(dataset),
        )


def _chosen(path: str, dataset: DatasetReader, bands: Sequence[int] | None, alpha: int | None) -> tuple[int, ...]:
    if dataset.count == 0:
        raise SceneError(
            f"The file {path} has no band of its own, only subdatasets: write one out with gdal_translate."
        )
    if bands is None:
        return tuple(band for band in dataset.indexes if band != alpha) or (1,)
    for band in bands:
        if not 1 <= band <= dataset.count:
            raise SceneError(
                f"There is no band {band} in {path}: it has {dataset.count}, counted from 1. "
                "Say with --bands which of its bands the model is to eat."
            )
    return tuple(bands)


def _files(address: Address, dataset: DatasetReader, allow: Sequence[str]) -> list[Path]:
    if address.file is None or not address.plain:
        return []
    files = [Path(name) for name in dataset.files]
    if dataset.driver == "VRT":
        for source in vrt.sources_of(address.file.resolve(), allow):
            with open_file(source) as opened:
                files += [Path(name) for name in opened.files]
    return files
