"""What is known of a model, from what lies there: each entry of its card, and who said it.

Entry by entry, what is said later replaces what was said before: documents that a folder shares, documents of the
model's name, the file's metadata; the YAML beside it (`<stem>.yaml`, else `card.yaml`); the job's `card`. What is then
missing is taken from the graph where that is certain, and the names of bands are guessed.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import SettingsError
from pipeline.network.card import Card
from pipeline.network.certain import certain, chosen_output, demand_fit, guessed_bands
from pipeline.network.foreign.beside import documents_beside, format_of
from pipeline.network.foreign.documents import load
from pipeline.network.foreign.inside import metadata_of
from pipeline.network.foreign.told import Graph, Told
from pipeline.network.scaling import Scaling
from pipeline.network.signature import answers, last_operator, mask_shape, output_shape, signature

_LABELS = ("name", "architecture", "licence", "training_data", "scores")  # which no two programs say alike
_JOB = "the job's `card`"
_MEANT = {
    "scaling": "how pixels are scaled: constant, mean_std, min_max, percentile, scene, window or none",
    "classes": "the mask's classes in order",
    "bands": "the input's channels in order",
    "layout": "NCHW or NHWC, of input and output",
    "says": "logits or probabilities",
    "activation": "softmax, where one class wins, or sigmoid, by channel",
}


@dataclass(frozen=True, slots=True)
class Gathered:
    """All entries that could be had, before they are a card.

    Parameters
    ----------
    entries, sources
        Each entry's value, and who said it.
    notes
        What the user should know.
    missing
        Entries that a card needs, each with a line that would say it.
    cannot
        Why some of the missing ones could not be taken from a document, by entry.
    more
        What else documents say, such as a halo.
    graph
        The network's signature, and the output that becomes the mask.

    """

    file: str
    entries: dict[str, Any]
    sources: dict[str, str]
    notes: tuple[str, ...]
    missing: dict[str, str]
    cannot: dict[str, str]
    more: dict[str, Any]
    graph: Graph

    def card(self) -> Card:
        """The card. Raises SettingsError for what is missing, unknown, or does not fit the graph."""
        try:
            card = Card.model_validate(self.entries)
        except ValidationError as error:
            if all(each["type"] == "missing" and each["loc"][0] in self.missing for each in error.errors()):
                raise SettingsError(self.lack()) from None
            card = Card.of(self.entries, f"The card of {self.file}")  # says what is wrong with the rest
        demand_fit(card, self.graph)
        return card

    def lack(self) -> str:
        """One sentence that names each missing entry with a line to add."""
        names = ", ".join(f"`{entry}`" for entry in self.missing)
        lines = "; ".join(f"`{line}` ({_MEANT.get(entry, entry)})" for entry, line in self.missing.items())
        why = "".join(f" ({reason})" for reason in self.cannot.values())
        return (
            f"The card of {self.file} does not say {names}{why}: add to {Path(self.file).stem}.yaml beside it, or "
            f"under `card:` in the job file, lines such as {lines}."
        )


@dataclass(frozen=True, slots=True)
class Understood:
    """A card, who said each of its entries, and what the user should know of it."""

    card: Card
    sources: dict[str, str]
    notes: tuple[str, ...]


def understand(model: ModelProto, path: Path, overrides: Mapping[str, Any] | None = None) -> Understood:
    """Put together the card of the model at `path`.

    Raises SettingsError for what is missing, unknown, or does not fit the graph, ModelError for a network that makes
    no raster.
    """
    found = gather(model, path, overrides)
    return Understood(found.card(), found.sources, found.notes)


def gather(model: ModelProto, path: Path, overrides: Mapping[str, Any] | None = None) -> Gathered:
    """Gather what is known of the model at `path`, whether it is enough for a card or not.

    Raises SettingsError for documents that cannot be read and for entries that no card has, ModelError for a network
    that makes no raster.
    """
    above = [*_beside(path), Told(_JOB, _known(overrides or {}, "The job's `card`"))]
    asked = next((told.entries["output"] for told in reversed(above) if "output" in told.entries), None)
    graph = _graph(model, path, asked)
    foreign, notes = _foreign(model, path, graph)
    said, sources = _merged(foreign, above)
    if asked is None and said.get("output") not in (None, graph.output):  # the card in the metadata names another
        graph = _graph(model, path, said["output"])
        foreign, notes = _foreign(model, path, graph)
        said, sources = _merged(foreign, above)
    notes += [*_contradictions(foreign), *(note for told in foreign for note in told.notes)]
    notes += _completed(path, graph, said, sources)
    missing = [entry for entry, field in Card.model_fields.items() if field.is_required() and entry not in said]
    cannot = {entry: why for told in foreign for entry, why in told.cannot.items() if entry in missing}
    more = {key: value for told in foreign for key, value in told.more.items()}
    lines = {entry: _line(entry, graph, said) for entry in missing}
    return Gathered(path.name, said, sources, tuple(notes), lines, cannot, more, graph)


def _graph(model: ModelProto, path: Path, asked: object) -> Graph:
    seen = signature(model)
    output = chosen_output(model, seen, asked)
    shape = output_shape(model, output)
    return Graph(path.name, seen, output, shape, answers(model, output), last_operator(model, output))


def _foreign(model: ModelProto, path: Path, graph: Graph) -> tuple[list[Told], list[str]]:
    """What others say, the weakest first, and notes."""
    beside, notes = documents_beside(path, graph)
    mask_shape(model, graph.output or "")  # a document may say it better why it makes no mask, the metadata do not
    return [*reversed(beside), *metadata_of(model, graph)], notes


def _merged(foreign: Sequence[Told], above: Sequence[Told]) -> tuple[dict[str, Any], dict[str, str]]:
    """Entries and their sources; the later replaces the earlier. Only our own words can unsay, by `null`."""
    said: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for one in (*foreign, *above):
        for entry, value in one.entries.items():
            if value is not None or any(one is ours for ours in above) or entry not in said:
                said[entry], sources[entry] = value, one.source
    return said, sources


def _completed(path: Path, graph: Graph, said: dict[str, Any], sources: dict[str, str]) -> list[str]:
    """Add what the graph leaves no doubt about and what is guessed; returns notes on the guesses."""
    notes = []
    if "name" not in said:
        said["name"], sources["name"] = path.stem, "the file's name"
    for entry, value in certain(graph, said).items():
        if entry not in said:
            said[entry], sources[entry] = value, "the graph"
    if "bands" not in said and (bands := guessed_bands(graph, said.get("layout"))):
        said["bands"], sources["bands"] = bands, "guessed: by their number, which is the graph's"
        notes.append(
            f"Nothing names the network's bands: {', '.join(bands)} in the image's own order is a guess; `bands:` in "
            "the card or --bands says otherwise."
        )
    if said.get("says") == "values" and "classes" not in said and (names := _of_values(graph, said)):
        said["classes"], sources["classes"] = names, "guessed: by the number of channels"
    outputs = list(graph.seen.outputs)
    if said.get("output") is None and len(outputs) > 1:
        said["output"], sources["output"] = graph.output, "guessed: the first that can be a mask"
        notes.append(
            f"The network has {len(outputs)} outputs ({', '.join(outputs)}); the mask is made of `{graph.output}`, "
            "and `output:` in the card names another."
        )
    return notes


def _of_values(graph: Graph, said: Mapping[str, Any]) -> list[str]:
    """Names for channels of numbers; none where their number is not known."""
    layout = said.get("layout")
    channels = graph.channels(layout) if layout in ("NCHW", "NHWC") else None
    return ["value"] if channels == 1 else [f"value {place}" for place in range(1, (channels or 0) + 1)]


def _contradictions(foreign: Sequence[Told]) -> list[str]:
    """What two documents say differently: the weaker come first."""
    notes = []
    for place, weak in enumerate(foreign):
        for strong in foreign[place + 1 :]:
            for entry in weak.entries.keys() & strong.entries.keys() - set(_LABELS):
                less, more = weak.entries[entry], strong.entries[entry]
                if more is not None and less is not None and _plainly(entry, less) != _plainly(entry, more):
                    notes.append(
                        f"{weak.source} says `{entry}: {_short(less)}` and {strong.source} `{_short(more)}`: the "
                        "latter holds, for it is the more specific."
                    )
    return sorted(notes)


def _plainly(entry: str, value: object) -> object:
    """What a value comes to: of bands and classes names and values, of a scaling its numbers."""
    if entry == "scaling":
        try:
            shift, divisor = TypeAdapter(Scaling).validate_python(value).shift_and_divisor(None)
        except ValueError:  # of statistics, or no scaling at all
            return value
        numbers = np.broadcast_arrays(shift, divisor)
        return sorted({tuple(float(f"{number:.6g}") + 0.0 for number in band) for band in zip(*numbers, strict=True)})
    if entry not in ("bands", "classes") or not isinstance(value, list | tuple):
        return value
    whole = [each if isinstance(each, Mapping) else {"name": each} for each in value]
    return [(each.get("name"), each.get("value", place)) for place, each in enumerate(whole)]


def _short(value: object) -> str:
    return reprlib.repr(value)


def _line(entry: str, graph: Graph, said: Mapping[str, Any]) -> str:
    """A line that would say a missing entry, as far as the graph shows its form."""
    layout = said.get("layout")
    channels = graph.channels(layout) if layout in ("NCHW", "NHWC") else None
    many = f"[{', '.join(f'class {place}' for place in range(channels or 0))}]"
    return {
        "bands": "bands: [red, green, blue]",
        "scaling": "scaling: {kind: constant, divide_by: 255}",
        "classes": f"classes: {many if channels and channels > 1 else '[background, roof]'}",
        "layout": "layout: NCHW",
        "says": "says: logits",
        "activation": "activation: softmax",
    }.get(entry, f"{entry}: …")


def _known(said: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Refuse an entry that no card has, naming where it stands."""
    for key in said:
        if key not in Card.model_fields:
            near = difflib.get_close_matches(str(key), list(Card.model_fields), n=1, cutoff=0.0)[0]
            raise SettingsError(f"{source} says `{key}`, which no card has; did you mean `{near}`?")
    return dict(said)


def _beside(path: Path) -> list[Told]:
    """What our YAML beside the model says; nothing where there is none, or where it is another program's."""
    for file in (path.with_suffix(".yaml"), path.parent / "card.yaml"):
        if file.is_file():
            said = load(file)
            if format_of(said) is not None:
                continue
            if not isinstance(said, dict):
                raise SettingsError(f"The card {file} must hold keys and values, such as `classes: [sea, land]`.")
            return [Told(file.name, _known(said, f"The card {file}"))]
    return []
