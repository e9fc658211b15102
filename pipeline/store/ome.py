"""A mask as an OME-Zarr 0.5 image-label: what viewers of microscopy look for at the root of a Zarr.

The specification (ngff.openmicroscopy.org/0.5) lets a multiscale image name its levels by any path in the group, so the
mask's own arrays are its levels, `mask`, `1/mask`, `2/mask`, …, and nothing is written twice. Its transforms take the
centre of an array's first pixel for the origin; pixels of coarser levels have their centres further in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

VERSION = "0.5"
UNIT = "micrometer"  # as UDUNITS-2 spells it, which the specification asks for

Legend = Sequence[tuple[int, str, str]]  # (value, name, "#rrggbb")


def image_label(paths: Sequence[str], side: tuple[float, float] | None, legend: Legend) -> dict[str, Any]:
    """The attribute `ome` of a mask's group.

    Parameters
    ----------
    paths
        The array of each level, the finest first; each has pixels twice as long as the one before it.
    side
        Micrometres in a pixel of the finest, (down, across); None where nobody knows: then the unit is the pixel.
    legend
        What the values mean. All others, the statuses among them, have no colour.

    """
    unit = {"unit": UNIT} if side else {}
    return {
        "version": VERSION,
        "multiscales": [
            {
                "name": paths[0],
                "axes": [{"name": name, "type": "space", **unit} for name in ("y", "x")],
                "datasets": [_dataset(path, side or (1.0, 1.0), 2**level) for level, path in enumerate(paths)],
                "type": "mode",
            }
        ],
        "image-label": {
            "version": VERSION,
            "colors": [
                {"label-value": value, "rgba": [*bytes.fromhex(colour[1:]), 255]} for value, _, colour in legend
            ],
            "properties": [{"label-value": value, "class": name} for value, name, _ in legend],
        },
    }


def _rgb(colour: str) -> bytes:
    return bytes.fromhex(colour.removeprefix("#"))


def _dataset(path: str, side: tuple[float, float], times: int) -> dict[str, Any]:
    scale = {"type": "scale", "scale": [part * times for part in side]}
    shift = {"type": "translation", "translation": [part * (times - 1) / 2 for part in side]}
    return {"path": path, "coordinateTransformations": [scale, shift]}
