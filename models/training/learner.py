"""The network while it learns: a step, an epoch, a look at what is held out, and all that a resumed training needs.

The same recipe on the same data gives the same weights on one machine: every random number comes from the seed and the
epoch, and torch keeps to algorithms that repeat. What it looks at by chance (dropout) is seeded anew each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.architecture import Architecture, stride_of
from models.crops import IGNORED
from models.evaluate import Matrix, confusion
from models.training.batches import Batch
from models.training.losses import loss_of
from models.training.recipe import Recipe
from pipeline.errors import DeviceError, ModelError, SettingsError
from pipeline.network.card import Card

Heard = Callable[[int, float], None]
"""Told after each step how many were done, and the mean loss so far."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a set of windows came to."""

    loss: float
    matrix: Matrix


class Learner:
    """A network, its optimiser and its loss. Raises DeviceError where `cuda` is asked for and not there."""

    def __init__(self, recipe: Recipe, card: Card, weights: tuple[float, ...]) -> None:
        self._recipe, self._classes, self._threshold = recipe, len(card.classes), card.threshold
        _repeatable(recipe)
        self._device = torch.device(recipe.device)
        torch.manual_seed(recipe.seed)
        self.network = Architecture.of(recipe.architecture).build(len(card.bands), card.channels)
        self._demand_window()
        self.network.to(self._device)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.rate)
        of_each = torch.tensor(weights, dtype=torch.float32, device=self._device) if weights else None
        self._loss = loss_of(recipe.parts(self._classes), of_each)
        self._mixed = recipe.device == "cuda" and torch.cuda.is_bf16_supported()

    def begin_with(self, found: Mapping[str, Tensor]) -> list[str]:
        """Take over those weights whose names and shapes are the network's, or its encoder's; returns what is not.

        Raises ModelError where none is.
        """
        own = self.network.state_dict()
        taken = {}
        for name, tensor in found.items():
            for here in (name, f"encoder.{name}", name.removeprefix("module.")):
                if here in own and own[here].shape == tensor.shape:
                    taken[here] = tensor
        if not taken:
            raise ModelError(
                f"None of the {len(found)} weights of the file has a name and shape of {self._recipe.architecture}'s: "
                f"they are called {', '.join(list(found)[:3])}, and the network's {', '.join(list(own)[:3])}."
            )
        self.network.load_state_dict(own | taken)
        return sorted(set(own) - set(taken))

    def learn(self, batches: Iterator[Batch], epoch: int, heard: Heard) -> float:
        """Go through one epoch; returns the mean loss. Raises SettingsError where it is not finite any more."""
        torch.manual_seed(self._recipe.seed * 1_000_003 + epoch)
        self.network.train()
        total, count = 0.0, 0
        for pixels, truth in batches:
            logits, actual = self._answer(pixels, truth)
            found = self._loss(logits, actual)
            self._optimiser.zero_grad()
            torch.autograd.backward(found)
            self._optimiser.step()
            total, count = total + float(found.detach()), count + 1
            heard(count, total / count)
            if not np.isfinite(total):
                raise SettingsError(
                    f"The loss is no number any more in epoch {epoch}, step {count}: try a lower --rate than "
                    f"{self._recipe.rate:g}."
                )
        return total / max(count, 1)

    def look(self, batches: Iterator[Batch]) -> Seen:
        """Look at windows without learning: the mean loss over pixels that count, and the confusion matrix."""
        self.network.eval()
        matrix = np.zeros((self._classes, self._classes), np.int64)
        total, pixels_seen = 0.0, 0
        with torch.no_grad():
            for pixels, truth in batches:
                logits, actual = self._answer(pixels, truth)
                known = int((truth != IGNORED).sum())
                total, pixels_seen = total + float(self._loss(logits, actual)) * known, pixels_seen + known
                matrix += confusion(truth, self._chosen(logits).cpu().numpy(), self._classes)
        return Seen(total / max(pixels_seen, 1), matrix)

    def weights(self) -> dict[str, Tensor]:
        """The network's state, on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that goes on: (tensors, what is no tensor)."""
        said = self._optimiser.state_dict()
        tensors = {f"network.{name}": tensor for name, tensor in self.weights().items()}
        for number, held in said["state"].items():
            tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in held.items()}
        return tensors, {"groups": said["param_groups"]}

    def restore(self, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises ModelError where it is another network's."""
        held: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, number, what = name.split(".", 2)
                held.setdefault(int(number), {})[what] = tensor
        own = {name.removeprefix("network."): each for name, each in tensors.items() if name.startswith("network.")}
        try:
            self.network.load_state_dict(own)
            self._optimiser.load_state_dict({"state": held, "param_groups": said["groups"]})
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"What is kept of the training does not suit the network: {reason}") from None

    def _answer(self, pixels: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """(logits in float32, truth), on the device. Raises SettingsError for a batch that the network cannot take."""
        seen = torch.from_numpy(pixels).to(self._device, memory_format=torch.channels_last)
        try:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
                logits = self.network(seen)
        except ValueError as error:  # batch norm over a single value
            raise SettingsError(f"The network cannot learn from {tuple(pixels.shape)}: {error}") from None
        except torch.OutOfMemoryError:
            raise SettingsError(
                f"A batch of {len(pixels)} windows of {pixels.shape[-1]} px does not fit the GPU: make --batch smaller."
            ) from None
        return logits.float(), torch.from_numpy(truth).to(self._device)

    def _chosen(self, logits: Tensor) -> Tensor:
        if logits.shape[1] > 1:
            return logits.argmax(1)
        return (logits[:, 0].sigmoid() >= self._threshold).long()

    def _demand_window(self) -> None:
        stride, window = stride_of(self.network), self._recipe.window
        if window % stride:
            raise SettingsError(
                f"`--window` cannot be {window}: {self._recipe.architecture} wants a multiple of {stride} px, such as "
                f"{-(-window // stride) * stride}."
            )


def device_of(asked: str) -> str:
    """Which device `auto` is; raises DeviceError where `cuda` is asked for and torch has none."""
    if asked not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"`--device` cannot be '{asked}': it is auto, cpu or cuda.")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise DeviceError(
            "`--device cuda` is asked for, and torch finds no GPU here; say cpu, or install torch for one."
        )
    return "cuda" if there and asked != "cpu" else "cpu"


def _repeatable(recipe: Recipe) -> None:
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
