"""How a pixel's number becomes what the network was trained on. One kind per formula, told apart by `kind`.

A pixel is first made physical by the card (raw × gain + offset); a scaling then says, band by band, a shift and a
divisor: scaled = (physical − shift) / divisor. Two kinds ask for statistics of the scene's valid pixels, `scene` (mean
and standard deviation) and `percentile`; `window` leaves the physical value to nodes of the graph, which take the
statistics of each window. `joint` means over all bands together; `eps` is added to the divisor, as some makers do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.errors import SceneError

Statistics = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Two numbers of each band, each of shape (B,): (mean, standard deviation), or a low and a high percentile."""


def listed(value: object) -> object:
    """Let one number stand for a list of one."""
    return (value,) if isinstance(value, int | float | str) else value


Numbers = Annotated[tuple[float, ...], BeforeValidator(listed), Field(min_length=1)]
"""One number for all bands, or one for each."""


class _Kind(BaseModel):
    """What all kinds share. Numbers are finite; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def counts(self) -> dict[str, int]:
        """How many numbers each list holds, by its key."""
        return {key: len(value) for key, value in self if isinstance(value, tuple)}

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:
        """Give (shift, divisor), each of shape (1,) or (B,), in the card's physical units."""
        raise NotImplementedError


class Unscaled(_Kind):
    """The physical value itself."""

    kind: Literal["none"] = "none"

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:  # noqa: ARG002  one signature for all
        """Give 0 and 1."""
        return np.zeros(1), np.ones(1)


class Constant(_Kind):
    """physical / divide_by."""

    kind: Literal["constant"] = "constant"
    divide_by: float = Field(gt=0)

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:  # noqa: ARG002  one signature for all
        """Give 0 and the constant."""
        return np.zeros(1), np.full(1, self.divide_by)


class MeanStd(_Kind):
    """(physical / divide_by − mean) / std; QGIS Deepness and torchvision divide by 255 first."""

    kind: Literal["mean_std"] = "mean_std"
    mean: Numbers
    std: Numbers
    divide_by: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _laws(self) -> MeanStd:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean holds {len(self.mean)} numbers and std {len(self.std)}; they must be as many")
        if min(self.std) <= 0:
            raise ValueError(f"std holds {min(self.std)}; a standard deviation is above 0")
        return self

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:  # noqa: ARG002  one signature for all
        """Give mean × divide_by and std × divide_by."""
        return np.asarray(self.mean) * self.divide_by, np.asarray(self.std) * self.divide_by


class MinMax(_Kind):
    """(physical − min) / (max − min): 0 at min, 1 at max, not clipped."""

    kind: Literal["min_max"] = "min_max"
    min: Numbers
    max: Numbers

    @model_validator(mode="after")
    def _laws(self) -> MinMax:
        if len(self.min) != len(self.max):
            raise ValueError(f"min holds {len(self.min)} numbers and max {len(self.max)}; they must be as many")
        for low, high in zip(self.min, self.max, strict=True):
            if not 0 < high - low < float("inf"):
                raise ValueError(f"min {low} and max {high} do not span a range; max must lie above min")
        return self

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:  # noqa: ARG002  one signature for all
        """Give min and max − min."""
        return np.asarray(self.min), np.asarray(self.max) - np.asarray(self.min)


class _Statistical(_Kind):
    """What is common to kinds that take statistics of pixels."""

    joint: bool = False
    eps: float = Field(default=0.0, ge=0)

    def identity(self, gain: tuple[float, ...]) -> dict[str, Any]:
        """What decides pixels, ready for JSON: without eps, gain and offset cancel out but for the sign."""
        return {**self.model_dump(), "gain": list(gain) if self.eps else np.sign(gain).tolist()}


class OverScene(_Statistical):
    """What is common to kinds that take statistics of the scene."""

    def physical(self, raw: Statistics, gain: NDArray[np.float64], offset: NDArray[np.float64]) -> Statistics:
        """Turn the statistics of raw pixels into those of gain × raw + offset."""
        raise NotImplementedError

    def _finite(self, statistics: Statistics | None) -> Statistics:
        if statistics is None:
            raise ValueError("a scaling over the scene needs the scene's statistics")
        first, second = (np.asarray(numbers, np.float64) for numbers in statistics)
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise SceneError(
                f"The scene's statistics are not finite ({first.tolist()} and {second.tolist()}): it holds infinite or "
                "huge values, which must be declared as nodata before the card can scale by them."
            )
        return first, second

    def _divisor(self, width: NDArray[np.float64]) -> NDArray[np.float64]:
        """A band of one value has no width: it is divided by 1 (or eps), so that it becomes 0."""
        return width + self.eps if self.eps else np.where(width > 0, width, 1.0)


class SceneStatistics(OverScene):
    """Zero mean and unit variance over the scene: (physical − mean) / (standard deviation + eps)."""

    kind: Literal["scene"] = "scene"

    def physical(self, raw: Statistics, gain: NDArray[np.float64], offset: NDArray[np.float64]) -> Statistics:
        """Turn mean and standard deviation of raw pixels into those of gain × raw + offset."""
        return raw[0] * gain + offset, raw[1] * np.abs(gain)

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:
        """Give the scene's mean and standard deviation. Raises SceneError where they are not finite."""
        mean, deviation = self._finite(statistics)
        return mean, self._divisor(deviation)


class Percentile(OverScene):
    """(physical − p_low) / (p_high − p_low + eps): 0 at the scene's low percentile, 1 at the high one, not clipped."""

    kind: Literal["percentile"] = "percentile"
    low: float = Field(default=1.0, ge=0, le=100)
    high: float = Field(default=99.0, ge=0, le=100)

    @model_validator(mode="after")
    def _laws(self) -> Percentile:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} and high {self.high} do not span a range; high must lie above low")
        return self

    def parts(self, gain: tuple[float, ...]) -> list[tuple[float, float]]:
        """Which percentiles of the raw pixels are needed, by band, the lower first; a negative gain turns them over."""
        return [(self.low, self.high) if each > 0 else (100 - self.high, 100 - self.low) for each in gain]

    def physical(self, raw: Statistics, gain: NDArray[np.float64], offset: NDArray[np.float64]) -> Statistics:
        """Turn percentiles of raw pixels into those of gain × raw + offset, the lower first."""
        ends = raw[0] * gain + offset, raw[1] * gain + offset
        return np.minimum(*ends), np.maximum(*ends)

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:
        """Give the low percentile and the distance to the high one. Raises SceneError where they are not finite."""
        low, high = self._finite(statistics)
        return low, self._divisor(high - low)


class WindowStatistics(_Statistical):
    """Zero mean and unit variance over each window's valid pixels, by nodes of the graph; windows are blended."""

    kind: Literal["window"] = "window"

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:  # noqa: ARG002  one signature for all
        """Give 0 and 1: the graph is given physical values."""
        return np.zeros(1), np.ones(1)


KINDS: dict[str, type[BaseModel]] = {
    "none": Unscaled,
    "constant": Constant,
    "mean_std": MeanStd,
    "min_max": MinMax,
    "scene": SceneStatistics,
    "percentile": Percentile,
    "window": WindowStatistics,
}


def _kind_alone(value: object) -> object:
    """Let `none`, `scene`, `window` or `percentile` stand for a mapping that says the kind alone."""
    return {"kind": value} if isinstance(value, str) else value


Scaling = Annotated[
    Annotated[
        Unscaled | Constant | MeanStd | MinMax | SceneStatistics | Percentile | WindowStatistics,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_kind_alone),
]
