"""JSON and YAML that somebody else wrote, read without trusting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SettingsError

LARGEST = 16 * 2**20  # bytes; a card takes a few thousand
_ENTRIES = 1_000_000  # after YAML's aliases are written out


def load(file: Path) -> Any:  # noqa: ANN401  a document holds anything
    """Read a document by its ending, JSON or YAML.

    Raises SettingsError where it cannot be read, is larger than 16 MiB, or holds aliases that would grow without end.
    """
    kind = "YAML" if file.suffix.lower() in (".yaml", ".yml") else "JSON"
    try:
        if (size := file.stat().st_size) > LARGEST:
            raise ValueError(f"it takes {size} bytes, and a description of a model no more than {LARGEST}")
        text = file.read_text(encoding="utf-8-sig")
        document = yaml.safe_load(text) if kind == "YAML" else json.loads(text)
        _entries(document, {})
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(f"{file} cannot be read as {kind} ({reason}): repair it, or move it away.") from None
    return document


def _entries(value: object, known: dict[int, int]) -> int:
    """How many entries a document has with all aliases written out. Raises ValueError for too many, or for a circle."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _ENTRIES  # until it is counted: what holds itself has no end
        held = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_entries(each, known) for each in held)
    if known[id(value)] >= _ENTRIES:
        raise ValueError(f"it holds itself, or more than {_ENTRIES} entries")
    return known[id(value)]
