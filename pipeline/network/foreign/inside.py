"""What a model's file says of itself in its metadata: STAC MLM under `mlm`, else the keys of QGIS Deepness."""

from __future__ import annotations

import json

from onnx import ModelProto

from pipeline.document import MISSHAPEN
from pipeline.errors import SettingsError
from pipeline.network.deepness import is_deepness, read_deepness
from pipeline.network.foreign.item import read_item
from pipeline.network.foreign.told import Graph, Told
from pipeline.network.mlm import KEY


def metadata_of(model: ModelProto, graph: Graph) -> list[Told]:
    """What the metadata says, if anything. Raises SettingsError where it cannot be read."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    source = f"The metadata of {graph.file}"
    if KEY in metadata:
        where = f"{source} under `{KEY}`"
        try:
            properties = json.loads(metadata[KEY])
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{where} is not what STAC MLM 1.5 describes ({error}).") from None
        if not isinstance(properties, dict):
            raise SettingsError(f"{where} is not what STAC MLM 1.5 describes: it must hold keys and values.")
        return [read_item(properties, where, "the metadata (STAC MLM)")]
    if not is_deepness(metadata):
        return []
    try:
        entries, notes = read_deepness(metadata, graph.seen, graph.output, graph.channels("NCHW"), source)
    except MISSHAPEN as error:
        raise SettingsError(
            f"{source} is not what QGIS Deepness describes ({type(error).__name__}: {error})."
        ) from None
    if graph.output and graph.answers is None:
        entries.setdefault("says", "probabilities")  # Deepness puts nothing after the network
    return [Told("the metadata (QGIS Deepness)", entries, tuple(notes))]
