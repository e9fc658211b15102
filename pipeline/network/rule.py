"""From what a network says to a class: one rule, in numpy here and as nodes in the fused graph.

softmax: the class of the largest channel, the lowest index where several are equally large. sigmoid: the largest
channel's class (the lowest where equal), the first class standing for "none" where that channel stays below the card's
threshold. The rule looks at what the network says itself: logits are compared as they are (the threshold moves to
log(t / (1 − t))), so that no rounding of an exponential decides a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.network.card import Card
from pipeline.settings import STEPS


def cut(card: Card, says: str) -> np.float32 | None:
    """Give the least value of a class's channel where the network says `says`; None where the largest always wins."""
    if card.activation == "softmax":
        return None
    return np.float32(card.threshold if says == "probabilities" else np.log(card.threshold / (1 - card.threshold)))


def classes_of(said: NDArray[np.floating[Any]], card: Card, says: str = "probabilities") -> NDArray[np.uint8]:
    """Choose the classes' values (row, col) from (channel, row, col) of what the network says."""
    least = cut(card, says)
    index = said.argmax(axis=0)
    if least is not None:
        index = np.where(said.max(axis=0) < least, 0, index + 1)
    chosen: NDArray[np.uint8] = np.array(card.values, np.uint8)[index]
    return chosen


def confidence_of(probabilities: NDArray[np.float32], card: Card) -> NDArray[np.float32]:
    """Give the probability (row, col) of the class that is chosen from probabilities (channel, row, col).

    With sigmoid, that of the first class is what the largest channel leaves.
    """
    best: NDArray[np.float32] = probabilities.max(axis=0)
    least = cut(card, "probabilities")
    return best if least is None else np.where(best < least, np.float32(1) - best, best)


def quantised(part: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round parts of 1 to steps of 1/250, halves upwards; what lies beyond 0 and 1 is taken as those."""
    steps = np.clip(part, 0, 1).astype(np.float32) * np.float32(STEPS) + np.float32(0.5)
    return steps.astype(np.uint8)
