"""Checkpoints: a network's weights, its card and where training stood, in one file of safetensors. Nothing runs.

The file's header holds one JSON document beside the tensors' places; a digest over it and over all tensors tells a
damaged file from a whole one, which safetensors does not. Written whole: a kill leaves the old file or the new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from models.architecture import Architecture
from pipeline.errors import MaskmillError, ModelError
from pipeline.network.card import Card
from pipeline.store.objects import put_whole

FORMAT = 1
_KEY = "maskmill"  # of the document, among the header's metadata


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained network.

    Parameters
    ----------
    architecture
        What `Architecture.of` reads.
    card
        What the network eats and says.
    weights
        The network's state by name, on the CPU.
    epoch
        How often it has seen its training data.
    scores
        What it reached on what was held out, by name.

    """

    architecture: str
    card: Card
    weights: dict[str, Tensor]
    epoch: int = 0
    scores: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file, whole. Raises like `put_whole`."""
        said = {
            "architecture": self.architecture,
            "card": self.card.model_dump(mode="json"),
            "epoch": self.epoch,
            "scores": self.scores,
        }
        put_sealed(path, "checkpoint", self.weights, said)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read the file. Raises ModelError where it is damaged, or is none of ours."""
        weights, said = opened(path, "checkpoint")
        try:
            Architecture.of(said["architecture"])
            card = Card.of(said["card"], str(path))
            return cls(said["architecture"], card, weights, int(said["epoch"]), dict(said["scores"]))
        except (KeyError, TypeError, ValueError, MaskmillError) as error:
            raise ModelError(f"{path} is not a whole checkpoint: {error}") from None


def put_sealed(path: Path, kind: str, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
    """Write tensors and a JSON document as one file of safetensors. Raises like `put_whole`."""
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # ^ safetensors refuses tensors that share their memory.
    text = json.dumps({"kind": kind, "format": FORMAT, **said}, sort_keys=True)
    put_whole(path, save(whole, {_KEY: text, "digest": _digest(text, whole)}))


def opened(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `put_sealed` wrote: (tensors, document).

    Raises ModelError where there is no such file, where it is damaged, of another kind or format, or none of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a whole {kind}: {error}. Take the file from before, or train again.") from None
    if _KEY not in metadata:
        raise ModelError(f"{path} holds tensors and no word of maskmill's: it is not a {kind} that maskmill wrote.")
    if metadata.get("digest") != _digest(metadata[_KEY], tensors):
        raise ModelError(f"{path} is damaged: its digest is not that of its bytes. Train again, or take a copy.")
    said: dict[str, Any] = json.loads(metadata[_KEY])
    if (said.get("kind"), said.get("format")) != (kind, FORMAT):
        raise ModelError(
            f"{path} is a {said.get('kind')} of format {said.get('format')}, and a {kind} of format {FORMAT} is read "
            "here; use the maskmill that wrote it."
        )
    return tensors, said


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the document, then of each tensor's name, type, shape and bytes, by name."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(uint8).numpy().data)
    return digest.hexdigest()
