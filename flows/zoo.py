"""Which file a model's name means: a name in the zoo, a folder that holds one .onnx file, or an .onnx file.

Also what `maskmill models` says about one: its card, its stride and reach, and whether it runs here.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import zoo
from pipeline.errors import ModelError, SettingsError
from pipeline.grid import Stitch
from pipeline.network.digest import model_digest
from pipeline.network.engine import Engine
from pipeline.network.field import field_of
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe
from pipeline.network.model_file import find_model, load_model
from pipeline.network.resolve import resolve_card

CHECKED_CORE = 64  # pixels: enough for a coarsest feature map of 16 × 16 at a stride of 4, and quick


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
    field = field_of(network, card.output)
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


@dataclass(frozen=True, slots=True)
class Check:
    """What came of running a model once on random pixels."""

    file: str
    exact: bool
    reason: str | None  # why it is not exact
    window: int
    margin: int
    provider: str
    nodes: dict[str, int]
    numeric_class: str
    fallback: str | None  # why not the device that `auto` would rather have
    finite: bool  # whether all that came out was

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def checked(model: str, device: str = "auto") -> Check:
    """Load a model, bound it, fuse its card into its graph and run one window of random pixels.

    Raises ModelError or DeviceError where one of these does not work.
    """
    path = model_path(model)
    network = load_model(path)
    card = resolve_card(network, path, None)
    field = field_of(network, card.output)
    margin = field.margin if field.bounded else 0
    window = _window(card.window, field.stride, margin, field.bounded)
    stitch = Stitch.EXACT if field.bounded else Stitch.BLEND
    dtype = card.dtype or "uint8"  # a card without one takes whatever the image has
    recipe = Recipe(window=window, margin=margin, batch=1, dtype=dtype, stitch=stitch)
    engine = Engine(fuse(network, card, recipe, field), device, threads=1)
    bands = len(card.bands)
    pixels = _noise(dtype, (1, bands, window, window))
    flat = np.zeros(bands, np.float32)
    results = engine.run(pixels, np.ones((1, window, window), bool), flat, flat + 1)
    return Check(
        file=str(path),
        exact=field.bounded and field.inexact is None,
        reason=field.unbounded or field.inexact,
        window=window,
        margin=margin,
        provider=engine.provider,
        nodes=dict(engine.nodes),
        numeric_class=engine.numeric_class,
        fallback=engine.fallback,
        finite=bool(np.all(results["finite"])),
    )


def _window(said: int | None, stride: int, margin: int, bounded: bool) -> int:
    """The side of the window to try, in pixels: the card's own where the network mixes all its pixels."""
    if not bounded:
        if said is None:
            raise SettingsError("The network mixes all its pixels and its card names no window: say `window:` in it.")
        return said
    return -(-CHECKED_CORE // stride) * stride + 2 * margin


def _noise(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    draw = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return draw.random(shape, np.float32).astype(kind)
    limits = np.iinfo(kind)
    return draw.integers(max(limits.min, 0), min(limits.max, 10_000), shape, kind, endpoint=True)
