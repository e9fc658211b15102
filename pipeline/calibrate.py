"""From a scene's raw pixels to what a card's scaling is made of: the scene's own calibration, and its statistics."""

from __future__ import annotations

from pipeline.network.card import Card
from pipeline.network.scaling import OverScene, Percentile, Statistics
from pipeline.raster.percentiles import percentiles
from pipeline.raster.source import Scene
from pipeline.raster.statistics import statistics

Affine = tuple[tuple[float, ...], tuple[float, ...]]
"""Shift and factor, one number for each band: scaled = (raw − shift) × factor."""


def affine_of(card: Card, scene: Scene) -> Affine:
    """The numbers that a scene's pixels are scaled by. Reads the scene where the scaling is over it."""
    found = card.affine(_statistics(card, scene))
    shift, factor = (tuple(float(number) for number in numbers) for numbers in found)
    return shift, factor


def _statistics(card: Card, scene: Scene) -> Statistics | None:
    """What the scaling asks of the raw pixels."""
    scaling = card.scaling
    if isinstance(scaling, Percentile):
        return percentiles(scene, scaling.parts(card.gain), joint=scaling.joint)
    return statistics(scene, joint=scaling.joint) if isinstance(scaling, OverScene) else None
