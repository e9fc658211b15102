"""What was measured, kept as one JSON file for each part and network as soon as it is there, and read again."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from tests.bench.envs import HOME

FOLDER = HOME / "results"


class Book:
    """One part's results: settings that must not change in between, and rounds that are added one by one.

    A book that was written with the same settings, on the same machine, goes on; another one is begun anew.
    """

    def __init__(self, part: str, network: str, settings: dict, command: str) -> None:
        self.path = FOLDER / f"{part}-{network}.json"
        begun = {"part": part, "network": network, "settings": settings, "machine": machine()}
        # As it will be read: tuples are lists.
        self.said: dict = json.loads(json.dumps(begun))
        if self.path.exists():
            before = json.loads(self.path.read_text(encoding="utf-8"))
            if all(before[key] == value for key, value in self.said.items()):
                self.said = before
        self.said.setdefault("command", command)
        self.said.setdefault("date", datetime.now(UTC).date().isoformat())
        self.said.setdefault("rounds", [])

    def note(self, **found: object) -> None:
        """Add what was found and write the file."""
        self.said.update(found)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.said, indent=1), encoding="utf-8")
        part.replace(self.path)

    def add(self, figures: dict) -> None:
        """One more round: the figures of each peer."""
        self.note(rounds=[*self.said["rounds"], figures])


def machine() -> dict:
    """What the numbers were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("maskmill", "onnx", "rasterio", "zarr", "dask")},
    }


def _cpu() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def medians(rounds: list[dict]) -> dict[str, dict[str, float]]:
    """For each peer the median of each of its figures, over the rounds that have it."""
    peers = dict.fromkeys(name for one in rounds for name in one)
    return {peer: _median([one[peer] for one in rounds if peer in one]) for peer in peers}


def _median(figures: list[dict]) -> dict[str, float]:
    keys = dict.fromkeys(key for one in figures for key in one)
    return {key: median(one[key] for one in figures if key in one) for key in keys}


def ratios(rounds: list[dict], figure: str, to: str = "maskmill") -> dict[str, float]:
    """How many times the figure of `to` each peer's is: the median over rounds of the ratio within a round.

    What the machine does to one round it does to all of its peers, so the ratios are steadier than the seconds.
    """
    peers = dict.fromkeys(name for one in rounds for name in one if figure in one[name])
    found = {}
    for peer in peers:
        both = [one for one in rounds if figure in one.get(peer, {}) and figure in one.get(to, {})]
        if both:
            found[peer] = median(one[peer][figure] / one[to][figure] for one in both)
    return found
