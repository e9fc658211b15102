"""What the graph leaves no doubt about, what is guessed where nobody says it, and whether a card fits the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

from pipeline.errors import ModelError, SettingsError
from pipeline.network.card import Card
from pipeline.network.foreign.told import CHANNEL_AXIS, Graph
from pipeline.network.signature import Signature, mask_shape

_GUESSED = {1: ("grey",), 3: ("red", "green", "blue")}


def chosen_output(model: ModelProto, seen: Signature, name: object) -> str:
    """The output that is named, or the only one, or the first that can be a mask.

    Raises SettingsError for a name that is none, ModelError where no output can be a mask.
    """
    if name is not None:
        if not isinstance(name, str) or name not in seen.outputs:
            raise SettingsError(f"The network has no output `{name}`; it has {', '.join(seen.outputs)}.")
        return name
    first, *others = seen.outputs
    try:
        mask_shape(model, first)
    except ModelError:
        return next((other for other in others if _can_be_a_mask(model, other)), first)
    return first


def _can_be_a_mask(model: ModelProto, output: str) -> bool:
    try:
        mask_shape(model, output)
    except ModelError:
        return False
    return True


def certain(graph: Graph, said: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that the graph leaves no doubt about, given what is `said`."""
    layout = said.get("layout") or _layout(graph.seen, said.get("bands"))
    if not isinstance(layout, str) or layout not in CHANNEL_AXIS:
        return {}  # said wrongly, or in doubt: the card refuses it
    known: dict[str, Any] = {"layout": layout}
    seen, given = graph.seen.shape, graph.channels(layout)
    height, width = (side for axis, side in enumerate(seen) if axis not in (0, CHANNEL_AXIS[layout]))
    if height == width:
        known["window"] = height
    if graph.answers:
        known["says"] = graph.answers
    if said.get("says") == "values":
        known["activation"] = "none"
    elif given:
        known["activation"] = _activation(given, said.get("classes"))
    return known


def guessed_bands(graph: Graph, layout: object) -> list[str]:
    """Names for as many bands as the network eats; none where that is not known."""
    eaten = graph.seen.shape[CHANNEL_AXIS[layout]] if isinstance(layout, str) and layout in CHANNEL_AXIS else None
    return list(_GUESSED.get(eaten or 0, [f"band {place}" for place in range(1, (eaten or 0) + 1)]))


def _layout(seen: Signature, bands: object) -> str | None:
    """NCHW or NHWC, where only one of them fits the input's shape and the bands that are said."""
    axes = seen.channel_axes()
    if isinstance(bands, list | tuple):
        axes = tuple(axis for axis in axes if seen.shape[axis] in (None, len(bands))) or axes
    return next(layout for layout, axis in CHANNEL_AXIS.items() if axis == axes[0]) if len(axes) == 1 else None


def _activation(channels: int, classes: object) -> str:
    """Sigmoid where there is a class more than channels, or one channel; else softmax, where one class wins."""
    count = len(classes) if isinstance(classes, list | tuple | dict) else None
    return "sigmoid" if channels == 1 or count == channels + 1 else "softmax"


def demand_fit(card: Card, graph: Graph) -> None:
    """Raise SettingsError for a card whose bands or classes are not as many as the graph's channels."""
    eaten, given = graph.seen.shape[CHANNEL_AXIS[card.layout]], graph.channels(card.layout)
    if eaten is not None and eaten != len(card.bands):
        raise SettingsError(
            f"The card names {len(card.bands)} bands ({', '.join(band.name for band in card.bands)}), and the "
            f"network's input `{graph.seen.input}` takes {eaten} as {card.layout}; they must be as many."
        )
    if given is not None and given != card.channels:
        needed = given + (card.activation == "sigmoid")
        more = " (one for each channel, and the first for none of them)" if card.activation == "sigmoid" else ""
        raise SettingsError(
            f"The card names {len(card.classes)} classes ({', '.join(entry.name for entry in card.classes)}), and the "
            f"network's output `{graph.output}` has {given} channel{'s' * (given > 1)}, which with {card.activation} "
            f"is for {needed} classes{more}."
        )
