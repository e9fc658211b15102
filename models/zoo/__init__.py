"""The networks that ship: each one .onnx file that holds its card. Finding them needs no heavy module."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pipeline.errors import ModelError

_ENDING = ".onnx"


def names() -> list[str]:
    """The networks' names, in alphabetical order."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(_ENDING) for name in files if name.endswith(_ENDING))


def path(name: str) -> Path:
    """The file of the network called `name`. Raises ModelError, which lists the names, where there is none."""
    known = names()
    if name not in known:
        raise ModelError(f"The zoo has no network called `{name}`; it has {', '.join(known) or 'none at all'}.")
    return Path(str(resources.files(__name__) / f"{name}{_ENDING}"))
