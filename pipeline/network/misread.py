"""What is wrong with a card that cannot be read, in words."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.network.legend import Band, MaskClass
from pipeline.network.scaling import KINDS


def sentence(error: ValidationError, card: type[BaseModel]) -> str:
    """Say the first thing that pydantic found, in words."""
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] != "missing"), found[0])
    place = _place(first["loc"])
    where = ".".join(str(part) for part in place) or "the card"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys_at(first["loc"], card), n=1, cutoff=0.0)[0]
        return f"there is no card entry `{where}`; did you mean `{near}`?"
    if first["type"] == "missing":
        return _missing([".".join(str(part) for part in _place(each["loc"])) for each in found], card)
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        return f"{'the card' if not place else f'the card entry `{where}`'} cannot hold: {reason}."
    if first["type"].startswith("union_tag"):
        return f"the card entry `{where}` must have a `kind`, one of {', '.join(KINDS)}; it is {first['input']!r}."
    return f"the card entry `{where}` cannot be {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _place(loc: tuple[int | str, ...]) -> list[int | str]:
    """Where in the card it is, without the kind that pydantic names after `scaling`."""
    return [part for at, part in enumerate(loc) if (at, loc[0]) != (1, "scaling") or part not in KINDS]


def _missing(entries: list[str], card: type[BaseModel]) -> str:
    """Name all that is missing, each with how to say it."""
    fields = card.model_fields
    ways = [f"`{entry}`: {(entry in fields and fields[entry].description) or 'a value'}" for entry in entries]
    return f"the card does not say {', '.join(f'`{entry}`' for entry in entries)}. Say {'; '.join(ways)}."


def _keys_at(loc: tuple[int | str, ...], card: type[BaseModel]) -> list[str]:
    """Which keys are known where an unknown one stands."""
    if len(loc) == 1:
        return list(card.model_fields)
    inner: dict[Any, type[BaseModel]] = {
        "bands": Band,
        "classes": MaskClass,
        "scaling": KINDS.get(str(loc[1]), KINDS["none"]),
    }
    return list(inner.get(loc[0], card).model_fields)
