"""Whether two forms of one network say the same of the same pixels: torch and ONNX, float32 and float16."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from pipeline.errors import ModelError
from pipeline.network.card import Card

CLOSE = 1e-4  # how far two answers may lie apart: a probability, or a part of the largest number that is said
AGREEMENT = 0.999  # of the pixels, as two precisions owe it each other
_VALUES_AGREE = 0.02  # of the range that values span

Pixels = NDArray[np.float32]
"""(n, bands, rows, cols), scaled as the network eats them."""

Said = NDArray[np.float32]
"""(n, channels, rows, cols), what a network answers."""

Speaker = Callable[[Pixels], Said]
"""A network, in whatever form."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How two answers compare.

    Parameters
    ----------
    on
        What was shown to both.
    pixels
        How many there were, over all images.
    worst
        The largest difference, over the largest number that the first says where that is above 1.
    flips
        Pixels that are another class; of values, those further apart than 0.02 of the range that they span.

    """

    on: str
    pixels: int
    worst: float
    flips: int

    @property
    def agreement(self) -> float:
        """The share of the pixels that are the same class."""
        return 1 - self.flips / self.pixels

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are told as text."""
        return asdict(self) | {"worst": self.worst if np.isfinite(self.worst) else str(self.worst)}

    def demand(self) -> None:
        """Raise ModelError, with the numbers, where the answers are further apart than rounding."""
        if self.worst <= CLOSE and self.agreement >= AGREEMENT:  # nan is not
            return
        raise ModelError(
            f"On {self.on}, ONNX Runtime's answer is {self.worst:g} from torch's; at most {CLOSE:g} is allowed. "
            f"{self.flips} of {self.pixels} pixels are another class; at most {1 - AGREEMENT:.1%} may be."
        )


def compared(one: Speaker, other: Speaker, batches: Iterable[Pixels], on: str, card: Card | None = None) -> Parity:
    """Show both the same batches, at least one. Without a card, the largest channel is a pixel's class."""
    worst, flips, count = 0.0, 0, 0
    for pixels in batches:
        ours, theirs = one(pixels), other(pixels)
        apart = np.abs(theirs - ours).max() / max(1.0, float(np.abs(ours).max()))
        worst = float(np.maximum(worst, apart))  # nan stays nan, unlike max
        differ = _differ(ours, theirs, card)
        flips, count = flips + int(differ.sum()), count + differ.size
    return Parity(on, count, worst, flips)


def session_of(model: ModelProto) -> onnxruntime.InferenceSession:
    """Start a model on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def speaker(model: ModelProto) -> Speaker:
    """An ONNX model of one input and one output, as ONNX Runtime runs it."""
    session = session_of(model)
    taken, given = session.get_inputs()[0].name, session.get_outputs()[0].name

    def say(pixels: Pixels) -> Said:
        answer: Said = session.run([given], {taken: pixels})[0]
        return answer

    return say


def _differ(ours: Said, theirs: Said, card: Card | None) -> NDArray[np.bool_]:
    """Which pixels are another class, (n, rows, cols)."""
    if card is not None and card.says == "values":
        apart = ~(np.abs(theirs - ours) <= _VALUES_AGREE * (float(np.ptp(ours)) or 1.0))
    else:
        apart = _classes(ours, card) != _classes(theirs, card)
    differ: NDArray[np.bool_] = np.any(apart, axis=1)
    return differ


def _classes(said: Said, card: Card | None) -> NDArray[np.int64]:
    """(n, bands of the mask, rows, cols): what is there. Of logits the largest wins, and one alone is there above 0."""
    if card is None or card.activation == "softmax":
        return said.argmax(axis=1, keepdims=True) if said.shape[1] > 1 else (said > 0).astype(np.int64)
    there = said >= (card.threshold if card.says == "probabilities" else np.log(card.threshold / (1 - card.threshold)))
    if not card.exclusive:
        return there.astype(np.int64)
    return np.where(there.any(axis=1, keepdims=True), said.argmax(axis=1, keepdims=True) + 1, 0)
