"""A model by its content: from the file that a job names, or from bytes that were sent here once and kept.

A worker on another machine need not reach the file. What it lacks is sent to it, lies in the user's cache under the
network's digest, and is believed only where it has that digest.
"""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from onnx import ModelProto

from pipeline.errors import LackingError, ModelError
from pipeline.network.digest import model_digest
from pipeline.network.model_file import load_model
from pipeline.store.objects import put_whole


def caches() -> Path:
    """The user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maskmill"


def model_of(path: Path, digest: str) -> ModelProto:
    """The network of a digest, from the file at `path` or from what was sent. Raises LackingError where neither has it.

    Raises ModelError where the file cannot be read.
    """
    what = "is not there"
    if path.is_file():
        model = load_model(path)
        if (found := model_digest(model)) == digest:
            return model
        what = f"has changed since the run was planned: {found[:12]} now, {digest[:12]} then"
    if _kept(digest).is_file():
        return _sent(digest)
    raise LackingError(f"The model {path} {what}. Put the old file back, or run with --overwrite.")


def lacks(path: Path, digest: str) -> bool:
    """Whether this process would need to be sent a network. Raises ModelError where its file cannot be read."""
    try:
        model_of(path, digest)
    except LackingError:
        return True
    return False


def carried(path: Path, digest: str) -> bytes:
    """The bytes of a network, weights and all, to be sent. Raises LackingError or ModelError like `model_of`."""
    data: bytes = model_of(path, digest).SerializeToString()
    return data


def keep(data: bytes, digest: str) -> None:
    """Keep a network that was sent. Raises ModelError, keeping nothing, where its digest is another."""
    try:
        found = model_digest(ModelProto.FromString(data))
    except (DecodeError, ValueError, TypeError):
        found = "no model"
    if found != digest:
        raise ModelError(f"The model that was sent here is {found[:12]}, not {digest[:12]}: it was damaged on its way.")
    put_whole(_kept(digest), data)


def _sent(digest: str) -> ModelProto:
    """What was kept. One that is damaged is removed, and lacks from then on."""
    file = _kept(digest)
    try:
        model = load_model(file)
        if model_digest(model) == digest:
            return model
    except ModelError:
        pass
    file.unlink(missing_ok=True)
    raise LackingError(f"The model {digest[:12]} in {file.parent} is damaged; run again to have it sent anew.")


def _kept(digest: str) -> Path:
    return caches() / "models" / f"{digest}.onnx"
