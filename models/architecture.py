"""Which network: a short text, as flags and checkpoints say it, and the module that it stands for.

`unet`, `unet?widths=16,32,64&norm=batch`, `smp:DeepLabV3Plus?encoder=resnet50`: what it is, then its options. A class
of segmentation_models_pytorch is taken by its name, and its options are that class's own arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

Norm = Literal["none", "batch"]
Rise = Literal["transposed", "nearest"]

_NAME = re.compile(r"unet|smp:[A-Za-z_][A-Za-z0-9_]*")
_WHOLE, _NUMBER = re.compile(r"[0-9]+"), re.compile(r"-?[0-9]*\.?[0-9]+")
_WORDS = {"true": True, "false": False, "none": None}
_INSTALL = "pip install segmentation-models-pytorch"
_FIXED = {"encoder_weights", "in_channels", "classes", "activation"}  # what `build` says, and what the card does


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of network and its options, as text; what they mean is looked at when it is made of a text."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, text: str) -> Architecture:
        """Read `NAME?key=value&key=value`. Raises SettingsError in a sentence. Needs no torch."""
        name, _, rest = text.strip().partition("?")
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"There is no architecture {text!r}: say unet, unet?widths=16,32,64&norm=batch, or a class of "
                "segmentation_models_pytorch, such as smp:DeepLabV3Plus?encoder=resnet50."
            )
        options: dict[str, str] = {}
        for part in rest.split("&") if rest else ():
            key, equals, value = part.partition("=")
            if not (key and equals and value) or key in options:
                raise SettingsError(f"The architecture {text!r} says {part!r}: say each option once, as key=value.")
            options[key] = value
        made = cls(name, tuple(options.items()))
        made.arguments()
        return made

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}?{options}" if options else self.name

    @property
    def foreign(self) -> bool:
        """Whether it is a class of segmentation_models_pytorch."""
        return self.name.startswith("smp:")

    def arguments(self) -> dict[str, Any]:
        """Give the options as what the network's class takes. Raises SettingsError for one that cannot be."""
        if self.foreign:
            return dict(self._foreign_argument(key, value) for key, value in self.options)
        read: Mapping[str, Callable[[str], object]] = {"widths": _widths, "norm": _one_of(Norm), "rise": _one_of(Rise)}
        said: dict[str, Any] = {}
        for key, value in self.options:
            if key not in read:
                raise SettingsError(f"The architecture {self} has no option {key}; a unet has {', '.join(read)}.")
            try:
                said[key] = read[key](value)
            except ValueError as error:
                raise SettingsError(f"The architecture {self} says {key}={value}: {error}.") from None
        return said

    def _foreign_argument(self, key: str, value: str) -> tuple[str, object]:
        key = {"encoder": "encoder_name"}.get(key, key)
        if key in _FIXED:
            raise SettingsError(
                f"The architecture {self} says {key}, which the data and flags decide: leave it out. Pretrained "
                "weights come from a file that you name."
            )
        return key, _understood(value)

    def build(self, bands: int, outputs: int) -> nn.Module:
        """Make the network, float32 (N, bands, rows, cols) → logits (N, outputs, rows, cols); nothing is fetched.

        Its first weights are random, by torch's generator. Raises SettingsError where segmentation_models_pytorch is
        not installed, has no such class, or refuses an option.
        """
        if self.foreign:
            return self._foreign(bands, outputs)
        from models.unet import UNet  # noqa: PLC0415  # torch takes seconds, and reading a text needs none

        return UNet(bands, outputs, **self.arguments())

    def _foreign(self, bands: int, outputs: int) -> nn.Module:
        try:
            import segmentation_models_pytorch as smp  # noqa: PLC0415  # an extra, and heavier than torch
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"The architecture {self} needs segmentation_models_pytorch, and {error.name} is not installed: "
                f"{_INSTALL}."
            ) from None
        name = self.name.removeprefix("smp:")
        kind = getattr(smp, name, None)
        if not (isinstance(kind, type) and issubclass(kind, smp.base.SegmentationModel)):
            there = sorted(
                key
                for key, value in vars(smp).items()
                if isinstance(value, type) and issubclass(value, smp.base.SegmentationModel)
            )
            raise SettingsError(f"segmentation_models_pytorch has no network {name}; it has {', '.join(there)}.")
        try:
            built: nn.Module = kind(in_channels=bands, classes=outputs, encoder_weights=None, **self.arguments())
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise SettingsError(f"segmentation_models_pytorch cannot make {self}: {reason}") from None
        return built


def stride_of(network: nn.Module) -> int:
    """How many pixels a side of the input must be a multiple of.

    Of a network of segmentation_models_pytorch its encoder knows; 1 where nobody says.
    """
    own = getattr(network, "stride", None)
    return int(own if own is not None else getattr(getattr(network, "encoder", None), "output_stride", 1))


def _widths(value: str) -> tuple[int, ...]:
    parts = value.split(",")
    if len(parts) < 2 or not all(_WHOLE.fullmatch(part) and int(part) > 0 for part in parts):
        raise ValueError("widths are the channels of at least two levels, such as 16,32,64")
    return tuple(int(part) for part in parts)


def _one_of(kind: object) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in get_args(kind):
            raise ValueError(f"it is one of {', '.join(get_args(kind))}")
        return value

    return read


def _understood(value: str) -> object:
    """A number, a truth value, a list of such, else the text itself."""
    if "," in value:
        return tuple(_understood(part) for part in value.split(","))
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if _WHOLE.fullmatch(value):
        return int(value)
    return float(value) if _NUMBER.fullmatch(value) else value
