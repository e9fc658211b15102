"""What was measured of a network on this machine, kept in the user's cache: the next run need not measure it again.

Nothing here decides a pixel. A cache that cannot be written, or that is damaged, is as good as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime as ort

from pipeline.carried import caches
from pipeline.network.providers import instruction_set, processor
from pipeline.plan import digest_of


def machine() -> dict[str, Any]:
    """What a measurement holds for, beside the network: the processor, and the versions that measured."""
    return {
        "processor": processor(),
        "instructions": instruction_set(),
        "onnxruntime": ort.__version__,
        "maskmill": version("maskmill"),
    }


def recalled(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was remembered under a key, plain data, on such a machine; None where nothing was."""
    with suppress(OSError, ValueError):
        said = json.loads(_file(kind, key).read_bytes())
        if isinstance(said, dict):
            return said
    return None


def remember(kind: str, key: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Keep plain data under a key."""
    file = _file(kind, key)
    partial = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(said), encoding="utf-8")
        partial.replace(file)


def _file(kind: str, key: Mapping[str, Any]) -> Path:
    return caches() / kind / f"{digest_of({**machine(), **key})}.json"
