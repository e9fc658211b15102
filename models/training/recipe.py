"""What decides the weights that training finds, but for the data: one frozen value, which a resumed one repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.architecture import Architecture
from pipeline.errors import IdentityError, SettingsError

LOSSES = {"bce", "ce", "dice"}

_FREE = ("epochs", "patience", "device")
"""Of a recipe: what may change when training goes on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    architecture
        What `Architecture.of` reads.
    loss
        `bce`, `ce` or `dice`, or two of them with a plus between; `auto`: bce for two classes, ce for more.
    class_weights
        A positive number for each class; `balanced`: the inverse of its share of the pixels; empty: all alike.
    epochs, batch
        How often the data are gone through, and how many windows a step sees.
    window
        Side of what the network sees, px.
    rate
        Adam's learning rate.
    held_out
        The share of the images, or of the plots of large ones, that is never trained on.
    patience
        Epochs without a better mean IoU after which training ends; 0: never.
    augment
        Whether windows are flipped and turned, and their brightness and contrast changed.
    divide_by
        What pixels are divided by; 0: they are standardised by the mean and deviation of the training data.
    seed
        Of every random number.
    device
        `cpu` or `cuda`.
    threads
        torch's threads: sums depend on how they are split.
    weights
        Digest of the file whose weights training began with; empty: none.

    Raises SettingsError, with the number, for one that cannot be.

    """

    architecture: str = "unet"
    loss: str = "auto"
    class_weights: tuple[float, ...] | str = ()
    epochs: int = 50
    batch: int = 16
    window: int = 256
    rate: float = 1e-3
    held_out: float = 0.2
    patience: int = 10
    augment: bool = True
    divide_by: float | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    weights: str = ""

    def __post_init__(self) -> None:
        Architecture.of(self.architecture)
        least = {"epochs": 1, "batch": 1, "window": 16, "patience": 0, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise SettingsError(f"`--{name}` cannot be {getattr(self, name)}: it is {low} or more.")
        if not 0 < self.rate < 1:
            raise SettingsError(f"`--rate` cannot be {self.rate:g}: it lies between 0 and 1, such as 0.001.")
        if not 0 < self.held_out <= 0.9:
            raise SettingsError(f"`--held-out` cannot be {self.held_out:g}: it is a share above 0, at most 0.9.")
        if self.loss != "auto" and not set(self.loss.split("+")) <= LOSSES:
            raise SettingsError(
                f"`--loss` cannot be '{self.loss}': it is auto, or of bce, ce and dice one or two by +."
            )
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            raise SettingsError(f"`--class-weights` cannot be '{self.class_weights}': it is 1,5 or balanced.")
        if not isinstance(self.class_weights, str) and any(not 0 < weight < 1e6 for weight in self.class_weights):
            raise SettingsError(f"`--class-weights` are positive numbers, not {list(self.class_weights)}.")

    def parts(self, classes: int) -> tuple[str, ...]:
        """The loss's parts for so many classes. Raises SettingsError where bce is to tell more than two apart."""
        said = ("bce" if classes == 2 else "ce") if self.loss == "auto" else self.loss
        parts = tuple(said.split("+"))
        if "bce" in parts and (classes != 2 or "ce" in parts):
            raise SettingsError(
                f"`--loss {self.loss}` does not suit {classes} classes: bce tells two apart, without ce."
            )
        return parts

    def on(self, device: str, threads: int) -> Recipe:
        """The same on a device, with so many threads of torch's."""
        return replace(self, device=device, threads=threads)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"class_weights": self.class_weights or None}

    def demand_same(self, before: Mapping[str, Any]) -> None:
        """Raise IdentityError, with both values, where training so far was done by another recipe."""
        for name, value in self.as_dict().items():
            was = tuple(before[name]) if isinstance(before.get(name), list) else before.get(name)
            if name not in _FREE and was != value:
                raise IdentityError(
                    f"The training in this folder began with {name.replace('_', ' ')} {was}, and {value} is asked "
                    "for: go on with the same, give another --out, or begin anew with --overwrite."
                )
