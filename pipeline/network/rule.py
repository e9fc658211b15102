"""From what a network says to a class: one rule, in numpy here and as nodes in the fused graph.

softmax: the class of the largest channel, the lowest index where several are equally large. sigmoid: the largest
channel's class (the lowest where equal), the first class standing for "none" where that channel stays below the card's
threshold; with a band for each channel, 1 where the channel does not stay below it. The rule looks at what the network
says itself: logits are compared as they are (the threshold moves to log(t / (1 − t))), so that no rounding of an
exponential decides a pixel. Values are no classes: the mask is 0 wherever there are some.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.network.card import Card
from pipeline.settings import STEPS


def cut(card: Card, says: str) -> np.float32 | None:
    """Give the least value of a class's channel where the network says `says`; None where the largest always wins."""
    if card.activation != "sigmoid":
        return None
    return np.float32(card.threshold if says == "probabilities" else np.log(card.threshold / (1 - card.threshold)))


def classes_of(said: NDArray[np.floating[Any]], card: Card, says: str = "probabilities") -> NDArray[np.unsignedinteger]:
    """Make a mask of what the network says, (channel, row, col).

    Returns the classes' values (row, col), or 0 and 1 (channel, row, col) where the mask has a band for each; 0 where
    the network says values. Of the card's `mask_dtype`.
    """
    if card.says == "values":
        return np.zeros(said.shape[-2:], card.mask_dtype)
    least = cut(card, says)
    if least is not None and card.layered:
        return (said >= least).astype(card.mask_dtype)
    index = said.argmax(axis=0)
    if least is not None:
        index = np.where(said.max(axis=0) < least, 0, index + 1)
    chosen: NDArray[np.unsignedinteger] = np.array(card.values, card.mask_dtype)[index]
    return chosen


def confidence_of(probabilities: NDArray[np.float32], card: Card) -> NDArray[np.float32]:
    """Give the probability (row, col) of the class that is chosen from probabilities (channel, row, col).

    With sigmoid, that of the first class is what the largest channel leaves. Where the mask has a band for each
    channel, the least over the bands of what each says, 0 or 1.
    """
    least = cut(card, "probabilities")
    if least is not None and card.layered:
        by_band = np.where(probabilities < least, np.float32(1) - probabilities, probabilities)
        least_certain: NDArray[np.float32] = by_band.min(axis=0)
        return least_certain
    best: NDArray[np.float32] = probabilities.max(axis=0)
    return best if least is None else np.where(best < least, np.float32(1) - best, best)


def unit(references: Iterable[NDArray[np.float32]], card: Card) -> float:
    """Give what differences between answers are measured in: 1 for probabilities, for values the range that they span.

    `references` are the answers that others are compared with, in pieces.
    """
    if card.says != "values":
        return 1.0
    pieces = [piece for piece in references if piece.size]
    span = max(float(piece.max()) for piece in pieces) - min(float(piece.min()) for piece in pieces) if pieces else 0.0
    return span or 1.0


def quantised(part: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round parts of 1 to steps of 1/250, halves upwards; what lies beyond 0 and 1 is taken as those."""
    steps = np.clip(part, 0, 1).astype(np.float32) * np.float32(STEPS) + np.float32(0.5)
    return steps.astype(np.uint8)
