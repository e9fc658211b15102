"""STAC MLM properties, of an item beside the model or of its metadata, as one document among others.

`pipeline.network.mlm` reads what MLM 1.5 says and a card of ours. Here is what earlier versions said (`norm_type` with
`statistics`, up to 1.3), and why a scaling could not be taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.document import MISSHAPEN
from pipeline.errors import SettingsError
from pipeline.network.foreign.steps import StepError, Steps
from pipeline.network.foreign.told import Entries, Told, mapping, numbers, said, sequence
from pipeline.network.mlm import read_mlm

_MEAN_AND_DEVIATION, _RANGE = ("mean", "stddev"), ("minimum", "maximum")


def read_item(properties: Mapping[str, Any], source: str, label: str | None = None) -> Told:
    """Read properties; `source` names them in sentences, `label` as who said an entry.

    Raises SettingsError where the model makes no masks or the properties have not MLM's form.
    """
    try:
        entries = read_mlm(properties, source)
        eats = next(iter(properties.get("mlm:input") or [{}]))
        cannot: dict[str, str] = {}
        if "scaling" not in entries:
            earlier, cannot = _otherwise(mapping(eats, f"`mlm:input` of {source}"), source)
            entries |= earlier
    except MISSHAPEN as error:
        reason = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{source} is not what STAC MLM 1.5 describes ({reason}).") from None
    return Told(label or source, said(**entries), (), cannot)


def _otherwise(eats: Mapping[str, Any], source: str) -> tuple[Entries, dict[str, str]]:
    """A scaling in another form than 1.5's plain ones, or why there is none."""
    function = eats.get("pre_processing_function")
    if function is not None:
        named = function.get("expression") if isinstance(function, Mapping) else function
        return {}, {"scaling": f"{source} leaves it to the program {str(named)[:80]}, which is not run"}
    try:
        return _clipped(eats.get("value_scaling"), source) or _earlier(eats, source), {}
    except StepError as error:
        return {}, {"scaling": f"{source} asks for {error} before the network, which no card can say"}


def _clipped(scaling: object, source: str) -> Entries | None:
    """One `clip` for all bands, of raw pixels; None where nothing is said."""
    if scaling is None:
        return None
    objects = [
        mapping(one, f"`value_scaling` of {source}") for one in sequence(scaling, f"`value_scaling` of {source}")
    ]
    kinds = sorted({str(one.get("type")) for one in objects})
    if kinds != ["clip"] or any(one != objects[0] for one in objects):
        raise StepError(f"the value_scaling {', '.join(kinds)}")
    return Steps().clipped(objects[0]["minimum"], objects[0]["maximum"]).entries()


def _earlier(eats: Mapping[str, Any], source: str) -> Entries:
    """`norm_type` with `statistics`, of all bands or of each."""
    kind = eats.get("norm_type")
    if kind is None:
        return {}
    keys = {"z-score": _MEAN_AND_DEVIATION, "min-max": _RANGE}.get(str(kind).lower())
    told = sequence(eats.get("statistics") or (), f"`statistics` of {source}")
    if keys is None or not told or eats.get("norm_clip"):
        raise StepError(f"the norm_type {kind}{' with norm_clip' if eats.get('norm_clip') else ''} without statistics")
    first, second = ([numbers(one[key], f"`{key}` of {source}")[0] for one in told] for key in keys)
    if keys is _MEAN_AND_DEVIATION:
        return {"scaling": {"kind": "mean_std", "mean": first, "std": second}}
    return {"scaling": {"kind": "min_max", "min": first, "max": second}}
