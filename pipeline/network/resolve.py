"""The card that holds: what the file, the YAML beside it and the job say, and what the graph leaves no doubt about."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from onnx import ModelProto

from pipeline.errors import SettingsError
from pipeline.network.card import Card
from pipeline.network.deepness import is_deepness, read_deepness
from pipeline.network.mlm import KEY, read_mlm
from pipeline.network.signature import Shape, Signature, answers, mask_shape, signature

_AXIS = {"NCHW": 1, "NHWC": 3}  # where the channels are


def resolve_card(model: ModelProto, path: Path, overrides: Mapping[str, Any] | None = None) -> Card:
    """Put together the card of the model at `path`.

    Entry by entry, what is said later replaces what was said before: the file's metadata (`mlm`, else the keys of QGIS
    Deepness), the YAML beside it (`<stem>.yaml`, else `card.yaml`), `overrides`. What then is missing is taken from
    the graph where that is certain: bands, layout, logits or probabilities, activation, window.

    Raises SettingsError for what is missing, unknown, or does not fit the graph, ModelError for a network that makes
    no mask.
    """
    seen = signature(model)
    above = _beside(path) | _known(overrides or {}, "The job's `card`")
    output = _output(above.get("output"), seen)
    said = _metadata(model, path, seen, output) | above
    output = _output(said.get("output"), seen) or _undecided(seen, path)
    shape = mask_shape(model, output)
    said = {"name": path.stem, **_certain(model, seen, said, output, shape), **said}
    card = Card.of(said, f"The card of {path.name}")
    _fits(card, seen, shape, output)
    return card


def _known(said: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Refuse an entry that no card has, naming where it stands."""
    for key in said:
        if key not in Card.model_fields:
            near = difflib.get_close_matches(str(key), list(Card.model_fields), n=1, cutoff=0.0)[0]
            raise SettingsError(f"{source} says `{key}`, which no card has; did you mean `{near}`?")
    return dict(said)


def _beside(path: Path) -> dict[str, Any]:
    """What the YAML beside the model says; nothing where there is none."""
    for file in (path.with_suffix(".yaml"), path.parent / "card.yaml"):
        if file.is_file():
            try:
                said = yaml.safe_load(file.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise SettingsError(f"The card {file} is not YAML: {' '.join(str(error).split())}.") from None
            if not isinstance(said, dict):
                raise SettingsError(f"The card {file} must hold keys and values, such as `classes: [sea, land]`.")
            return _known(said, f"The card {file}")
    return {}


def _metadata(model: ModelProto, path: Path, seen: Signature, output: str | None) -> dict[str, Any]:
    """What the file's own metadata says."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    source = f"The metadata of {path.name}"
    if KEY in metadata:
        try:
            return read_mlm(json.loads(metadata[KEY]), f"{source} under `{KEY}`")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise SettingsError(f"{source} under `{KEY}` is not what STAC MLM 1.5 describes ({reason}).") from None
    if not is_deepness(metadata):
        return {}
    only = output or (next(iter(seen.outputs)) if len(seen.outputs) == 1 else None)
    shape = mask_shape(model, only) if only else ()
    channels = _channels(shape, "NCHW") if shape else None
    said = read_deepness(metadata, seen, only, channels, source)
    if only and answers(model, only) is None:
        said["says"] = "probabilities"  # Deepness puts nothing after the network
    return said


def _output(name: object, seen: Signature) -> str | None:
    """The output that is named, or the only one; None where neither is so."""
    if name is None:
        return next(iter(seen.outputs)) if len(seen.outputs) == 1 else None
    if not isinstance(name, str) or name not in seen.outputs:
        raise SettingsError(f"The network has no output `{name}`; it has {', '.join(seen.outputs)}.")
    return name


def _undecided(seen: Signature, path: Path) -> str:
    names = ", ".join(seen.outputs)
    raise SettingsError(
        f"The card of {path.name}: the network has {len(seen.outputs)} outputs ({names}); say which is the mask's, "
        f"such as `output: {next(iter(seen.outputs))}`."
    )


def _channels(shape: Shape, layout: str) -> int | None:
    """How many channels an output has; one of three dimensions has one."""
    return 1 if len(shape) == 3 else shape[_AXIS[layout]]


def _certain(model: ModelProto, seen: Signature, said: Mapping[str, Any], output: str, shape: Shape) -> dict[str, Any]:
    """What the graph leaves no doubt about."""
    layout = said.get("layout") or _layout(seen, said.get("bands"))
    if not isinstance(layout, str) or layout not in _AXIS:
        return {}  # said wrongly, or in doubt: the card refuses it
    known: dict[str, Any] = {"layout": layout}
    eaten, given = seen.shape[_AXIS[layout]], _channels(shape, layout)
    if eaten:
        known["bands"] = [f"band {place}" for place in range(1, eaten + 1)]
    height, width = (side for axis, side in enumerate(seen.shape) if axis not in (0, _AXIS[layout]))
    if height == width:
        known["window"] = height
    if says := answers(model, output):
        known["says"] = says
    if given:
        known["activation"] = _activation(given, said.get("classes"))
    return known


def _layout(seen: Signature, bands: object) -> str | None:
    """NCHW or NHWC, where only one of them fits the input's shape and the bands that are said."""
    axes = seen.channel_axes()
    if isinstance(bands, list | tuple):
        axes = tuple(axis for axis in axes if seen.shape[axis] in (None, len(bands))) or axes
    return next(layout for layout, axis in _AXIS.items() if axis == axes[0]) if len(axes) == 1 else None


def _activation(channels: int, classes: object) -> str:
    """Sigmoid where there is a class more than channels, or one channel; else softmax, where one class wins."""
    count = len(classes) if isinstance(classes, list | tuple | dict) else None
    return "sigmoid" if channels == 1 or count == channels + 1 else "softmax"


def _fits(card: Card, seen: Signature, shape: Shape, output: str) -> None:
    """Refuse a card whose bands or classes are not as many as the graph's channels."""
    eaten, given = seen.shape[_AXIS[card.layout]], _channels(shape, card.layout)
    if eaten is not None and eaten != len(card.bands):
        raise SettingsError(
            f"The card names {len(card.bands)} bands ({', '.join(band.name for band in card.bands)}), and the "
            f"network's input `{seen.input}` takes {eaten} as {card.layout}; they must be as many."
        )
    if given is not None and given != card.channels:
        needed = given + (card.activation == "sigmoid")
        more = " (one for each channel, and the first for none of them)" if card.activation == "sigmoid" else ""
        raise SettingsError(
            f"The card names {len(card.classes)} classes ({', '.join(entry.name for entry in card.classes)}), and the "
            f"network's output `{output}` has {given} channel{'s' * (given > 1)}, which with {card.activation} is for "
            f"{needed} classes{more}."
        )
