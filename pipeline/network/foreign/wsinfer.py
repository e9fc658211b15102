"""wsinfer's `config.json`: networks that classify patches of slides.

They give one class for a patch, which is no mask; only a network whose answer is an image is taken, with what the
file says of bands, scaling and micrometres. https://github.com/SBU-BMI/wsinfer-zoo, schemas/model-config.schema.json
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import ModelError
from pipeline.network.foreign.steps import StepError, Steps
from pipeline.network.foreign.told import Graph, Told, mapping, numbers, said, sequence

_MARKS = {"patch_size_pixels", "spacing_um_px", "transform"}


def is_wsinfer(document: object) -> bool:
    """Whether a document is a configuration of wsinfer's."""
    return isinstance(document, Mapping) and document.keys() >= _MARKS


def read(document: Mapping[str, Any], source: str, graph: Graph) -> Told:
    """Read a configuration. Raises ModelError for a network that classifies patches, SettingsError for another form."""
    patch = document["patch_size_pixels"]
    if len(graph.shape) not in (3, 4):
        raise ModelError(
            f"{source} (of wsinfer) says that the network classifies patches of {patch} px: one class for a patch, "
            "which is no mask. Take a network that says a class for each pixel."
        )
    steps, cannot, side = _transformed(document, source, patch)
    names, spacing = document.get("class_names"), document["spacing_um_px"]
    known = isinstance(spacing, int | float) and isinstance(side, int | float) and isinstance(patch, int) and side > 0
    entries = said(
        architecture=document.get("architecture"),
        bands=["red", "green", "blue"],
        dtype="uint8",
        classes=[str(name) for name in names] if isinstance(names, list) else None,
        window=side if isinstance(side, int) else None,
        resolution=spacing * 1e-6 * patch / side if known else None,
    )
    return Told(source, entries | steps, (), cannot)


def _transformed(
    document: Mapping[str, Any], source: str, patch: object
) -> tuple[dict[str, Any], dict[str, str], object]:
    """The steps as entries, what cannot be said, and the side that a patch is resized to."""
    steps, side = Steps(), patch
    try:
        for one in sequence(document["transform"], f"`transform` in {source}"):
            step = mapping(one, f"A transform in {source}")
            name, arguments = step.get("name"), mapping(step.get("arguments") or {}, f"`arguments` in {source}")
            if name == "Resize":
                side = arguments.get("size")
            elif name == "ToTensor":
                steps = steps.times([1 / 255], [0.0], "ToTensor")
            elif name == "Normalize":
                mean, std = (numbers(arguments.get(key), f"`{key}` in {source}") for key in ("mean", "std"))
                steps = steps.standardised(mean, std, "Normalize")
            else:
                raise StepError(f"`{name}`")
        return steps.entries(), {}, side
    except StepError as error:
        return {}, {"scaling": f"{source} asks for {error} before the network, which no card can say"}, side
