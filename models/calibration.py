"""Which threshold of a sigmoid's probabilities gives the best score, out of histograms that are filled piece by piece.

Probabilities are stored in steps of 1/250, halves rounded upwards, so a pixel is at step k or above exactly where its
probability reaches (k − 0.5) / 250: that is the threshold which is proposed, and a run with it gives the score that is
foretold. A threshold fits the data that it was chosen on: its score has to be taken on other data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from models.evaluate import ratio
from models.masks import Mask
from models.meaning import Meaning
from models.scoring import pieces
from models.truth import Truth
from pipeline.errors import SettingsError
from pipeline.raster.access import environment, open_file
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.settings import STEPS

Maximised = Literal["f1", "iou"]
CAUTION = (
    "The threshold fits the data that it was chosen on: choose it on validation data, and take the score from test "
    "data that neither training nor this has seen."
)


class Calibration:
    """Histograms of probabilities, int64 (channel, 0 or 1, step): pixels of another class, and of the channel's own."""

    def __init__(self, maximise: Maximised) -> None:
        self.maximise = maximise
        self.threshold = 0.5  # of the masks
        self._names: tuple[str, ...] = ()
        self._counts = np.zeros((0, 2, STEPS + 1), np.int64)

    def take_in(self, mask: Mask, truth: Truth, meaning: Meaning) -> None:
        """Add the pixels of a scene, of which probabilities.tif lies beside its mask.

        Raises SettingsError where it does not, or where its classes were not chosen by a threshold.
        """
        path = mask.path.with_name("probabilities.tif")
        if not path.is_file():
            raise SettingsError(f"{path} is missing, which calibration needs: run with --products probabilities.")
        with environment(), open_file(path) as file:
            self.threshold = _threshold(file, mask)
        scene = open_scene(str(path), None, mask.scene.name)
        if not self._names:
            self._names = tuple(one.name for one in mask.classes[1:])
            self._counts = np.zeros((len(self._names), 2, STEPS + 1), np.int64)
        with Reader(scene) as reader:
            for piece in pieces(scene.rect):
                self.count(reader.read(piece)[0], truth.read(piece), len(meaning.classes), mask.layered)

    def count(self, steps: NDArray[np.uint8], real: NDArray[np.int32], classes: int, layered: bool) -> None:
        """Add pixels: steps (channel, row, col), truth (row, col). Unless `layered`, the largest channel counts."""
        known = (real < classes) & (steps <= STEPS).all(axis=0)
        best = steps.argmax(axis=0)
        for channel, part in enumerate(steps):
            said = part if layered else np.where(best == channel, part, 0)
            at = (real[known] == channel + 1) * (STEPS + 1) + said[known].astype(np.int64)
            self._counts[channel] += np.bincount(at, minlength=2 * (STEPS + 1)).reshape(2, STEPS + 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the threshold that gives the best mean over the classes, and the line for the card."""
        scores = self._scores()
        there = [bool(np.isfinite(one).any()) for one in scores]
        if not any(there):
            raise SettingsError("No class occurs in the labels or in the masks: there is nothing to calibrate on.")
        mean = scores[there].mean(axis=0)
        step = _best(mean)
        return {
            "maximised": self.maximise,
            "threshold": _at(step),
            "score": float(mean[step]),
            "threshold_now": self.threshold,
            "classes": [
                {"class": name, "threshold": _at(_best(one)), "score": float(one[_best(one)])}
                for name, one, known in zip(self._names, scores, there, strict=True)
                if known
            ],
            "card": f"threshold: {_at(step)}",
            "caution": CAUTION,
        }

    def _scores(self) -> NDArray[np.float64]:
        """The score (channel, step) where a pixel is of the class from this step on; nan for step 0, which none is."""
        above = self._counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
        false, right = above[:, 0], above[:, 1]
        missed = right[:, :1] - right
        weight = 2 if self.maximise == "f1" else 1
        scores = ratio(weight * right, weight * right + false + missed)
        scores[:, 0] = np.nan
        return np.where(right[:, :1] > 0, scores, np.nan)


def _best(scores: NDArray[np.float64]) -> int:
    """The step of the highest score; of several, the one in the middle of the first that are beside each other."""
    top = np.flatnonzero(scores == np.nanmax(scores))
    run = top[: int(np.argmax(np.diff(top, append=top[-1] + 2) > 1)) + 1]
    return int(run[len(run) // 2])


def _at(step: int) -> float:
    """The least probability that is stored as this step."""
    return round((step - 0.5) / STEPS, 6)


def _threshold(file: DatasetReader, mask: Mask) -> float:
    """The threshold that a mask was made by."""
    with suppress(KeyError, ValueError, TypeError):
        card: Mapping[str, Any] = json.loads(file.tags()["MASKMILL_IDENTITY"])["card"]
        if card["activation"] == "sigmoid" and file.count == len(mask.classes) - 1:
            return float(card["threshold"])
    raise SettingsError(
        f"{file.name}: a threshold is calibrated for sigmoid alone, and these classes are chosen otherwise."
    )
