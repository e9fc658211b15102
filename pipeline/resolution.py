"""At which resolution the network sees a scene: the zoom, pixels of the view to a pixel of the scene."""

from __future__ import annotations

from fractions import Fraction

from pipeline.errors import SceneError, SettingsError
from pipeline.network.card import Card
from pipeline.raster.source import Scene
from pipeline.settings import Job

ALIKE = 1.25  # resolutions within this factor are taken for the same: networks are trained on more variety than that
FARTHEST = 4.0  # beyond this factor the numbers are likelier wrong than the scene worth resampling
_FINEST_STEP = 100  # the zoom is a fraction with at most this below its bar: 1 % of 1 %


def zoom_of(job: Job, card: Card, scene: Scene) -> tuple[Fraction, str | None]:
    """(pixels of the view to a pixel of the scene, what the user should know of it or None).

    Where the job says nothing, a scene whose resolution differs from the model's by a factor of 1.25 to 4 is brought
    to it; by less, or where one of them is unknown, it is taken as it is. Raises SceneError for a larger factor,
    SettingsError where the job asks for what cannot be computed.
    """
    there, wanted = scene.resolution_m, _wanted(job, card)
    if wanted is None:
        return Fraction(1), None
    if there is None:
        if job.resolution is None:
            return Fraction(1), f"The scene's resolution is unknown; the model was trained at {wanted:g} m per pixel."
        raise SettingsError(
            f"`resolution` cannot be {job.resolution}: the scene {scene.name} does not say how large its pixels are. "
            "Say --resolution scene."
        )
    factor = there / wanted
    if job.resolution is None and max(factor, 1 / factor) > FARTHEST:
        raise SceneError(
            f"The scene {scene.name} has {there:g} m per pixel and the model was trained at {wanted:g} m, "
            f"{max(factor, 1 / factor):.3g} times {'coarser' if factor > 1 else 'finer'}. Say --resolution model to "
            f"resample it all the same, scene to take it as it is, or the metres per pixel that the network is to see."
        )
    if job.resolution is None and max(factor, 1 / factor) < ALIKE:
        return Fraction(1), None
    zoom = Fraction(factor).limit_denominator(_FINEST_STEP) or Fraction(1, round(1 / factor))
    if zoom == 1:
        return zoom, None
    return zoom, f"The network sees {wanted:g} m per pixel; the scene has {there:g} m, and so has the mask."


def _wanted(job: Job, card: Card) -> float | None:
    """Metres per pixel that the network is to see; None: whatever the scene has."""
    if job.resolution == "scene":
        return None
    if isinstance(job.resolution, float):
        return job.resolution
    if card.resolution is None and job.resolution == "model":
        raise SettingsError(
            "`resolution` cannot be model: the card does not say at what resolution the network was trained. Say "
            "`resolution:` in the card, or the metres per pixel in the job."
        )
    return card.resolution
