"""A whole slide as a scene: its finest level is the grid, micrometres are its coordinates, and it has no CRS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from pipeline.errors import SceneError
from pipeline.raster.address import address_of
from pipeline.raster.fingerprint import fingerprint
from pipeline.raster.ground import scaled
from pipeline.raster.levels import Scale
from pipeline.raster.naming import scene_name
from pipeline.raster.seal import seal_of
from pipeline.raster.slide import DRIVER, look_at
from pipeline.raster.source import Scene

RGB = (1, 2, 3)


def open_slide(path: Path, bands: Sequence[int] | None, name: str | None) -> Scene:
    """Open a slide as `open_scene` does other images; its bands are red, green and blue. Raises SceneError."""
    seen = look_at(path)
    seal = seal_of(address_of(str(path)), seen.files)
    chosen = tuple(RGB if bands is None else bands)
    for band in chosen:
        if band not in RGB:
            raise SceneError(f"There is no band {band} in {path}: a slide has 3, red, green and blue, counted from 1.")
    finest = seen.levels[0]
    rows, cols = seen.tile
    return Scene(
        name=scene_name(str(path)) if name is None else name,
        uri=str(path),
        height=finest.height,
        width=finest.width,
        bands=chosen,
        dtype="uint8",
        crs=None,
        transform=(seen.mpp[1], 0.0, 0.0, 0.0, seen.mpp[0], 0.0) if seen.mpp else None,
        nodata=(None,) * len(chosen),
        alpha=None,
        masks=(),
        tile=(rows, cols),
        tile_bytes=rows * cols * 4,
        driver=DRIVER,
        fingerprint=fingerprint(path, seen.files),
        notes=seen.notes,
        levels=seen.levels,
        seal=seal,
    )


def part_for(scene: Scene, factor: Fraction) -> tuple[Scene, Scale]:
    """(what to read where `factor` pixels are wanted to one of the scene's, its pixels to one of the scene's).

    Of a slide the coarsest level that is fine enough; any other image is read as it is.
    """
    if not scene.levels:
        return scene, (Fraction(1), Fraction(1))
    finest = scene.levels[0]
    scales = [tuple(part / whole for part, whole in zip(one.scale, finest.scale, strict=True)) for one in scene.levels]
    at = max((at for at, scale in enumerate(scales) if min(scale) >= factor), default=0)
    level, (down, across) = scene.levels[at], scales[at]
    part = replace(
        scene,
        height=level.height,
        width=level.width,
        transform=scaled(scene.transform, down, across),
        levels=scene.levels[at:],
    )
    return part, (down, across)
