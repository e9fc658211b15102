"""How a pixel's number becomes what the network was trained on. One kind per formula, told apart by `kind`.

A pixel is first made physical by the card (raw × gain + offset); a scaling then says, band by band, a shift and a
divisor: scaled = (physical − shift) / divisor. Nothing here depends on a scene, but for `scene`, whose two numbers are
the mean and the standard deviation over the scene's valid pixels.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.errors import SceneError

Statistics = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(mean, standard deviation) of each band, each of shape (B,)."""


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


class SceneStatistics(_Kind):
    """Zero mean and unit variance over the scene, band by band.

    A band that is constant over the scene has a standard deviation of 0; it is divided by 1, so that it becomes 0.
    """

    kind: Literal["scene"] = "scene"

    def shift_and_divisor(self, statistics: Statistics | None) -> Statistics:
        """Give the scene's mean and standard deviation. Raises SceneError where they are not finite."""
        if statistics is None:
            raise ValueError("a scaling over the scene needs the scene's statistics")
        mean, std = (np.asarray(numbers, np.float64) for numbers in statistics)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise SceneError(
                f"The scene's statistics are not finite (mean {mean.tolist()}, standard deviation {std.tolist()}): it "
                "holds infinite values, which must be declared as nodata before the card can scale by them."
            )
        return mean, np.where(std > 0, std, 1.0)


def _kind_alone(value: object) -> object:
    """Let `none` and `scene` stand for a mapping that says the kind alone."""
    return {"kind": value} if isinstance(value, str) else value


Scaling = Annotated[
    Annotated[Unscaled | Constant | MeanStd | MinMax | SceneStatistics, Field(discriminator="kind")],
    BeforeValidator(_kind_alone),
]
