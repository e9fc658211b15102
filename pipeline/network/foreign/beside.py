"""Which documents lie beside a model and speak of it, and what each says.

A document that bears the model's name speaks of it. One that a whole folder shares (`item.json`, `bioimageio.yaml`,
`config.json`, …) speaks of it where it names the model's file, or names none and there is one model in the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.document import MISSHAPEN
from pipeline.errors import SettingsError
from pipeline.network.foreign import bioimageio, czann, emd, ukis, wsinfer
from pipeline.network.foreign.documents import load
from pipeline.network.foreign.item import read_item
from pipeline.network.foreign.told import Graph, Told

_OWN = (".json", ".stac.json", ".emd", ".yaml", ".yml")
_SHARED = ("item.json", "bioimageio.yaml", "bioimageio.yml", "rdf.yaml", "rdf.yml", "config.json")
_SHARED_BY_ENDING = ("*.stac.json", "*.emd")

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """How documents of one format are known, what they speak of, and how they are read."""

    knows: Callable[[object], bool]
    read: Callable[[Document, str, Graph], Told]
    files: Callable[[Document], list[str]] = lambda _document: []


def _properties(document: object) -> Document | None:
    """STAC properties with entries of MLM, of an item or on their own."""
    inner = document.get("properties") if isinstance(document, Mapping) else None
    for each in (inner, document):
        if isinstance(each, Mapping) and any(str(key).startswith("mlm:") for key in each):
            return each
    return None


def _read_item(document: Document, source: str, graph: Graph) -> Told:  # noqa: ARG001  one signature for all
    return read_item(_properties(document) or {}, source)


def _assets(document: Document) -> list[str]:
    assets = document.get("assets")
    hrefs = (
        [str(one.get("href", "")) for one in assets.values() if isinstance(one, Mapping)]
        if isinstance(assets, Mapping)
        else []
    )
    return [href for href in hrefs if href.split("?")[0].endswith(".onnx")]


FORMATS = (
    Format(lambda document: _properties(document) is not None, _read_item, _assets),
    Format(bioimageio.is_bioimageio, bioimageio.read, bioimageio.files),
    Format(ukis.is_ukis, ukis.read),
    Format(emd.is_emd, emd.read, emd.files),
    Format(wsinfer.is_wsinfer, wsinfer.read),
    Format(czann.is_czann, czann.read),
)


def format_of(document: object) -> Format | None:
    """The format that a document is of, if any."""
    return next((each for each in FORMATS if each.knows(document)), None)


def documents_beside(path: Path, graph: Graph) -> tuple[list[Told], list[str]]:
    """What the documents beside the model at `path` say, the more specific first, and notes on those left aside.

    Raises SettingsError for one that cannot be read, ModelError where one says that the model makes no masks.
    """
    told, notes = [], []
    for file, own in _files(path):
        document = load(file)
        known = format_of(document)
        if known is None:
            if own and file.suffix not in (".yaml", ".yml"):
                notes.append(f"{file.name} lies beside the model and is of no format that is known; it is not read.")
        elif reason := None if own else _of_another(known.files(document), path):
            notes.append(f"{file.name} is not read: {reason}.")
        else:
            told.append(_read(known, document, file.name, graph))
    return told, notes


def _read(known: Format, document: Document, name: str, graph: Graph) -> Told:
    try:
        return known.read(document, name, graph)
    except MISSHAPEN as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SettingsError(
            f"{name} has not the form that its format asks for ({reason}): repair it, or move it away."
        ) from None


def _files(path: Path) -> Iterator[tuple[Path, bool]]:
    """(document, whether it bears the model's name), each once."""
    own = [path.with_name(path.stem + ending) for ending in _OWN]
    shared = [path.with_name(name) for name in _SHARED]
    for ending in _SHARED_BY_ENDING:
        shared += sorted(path.parent.glob(ending))
    seen: set[Path] = set()
    for file in (*own, *shared):
        if file not in seen and file.is_file():
            seen.add(file)
            yield file, file in own


def _of_another(files: list[str], path: Path) -> str | None:
    """Why a document that a folder shares does not speak of this model; None where it does.

    One that names a file that is not there speaks of the only model in the folder, which was given another name.
    """
    if any(path.name in PurePosixPath(file.split("?")[0]).parts for file in files):
        return None
    others = {other.name for other in path.parent.glob("*.onnx")} - {path.name}
    if not others:
        return None
    names = ", ".join(PurePosixPath(file.split("?")[0]).name for file in files)
    return f"it speaks of {names}" if names else "there are several models beside it and it names none"
