"""What the readers of documents share: what they may look at of the graph, and what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.network.signature import Shape, Signature

CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3}
Entries = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """What a reader may know of the network: its signature, and the output that is to become the mask."""

    file: str  # the .onnx file's name
    seen: Signature
    output: str | None
    shape: Shape  # of the output; () where it is no mask
    answers: Literal["logits", "probabilities"] | None = None  # where the last operator leaves no doubt
    last: str | None = None  # the operator that makes the output

    def channels(self, layout: str) -> int | None:
        """How many channels the output has; one of three dimensions has one."""
        if len(self.shape) == 3:
            return 1
        return self.shape[CHANNEL_AXIS[layout]] if len(self.shape) == 4 else None

    @property
    def place(self) -> int:
        """Which of the network's outputs it is, from 0."""
        return list(self.seen.outputs).index(self.output) if self.output else 0


@dataclass(frozen=True, slots=True)
class Told:
    """What one document says.

    Parameters
    ----------
    source
        How to name it in a sentence.
    entries
        Entries of a card.
    notes
        What the user should know of how they were read.
    cannot
        Entries that the document asks for in a way that no card can express, each with a sentence why. Something that
        speaks louder may say them in its place.
    more
        What else it says that decides no pixel here.

    """

    source: str
    entries: Entries
    notes: tuple[str, ...] = ()
    cannot: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def said(**entries: Any) -> Entries:  # noqa: ANN401  a card holds anything
    """The entries that are said at all."""
    return {key: value for key, value in entries.items() if value is not None}


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """A mapping, or SettingsError naming where none stands."""
    if not isinstance(value, Mapping):
        raise SettingsError(f"{where} must hold keys and values.")
    return value


def sequence(value: object, where: str) -> Sequence[Any]:
    """A list, or SettingsError naming where none stands."""
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{where} must be a list.")
    return value


def numbers(value: object, where: str) -> list[float]:
    """A list of numbers, from one or from several, or SettingsError naming where none stand."""
    listed: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    if not listed or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in listed):
        raise SettingsError(f"{where} must hold numbers.")
    return [float(each) for each in listed]


def square(height: object, width: object) -> int | None:
    """The side of a square that two sides make, else None."""
    return height if isinstance(height, int) and height == width and height > 0 else None


def colour(parts: object) -> str | None:
    """`#rrggbb` of three numbers from 0 to 255, else None."""
    if not isinstance(parts, list | tuple) or len(parts) < 3:
        return None
    red_green_blue = parts[:3]
    if not all(isinstance(part, int) and 0 <= part <= 255 for part in red_green_blue):
        return None
    return "#" + "".join(f"{part:02x}" for part in red_green_blue)


def with_background(names: Sequence[str], first: str = "background") -> list[str]:
    """Names of a sigmoid's classes: what none of the channels is, then one for each."""
    return [first if first not in names else "none", *names]
