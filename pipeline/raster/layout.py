"""Scenes that their makers deliver as folders of one file per band, told by the metadata that lies among them."""

from __future__ import annotations

from pathlib import Path

from pipeline.raster import landsat, safe
from pipeline.raster.delivery import Layout


def layout_of(place: Path) -> Layout | None:
    """Recognise a delivery by its folder, or by its metadata file; None where it is none that is known.

    Raises SceneError where it is one and its metadata cannot be read.
    """
    return landsat.layout(place) or safe.layout(place)
