"""What is asked of the GPU's benchmark, and the sheet on which its figures are kept as they come."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.network.cuda import gpu_count, gpu_name
from tests.bench.envs import HOME
from tests.bench.results import machine


@dataclass(frozen=True)
class Asked:
    """The sizes and ways to measure, the first of each the most telling; `each` is seconds for one figure."""

    device: str
    precisions: tuple[str, ...]
    windows: tuple[int, ...]
    batches: tuple[int, ...]
    gigapixels: float
    seconds: float
    each: float
    compress: str = "NONE"
    flag: str = "threads"
    threads: tuple[int, ...] = ()
    more: str = ""
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, given: Namespace) -> Asked:
        names = ("precisions", "windows", "batches", "gigapixels", "seconds", "compress", "flag", "threads", "more")
        return cls(device="cuda", each=1.0, **{name: getattr(given, name) for name in names})

    @classmethod
    def small(cls, seconds: float) -> Asked:
        """A rehearsal's."""
        return cls("cpu", ("fp16", "fp32"), (80, 112), (2, 1), 0.0003, seconds, 0.05, threads=(1, 2))

    @classmethod
    def from_json(cls, text: str) -> Asked:
        return cls(**{name: tuple(one) if isinstance(one, list) else one for name, one in json.loads(text).items()})

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def in_time(self) -> bool:
        """Whether there is time to begin something new."""
        return time.monotonic() - self.began < self.seconds

    def anew(self) -> Asked:
        """The same, from now on."""
        return Asked.from_json(json.dumps(asdict(self) | {"began": time.monotonic()}))


class Sheet:
    """A part's figures: a JSON file that is whole at any moment."""

    def __init__(self, part: str, rehearsal: bool = False, path: Path | None = None) -> None:
        folder = Path(os.environ.get("OUT") or HOME / "results")
        self.path = path or folder / f"gpu-{part}{'-rehearsal' if rehearsal else ''}.json"
        said = json.loads(self.path.read_text()) if path and path.exists() else {}
        self.said: dict = said or {"part": part, "machine": machine() | {"gpu": gpu_name(), "gpus": gpu_count()}}
        self.note()

    def note(self, **found: object) -> None:
        self.said.update(found)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.said, indent=1, default=str), encoding="utf-8")
        part.replace(self.path)

    def row(self, table: str, **figures: object) -> None:
        """Add a row to a table, and print it."""
        self.said.setdefault(table, []).append(figures)
        self.note()
        told = [f"{key} {_short(value)}" for key, value in figures.items() if key != "card"]
        print("  " + "  ".join(told), flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
