"""The JSON of ZEISS' .czann models: task, shapes (rows, columns, channels) and classes.

It does not say how pixels are scaled, which the card asks for. Source: the package czmodel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import ModelError
from pipeline.network.foreign.told import Graph, Told, said, square

_MARKS = {"Type", "InputShape", "OutputShape", "MinOverlap"}


def is_czann(document: object) -> bool:
    """Whether a document is one of .czann's."""
    return isinstance(document, Mapping) and document.keys() >= _MARKS


def read(document: Mapping[str, Any], source: str, graph: Graph) -> Told:  # noqa: ARG001  one signature for all
    """Read a model's description. Raises ModelError for a network that makes no masks."""
    kind = str(document["Type"])
    if not kind.endswith("SemanticSegmentation") and kind != "Regression":
        raise ModelError(f"{source} says that the network is for {kind}; maskmill takes SemanticSegmentation.")
    shape, names = document["InputShape"], document.get("Classes")
    flat = isinstance(shape, list) and len(shape) == 3
    entries = said(
        name=document.get("ModelName"),
        layout="NHWC",
        window=square(shape[0], shape[1]) if flat else None,
        classes=[str(name) for name in names] if isinstance(names, list) and names else None,
        activation="softmax" if kind.endswith("SemanticSegmentation") else "none",
        says=None if kind.endswith("SemanticSegmentation") else "values",
    )
    return Told(source, entries)
