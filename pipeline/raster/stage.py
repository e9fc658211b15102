"""Staging: an image whose layout makes windows slow to read is written once as a tiled GeoTIFF, and that is read.

The staged file has the same pixels in the bands wanted, and one mask with what the source's nodata, alpha, masks and
NaN or infinity said. It counts only once it is renamed into place.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from pipeline.disk import FULL, has_room
from pipeline.errors import RoomError, SceneError
from pipeline.grid import Rect
from pipeline.raster import vsi
from pipeline.raster.access import environment
from pipeline.raster.address import address_of
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.reader import Reader
from pipeline.raster.seal import demand_unchanged
from pipeline.raster.source import Scene, open_scene

SIDE = 512  # of the staged tiles, in pixels
SMALL = 4_000_000  # pixels: below, any layout is read fast enough
_WIDEST = 1024  # px: the longer side of a tile or strip; beyond, a window decodes far more than it needs
_SEQUENTIAL = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP", "BMP": "BMP"}
_NAME, _TAG = "source.tif", "MASKMILL_STAGED"


def reason_to_stage(scene: Scene) -> str | None:
    """Say in a sentence why windows of this image would be slow to read; None where they are not.

    A VRT is judged by nothing here: what it names lies in files of their own. A slide is made to be read in windows.
    Layers are judged one by one.
    """
    if scene.layers:
        return next(filter(None, (reason_to_stage(layer.part) for layer in scene.layers)), None)
    if scene.rect.area < SMALL or scene.driver == "VRT" or scene.levels:
        return None
    if scene.driver in _SEQUENTIAL:
        return f"A {_SEQUENTIAL[scene.driver]} is read from its beginning for every window."
    rows, cols = _codestream_tile(scene) if scene.driver == "JP2OpenJPEG" else scene.tile
    if max(rows, cols) > _WIDEST:
        return f"The file is cut into pieces of {rows} × {cols} pixels, which are decoded whole for every window."
    return None


def staging_rows(scene: Scene) -> int:
    """How many rows are in memory at once while a file is staged."""
    return SIDE if scene.tile[0] <= SIDE else 2 * SIDE


def to_stage(scene: Scene) -> list[Scene]:
    """The files, each as a scene, that are written as tiles one after another before the scene is read."""
    files = [layer.part for layer in scene.layers] or [scene]
    return [file for file in files if reason_to_stage(file)]


def as_staged(scene: Scene) -> Scene:
    """The scene as its blocks will read it once it is staged; nothing is written."""
    if scene.layers:
        return _each(scene, lambda _, part: as_staged(part))
    pixel = np.dtype(scene.dtype).itemsize * len(scene.bands)
    return replace(scene, tile=(SIDE, SIDE), tile_bytes=SIDE * SIDE * pixel)


def stage(scene: Scene, folder: Path) -> Scene:
    """Write `folder`/source.tif, or take the one that is there and complete, and return the scene that reads it.

    Of a scene of layers, those that are slow to read have a folder each. Name and fingerprint stay those of the source;
    the bands become 1, 2, … in the order wanted. Memory holds `staging_rows` rows of all bands. Raises BlockError where
    the source cannot be read, SceneError where it changes meanwhile or the file cannot be written, RoomError where the
    disk is full.
    """
    if scene.layers:
        return _each(scene, lambda number, part: stage(part, folder / f"layer-{number}"))
    target, tag = folder / _NAME, f"{scene.fingerprint} {scene.bands}"
    if not _complete(target, tag):
        partial = folder / f"{_NAME}.partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(scene, partial, tag)
            demand_unchanged(scene)
            partial.replace(target)
        except GDAL_ERRORS as error:
            if getattr(error, "errno", None) in FULL or not has_room(target.parent):
                raise RoomError(
                    f"There is no room to stage {scene.shown} as {target}: free some and run again."
                ) from None
            raise SceneError(f"The image {scene.shown} cannot be staged as {target}: {reason(error)}.") from None
        finally:
            with suppress(OSError):  # it is gone, renamed, or its folder could not be made: said above
                partial.unlink()
    staged = open_scene(str(target), None, scene.name)
    return replace(staged, fingerprint=scene.fingerprint, gain=scene.gain, offset=scene.offset)


def _each(scene: Scene, change: Callable[[int, Scene], Scene]) -> Scene:
    """The scene with each of its slow layers changed."""
    parts = (change(at, one.part) if reason_to_stage(one.part) else one.part for at, one in enumerate(scene.layers))
    return replace(scene, layers=tuple(replace(one, part=part) for one, part in zip(scene.layers, parts, strict=True)))


def _complete(target: Path, tag: str) -> bool:
    if not target.is_file():
        return False
    try:
        with environment(), rasterio.open(target, driver="GTiff") as dataset:
            return bool(dataset.tags().get(_TAG) == tag)
    except GDAL_ERRORS:
        return False  # not ours, or damaged: written anew


def _write(scene: Scene, path: Path, tag: str) -> None:
    step, masked = staging_rows(scene), not scene.always_valid
    with (
        Reader(scene) as reader,
        environment(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **_profile(scene)) as target,
    ):
        target.update_tags(**{_TAG: tag})
        for top in range(0, scene.height, step):
            _copy(reader, target, Rect(top, 0, top + step, scene.width).intersect(scene.rect), masked)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copy(reader: Reader, target: DatasetWriter, rect: Rect, masked: bool) -> None:
    pixels, valid = reader.read(rect)
    window = Window(rect.left, rect.top, rect.width, rect.height)
    target.write(pixels, window=window)
    if masked:
        target.write_mask(valid.astype(np.uint8) * 255, window=window)


def _profile(scene: Scene) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": scene.height,
        "width": scene.width,
        "count": len(scene.bands),
        "dtype": scene.dtype,
        "crs": scene.crs,
        "transform": rasterio.Affine(*scene.transform) if scene.transform else None,
        "tiled": True,
        "blockxsize": SIDE,
        "blockysize": SIDE,
        "interleave": "pixel",
        "compress": "zstd",
        "zstd_level": 1,  # read once or twice, then deleted
        "predictor": 3 if np.dtype(scene.dtype).kind == "f" else 2,
        "bigtiff": "if_safer",
        "photometric": "minisblack",  # else four bands of uint8 would be taken for colours and alpha
        "alpha": "no",
    }


def _codestream_tile(scene: Scene) -> tuple[int, int]:
    """(rows, cols) of a JPEG 2000's tiles, which GDAL does not tell: out of the SIZ marker (ISO/IEC 15444-1, A.5.1)."""
    with environment(scene.uri):
        head = vsi.head(address_of(scene.uri).name, 1 << 20)
    at = head.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(head) < at + 32:
        raise SceneError(
            f"The JPEG 2000 {scene.shown} has no codestream within its first {1 << 20} bytes: convert it first."
        )
    width, height, left, top, cols, rows = struct.unpack_from(">6I", head, at + 8)
    return min(rows, height - top), min(cols, width - left)
