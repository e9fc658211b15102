"""From a scene's raw pixels to what a card's scaling is made of: the scene's own calibration, and its statistics."""

from __future__ import annotations

import numpy as np

from pipeline.errors import SceneError
from pipeline.network.card import Card
from pipeline.network.scaling import OverScene, Percentile, Statistics
from pipeline.raster.area import Inside
from pipeline.raster.percentiles import percentiles
from pipeline.raster.source import Scene
from pipeline.raster.statistics import statistics

Affine = tuple[tuple[float, ...], tuple[float, ...]]
"""Shift and factor, one number for each band: scaled = (raw − shift) × factor."""


def calibrated(card: Card, scene: Scene) -> Card:
    """The card with the scene's own gain and offset in place of the card's, where the network eats reflectance.

    Raises SceneError where a scene of integers has none and the card has none either.
    """
    if card.units != "reflectance":
        return card
    if scene.gain is not None and scene.offset is not None:
        own = {"gain": scene.gain, "offset": scene.offset}
        return Card.of(card.model_dump() | own, f"The reflectance of {scene.shown}")
    if np.dtype(scene.dtype).kind in "iu" and set(card.gain) == {1.0} and set(card.offset) == {0.0}:
        raise SceneError(
            f"{scene.shown}: the network eats reflectance, and what turns these {scene.dtype} numbers into it is said "
            "neither by the image nor by the card. Add to the job file, with the numbers of the image's maker: "
            "card: {gain: 0.0001, offset: 0}."
        )
    return card


def calibration_note(card: Card, scene: Scene) -> str | None:
    """What to tell the user of the scene's own gain and offset: that they count, or that they do not."""
    if scene.gain is None or scene.offset is None:
        return None
    told = ", ".join(
        sorted({f"{gain:g} × raw + {offset:g}" for gain, offset in zip(scene.gain, scene.offset, strict=True)})
    )
    if card.units == "reflectance":
        return f"Reflectance is made as the image's own metadata say: {told}."
    return (
        f"The image's metadata say what its numbers mean ({told}), and the card's scaling is of the raw numbers; it is "
        "of reflectance with `units: reflectance` in the card."
    )


def measured_note(card: Card, fence: Inside | None) -> str | None:
    """What to tell the user where the scaling is measured over less than the image."""
    if fence is None or not isinstance(card.scaling, OverScene | Percentile):
        return None
    return "What the model's scaling takes from the image is measured inside the area of interest."


def affine_of(card: Card, scene: Scene, fence: Inside | None = None) -> Affine:
    """The numbers that a scene's pixels are scaled by.

    Reads the scene where the scaling is over it; with a fence, what is inside. Raises BlockError where it cannot.
    """
    found = card.affine(_statistics(card, scene, fence))
    shift, factor = (tuple(float(number) for number in numbers) for numbers in found)
    return shift, factor


def _statistics(card: Card, scene: Scene, fence: Inside | None) -> Statistics | None:
    """What the scaling asks of the raw pixels."""
    scaling = card.scaling
    if isinstance(scaling, Percentile):
        return percentiles(scene, scaling.parts(card.gain), joint=scaling.joint, fence=fence)
    return statistics(scene, joint=scaling.joint, fence=fence) if isinstance(scaling, OverScene) else None
