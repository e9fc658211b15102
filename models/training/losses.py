"""What training makes small: cross-entropy, binary cross-entropy, and what is missing to a Dice of 1, or sums of them.

logits are float32 (N, channels, rows, cols), one channel where two classes are told apart; truth is int64 (N, rows,
cols), IGNORED where nothing is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.crops import IGNORED

Loss = Callable[[Tensor, Tensor], Tensor]


def loss_of(parts: Sequence[str], weights: Tensor | None) -> Loss:
    """The sum of the parts named. `weights` has a number for each class."""
    kinds = {"ce": _cross_entropy, "bce": _binary, "dice": _dice}

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        return torch.stack([kinds[part](logits, truth, weights) for part in parts]).sum()

    return loss


def _cross_entropy(logits: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    """The weighted mean of −log p of the true class; 0 where nothing is learnt."""
    if not (truth != IGNORED).any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, truth, weights, ignore_index=IGNORED)


def _binary(logits: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    """Of one channel: cross-entropy of the second class against the first, the weighted mean."""
    learnt = truth != IGNORED
    actual = truth[learnt]
    each = functional.binary_cross_entropy_with_logits(logits[:, 0][learnt], actual.to(logits.dtype), reduction="none")
    of_each = weights[actual] if weights is not None else torch.ones_like(each)
    return (each * of_each).sum() / of_each.sum().clamp(min=1e-12)


def _dice(logits: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    """1 − 2 Σ p t / (Σ p + Σ t), the weighted mean of the classes that the batch shows; of one channel, of its class.

    Source: Milletari et al., V-Net (2016), section 3, with p and t in the denominator as they are, not squared.
    """
    learnt = truth != IGNORED
    single = logits.shape[1] == 1
    chances = logits.sigmoid() if single else logits.softmax(1)
    found = chances.movedim(1, -1)[learnt]
    actual = functional.one_hot(truth[learnt], 2 if single else logits.shape[1])[:, -found.shape[1] :].to(logits.dtype)
    missing = 1 - 2 * (found * actual).sum(0) / (found.sum(0) + actual.sum(0)).clamp(min=1e-12)
    of_each = (weights[-found.shape[1] :] if weights is not None else torch.ones_like(missing)) * (actual.sum(0) > 0)
    return (missing * of_each).sum() / of_each.sum().clamp(min=1e-12)
