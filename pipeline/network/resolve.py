"""The card that holds, as `understand` puts it together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from pipeline.network.card import Card
from pipeline.network.understand import understand


def resolve_card(model: ModelProto, path: Path, overrides: Mapping[str, Any] | None = None) -> Card:
    """Put together the card of the model at `path`. Raises what `understand` raises."""
    return understand(model, path, overrides).card
