"""What docker/compose.yaml says of a service, as a process of this machine: its command and its environment."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.stack.user import PATHS, ROOT

FILE = ROOT / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")
_PROGRAMS = {"dask": "dask", "prefect": "prefect", "maskmill": "flows.cli"}


def read() -> dict[str, Any]:
    """The whole file."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def filled(text: str, given: Mapping[str, str]) -> str:
    """The text with its variables replaced, as compose does it. Raises KeyError for one that must be there."""

    def value(match: re.Match[str]) -> str:
        name, sign, rest = match.groups()
        said = given.get(name)
        if said:
            return said
        if sign == ":?":
            raise KeyError(name)
        return rest or ""

    return VARIABLE.sub(value, text)


def command(service: Mapping[str, Any], given: Mapping[str, str], places: Mapping[str, str]) -> list[str]:
    """What starts the service here; `places` are the container's addresses, ports and paths, and those of here."""
    program, *words = (filled(str(word), given) for word in service["command"])
    return [sys.executable, "-m", _PROGRAMS[program], *(places.get(word, word) for word in words)]


def environment(
    service: Mapping[str, Any], given: Mapping[str, str], places: Mapping[str, str], home: Path
) -> dict[str, str]:
    """The service's environment here: nothing of the user's own Prefect, Dask and buckets."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DASK_", "AWS_"))}
    said = {key: filled(str(value), given) for key, value in service.get("environment", {}).items()}
    own = {"PYTHONPATH": PATHS, "XDG_CACHE_HOME": str(home), "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}
    return kept | own | {key: places.get(value, value) for key, value in said.items()}
