"""The area of interest: which file says it, as a small frozen value, and what is asked of it once it is opened.

A pixel is inside where its centre is. What an opened area says of a rectangle is what it says of the same rectangle of
the whole scene: it does not depend on how the scene is cut.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.raster.source import Scene
from pipeline.settings import TISSUE, AreaEntry

PIECE = 2048  # px: the side of what is looked at at once where a first pixel inside is sought


class Form(StrEnum):
    """What an area is said by."""

    VECTOR = "polygons"
    RASTER = "mask"
    TISSUE = "tissue"


@dataclass(frozen=True, slots=True)
class Area:
    """An area of interest, by the file that says it, or the tissue of the slide itself.

    Parameters
    ----------
    path
        Absolute path of the file; "tissue" for tissue.
    form
        Polygons, or a raster mask: inside is what is valid and not 0; or tissue.
    layer
        The layer of polygons that is meant; None for the others.
    digest
        Of everything that decides which pixels are inside.

    """

    path: str
    form: Form
    layer: str | None
    digest: str

    def identity(self) -> dict[str, Any]:
        """What of it decides pixels; plain data for JSON."""
        return {"digest": self.digest, "layer": self.layer}

    def asked(self) -> str | dict[str, str | None]:
        """What a job says to mean it."""
        return TISSUE if self.form is Form.TISSUE else {"file": self.path, "layer": self.layer}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Inside(Protocol):
    """What can say of any rectangle which of its pixels are inside an area."""

    def inside(self, rect: Rect) -> NDArray[np.bool_] | bool:
        """Which pixels of a rectangle are inside, (row, col); True or False where all or none are.

        The rectangle lies within the scene. Raises BlockError where the file cannot be read.
        """


class Fence(Inside, Protocol):
    """An area, opened and laid over one scene's pixels."""

    @property
    def extent(self) -> Rect:
        """The smallest rectangle known to hold everything inside, clipped to the scene."""

    @property
    def held(self) -> int:
        """Bytes that it holds in memory."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how it was understood."""

    @property
    def whereabouts(self) -> str:
        """Where the area lies, for a sentence."""

    def touches(self, rect: Rect) -> bool:
        """Whether a pixel of a rectangle may be inside; cheap, and false only where none is."""


def area_of(said: str | AreaEntry, scene: Scene) -> Area:
    """The area that a job names, over a scene. Raises as `find_area` does, BlockError where tissue cannot be read."""
    from pipeline.raster import tissue  # noqa: PLC0415  # it knows what is defined here

    return tissue.find(scene) if said == TISSUE else find_area(said)


def find_area(said: str | AreaEntry) -> Area:
    """Look at the file that a job names: what it is, its layer, its digest. `FILE:layer` chooses one of several layers.

    Raises SettingsError for what is no area: no such file, an address, a format that is not read, several layers of
    which none is chosen, no polygon.
    """
    from pipeline.raster import areamask, polygons  # noqa: PLC0415  # they know what is defined here

    path, layer = _place(said)
    if polygons.format_of(path):
        return polygons.find(path, layer)
    if layer is not None:
        raise SettingsError(f"The area {path} has no layers to choose `{layer}` from: it is no vector file.")
    return areamask.find(path)


def open_area(area: Area, scene: Scene) -> Fence:
    """Lay an area over a scene.

    Raises SettingsError where the file has changed since `find_area`, SceneError where the two have no place in common
    to be laid by.
    """
    from pipeline.raster import areamask, polygons, tissue  # noqa: PLC0415

    if area.form is Form.TISSUE:
        return tissue.lay(area, scene)
    fence = polygons.lay(area, scene) if area.form is Form.VECTOR else areamask.lay(area, scene)
    now = find_area(AreaEntry(file=area.path, layer=area.layer)).digest
    if now != area.digest:
        raise SettingsError(
            f"The area {area.path} has changed since the run was planned: {now[:12]} now, {area.digest[:12]} then. "
            "Put the old file back, or run with --overwrite."
        )
    return fence


def demand_met(area: Area, fence: Fence, scene: Scene) -> None:
    """Raise SceneError where no pixel of the scene is inside."""
    seen = fence.extent
    for top in range(seen.top, seen.bottom, PIECE):
        for left in range(seen.left, seen.right, PIECE):
            part = Rect(top, left, top + PIECE, left + PIECE).intersect(seen)
            if fence.touches(part) and np.any(fence.inside(part)):
                return
    raise SceneError(
        f"No pixel of {scene.shown} has its centre inside the area {area.path}: {fence.whereabouts}. "
        "Take another --aoi, or leave this scene out."
    )


def _place(said: str | AreaEntry) -> tuple[Path, str | None]:
    """(the file, the layer that is named)."""
    name, layer = (said, None) if isinstance(said, str) else (said.file, said.layer)
    if layer is None and not os.path.isfile(name) and ":" in name:  # noqa: PTH113
        # ^ Path.is_file raises for names that are too long or hold a NUL
        name, layer = name.rsplit(":", 1)
    if "://" in str(said) or name.startswith("/vsi"):
        raise SettingsError(f"The area {said} is an address; areas are read from local files only: copy it here first.")
    if not os.path.isfile(name):  # noqa: PTH113
        what = "is not a file" if os.path.exists(name) else "does not exist"  # noqa: PTH110
        raise SettingsError(f"The area {name!r} {what}: check the path that --aoi names.")
    return Path(os.path.abspath(name)), layer  # noqa: PTH100  # resolve() would follow a link away from its sidecars
