"""What the benchmark was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """The flags; None where they were not given."""

    rounds: int
    megapixels: float | None
    peers: tuple[str, ...]
    ukis: Path | None
    command: str
