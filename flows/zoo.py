"""Which file a model's name means: a name in the zoo, a folder that holds one .onnx file, or an .onnx file.

Also what `maskmill models list` and `show` say about one: its card, its stride and reach.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from models import zoo
from pipeline.errors import ModelError
from pipeline.network.digest import model_digest
from pipeline.network.field import field_of
from pipeline.network.model_file import find_model, load_model
from pipeline.network.resolve import resolve_card


def model_path(model: str) -> Path:
    """The .onnx file that `model` means. A zoo name has neither a slash nor the ending .onnx.

    Raises ModelError where there is none, or where a folder holds several.
    """
    named = "/" not in model and not model.endswith(".onnx")
    if named and model in zoo.names():
        return Path(zoo.path(model))
    if named and not os.path.exists(model):  # noqa: PTH110  # Path.exists raises for a name that is too long
        near = difflib.get_close_matches(model, zoo.names(), n=1, cutoff=0.0)
        hint = f"; did you mean `{near[0]}`?" if near else ", which is empty."
        raise ModelError(f"There is no model `{model}`: it is neither a file nor a folder nor a name in the zoo{hint}")
    return find_model(model)


def listed() -> list[dict[str, Any]]:
    """One line for each model of the zoo: name, classes, file size."""
    rows = []
    for name in zoo.names():
        path = Path(zoo.path(name))
        card = resolve_card(load_model(path), path, None)
        classes = ", ".join(one.name for one in card.classes)
        rows.append({"name": name, "classes": classes, "bytes": path.stat().st_size, "licence": card.licence})
    return rows


def shown(model: str) -> dict[str, Any]:
    """A model's card, digest, stride, reach and margin, as a mapping."""
    path = model_path(model)
    network = load_model(path)
    card = resolve_card(network, path, None)
    field = field_of(network, card.output, card.layout)
    return {
        "file": str(path),
        "digest": model_digest(network),
        "stride": field.stride,
        "reach": field.reach if field.bounded else None,
        "margin": field.margin if field.bounded else None,
        "bounded": field.bounded,
        "unbounded_because": field.unbounded,
        "exact_only_to_rounding_because": field.inexact,
        "card": card.model_dump(mode="json"),
    }
