"""Steps that other programs take before the network, folded into one scaling of a card.

Fixed steps are affine (value × factor + add) and compose; one step may take statistics of the image, and one may clip.
What comes in another order than a card can say (statistics of what was clipped, numbers after statistics) is refused
by name: a step that was left out would change pixels without a word.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EPSILON = 1e-4  # what is smaller protects a division from zero, and no more


class StepError(Exception):
    """A step, or its place in the order, that no card can express; the message ends a sentence."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the steps so far come to. `factor` and `add` have shape (1,) or (B,)."""

    factor: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))
    add: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    statistics: dict[str, Any] | None = None
    clip: tuple[float, float] | None = None

    def times(self, factor: list[float], add: list[float], name: str) -> Steps:
        """value × factor + add, one number each for all bands or for each band."""
        by, plus = np.asarray(factor, np.float64), np.asarray(add, np.float64)
        if self.statistics is not None:
            raise StepError(f"`{name}` after statistics of the image")
        if self.clip is not None and (by.size > 1 or plus.size > 1 or by[0] <= 0):
            raise StepError(f"`{name}` by band, or by a negative factor, after `clip`")
        clip = self.clip and (self.clip[0] * by[0] + plus[0], self.clip[1] * by[0] + plus[0])
        return replace(self, factor=self.factor * by, add=self.add * by + plus, clip=clip)

    def standardised(self, mean: list[float], deviation: list[float], name: str) -> Steps:
        """(value − mean) / deviation."""
        if min(deviation) <= 0:
            raise StepError(f"`{name}` with a standard deviation of {min(deviation)}")
        by = 1 / np.asarray(deviation, np.float64)
        return self.times(by.tolist(), (-np.asarray(mean, np.float64) * by).tolist(), name)

    def over_the_image(self, statistics: dict[str, Any], name: str, epsilon: float) -> Steps:
        """Statistics of what came before, `epsilon` added to the divisor; positive factors before them cancel out."""
        if self.statistics is not None or self.clip is not None:
            raise StepError(f"`{name}` after {'other statistics' if self.clip is None else '`clip`'}")
        apart = np.ptp(self.factor) > 0
        if (self.factor <= 0).any() or (statistics.get("joint") and (apart or np.ptp(self.add) > 0)):
            raise StepError(f"`{name}` of numbers that were scaled by band or by a negative factor before")
        if epsilon < 0 or (apart and epsilon > _EPSILON):
            raise StepError(f"`{name}` with eps {epsilon}")
        if not apart and epsilon > 0:
            statistics = statistics | {"eps": float(epsilon / self.factor[0])}
        return replace(self, factor=np.ones(1), add=np.zeros(1), statistics=statistics)

    def clipped(self, low: float | None, high: float | None) -> Steps:
        """Bounds on what came before; None for no bound."""
        least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
        if self.clip is not None:
            least, most = max(least, self.clip[0]), min(most, self.clip[1])
        if not least < most:
            raise StepError(f"`clip` to {least} and {most}")
        return replace(self, clip=(float(least), float(most)))

    def entries(self) -> dict[str, Any]:
        """As entries of a card: `scaling`, and `clip` where there are bounds."""
        scaling = self.statistics or self._affine()
        if self.clip is None or self.clip == (-np.inf, np.inf):
            return {"scaling": scaling}
        if not np.isfinite(self.clip).all():
            raise StepError("`clip` to one side alone")
        return {"scaling": scaling, "clip": list(self.clip)}

    def _affine(self) -> dict[str, Any]:
        factor, add = np.broadcast_arrays(self.factor, self.add)
        if (factor <= 0).any():
            raise StepError("a scaling by a factor that is not above 0")
        if not add.any() and np.ptp(factor) == 0:
            return {"kind": "none"} if factor[0] == 1 else {"kind": "constant", "divide_by": float(1 / factor[0])}
        return {"kind": "mean_std", "mean": (-add / factor).tolist(), "std": (1 / factor).tolist()}
