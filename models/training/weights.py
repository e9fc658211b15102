"""Weights to begin with, out of a file that the user gives: safetensors, or what `torch.save` wrote of tensors alone.

Nothing of such a file runs: torch reads it with `weights_only`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.store.objects import sha256_at


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """(tensors by name, the file's digest). Raises ModelError where the file holds none, or more than tensors."""
    if not path.is_file():
        raise ModelError(f"There is no file {path}.")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else _torch_file(path)
    except Exception as error:  # noqa: BLE001  # a stranger's file may make anything of its reader
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} holds no weights that can be read safely: {reason}") from None
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{path} holds no tensors by name: give a network's state, not the whole of a training.")
    return tensors, sha256_at(path)[1]


def _torch_file(path: Path) -> dict[str, object]:
    found = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):  # what many makers put around it
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}")
    return {str(name): value for name, value in found.items()}
