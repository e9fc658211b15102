"""JSON and YAML that somebody else wrote, read without trusting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.document import LARGEST_DOCUMENT, YAML_ERRORS, demand_finite
from pipeline.errors import SettingsError


def load(file: Path) -> Any:  # noqa: ANN401  a document holds anything
    """Read a document by its ending, JSON or YAML.

    Raises SettingsError where it cannot be read, is larger than 16 MiB, or holds aliases that would grow without end.
    """
    kind = "YAML" if file.suffix.lower() in (".yaml", ".yml") else "JSON"
    try:
        if (size := file.stat().st_size) > LARGEST_DOCUMENT:
            raise ValueError(f"it takes {size} bytes, and a description of a model no more than {LARGEST_DOCUMENT}")
        text = file.read_text(encoding="utf-8-sig")
        document = yaml.safe_load(text) if kind == "YAML" else json.loads(text)
        demand_finite(document)
    except (OSError, *YAML_ERRORS) as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(f"{file} cannot be read as {kind} ({reason}): repair it, or move it away.") from None
    return document
