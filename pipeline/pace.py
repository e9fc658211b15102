"""How fast a network is at several sizes of window, measured with as many runs side by side as there are workers.

Only where windows decide no pixel. One run has one thread, so that sums have one order; runs side by side share the
caches and the way to memory, so that what is fastest alone is often not what is fastest together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from pipeline.budget import allowed, peak_memory, restart_peak
from pipeline.errors import BlockError, ModelError
from pipeline.network.host import Recipe
from pipeline.plan import Network
from pipeline.probe import noise
from pipeline.work import build_engine

ROUNDS = 5  # at most; each tries every size once
HOPELESS = 1.3  # times the least seconds per pixel: not tried again
CLEARLY = 0.97  # of the best rate: what is not below it is as good


@dataclass(frozen=True, slots=True)
class Pace:
    """The side of a core in pixels, windows in one run, runs side by side, and the megapixels kept in a second."""

    core: int
    batch: int
    at_once: int
    rate: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def measured(network: Network, recipes: Sequence[Recipe], device: str, at_once: int, seconds: float) -> list[Pace]:
    """Run noise through windows of several sizes for about so many seconds; to be called in a child process.

    The first recipe is measured in any case; of the others those that are expected to fit into the time and, by the
    first one's memory, into half of what is free. What a size fails of is left out. Where there is time, the
    best is measured with half as many runs side by side, too. Raises what the first recipe fails of.
    """
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(at_once) as pool:
        racers = [_Racer(network, recipes[0], device, pool, at_once)]
        first = racers[0]
        for recipe in recipes[1:]:
            times = recipe.batch * recipe.window**2 / (first.recipe.batch * first.recipe.window**2)
            soon = time.monotonic() + 3 * first.turn() * times < until  # once to warm up, once to measure, once again
            if soon and first.bytes * times * at_once < allowed(None) / 2:
                try:
                    racers.append(_Racer(network, recipe, device, pool, at_once))
                except (BlockError, ModelError):
                    continue
        for _ in range(ROUNDS):
            best = max(racer.pace(at_once).rate for racer in racers)
            for racer in racers:
                if racer.pace(at_once).rate * HOPELESS >= best and time.monotonic() + racer.turn() < until:
                    racer.run(at_once)
        found = [racer.pace(at_once) for racer in racers]
        if at_once > 1 and time.monotonic() < until:
            winner = max(racers, key=lambda racer: racer.pace(at_once).rate)
            found.append(winner.run(at_once // 2))
    return found


def fastest(paces: Sequence[Pace]) -> Pace:
    """The one to take: the first, which is what is taken unmeasured, unless another is clearly faster."""
    best = max(paces, key=lambda pace: pace.rate)
    return best if paces[0].rate < CLEARLY * best.rate else paces[0]


class _Racer:
    """One size, ready to run and warm; `bytes` is what one run takes."""

    def __init__(self, network: Network, recipe: Recipe, device: str, pool: ThreadPoolExecutor, at_once: int) -> None:
        self.recipe = recipe
        self._pool = pool
        restart_peak()
        before = peak_memory()
        self._engine = build_engine(network, recipe, device)
        self._windows = noise(self._engine, network, recipe)
        self._engine.warm()
        self.bytes = peak_memory() - before
        self._turns: dict[int, list[float]] = {}
        self.run(at_once)

    def run(self, at_once: int) -> Pace:
        """Take one turn with so many runs side by side."""
        started = time.perf_counter()
        list(self._pool.map(lambda _: self._engine.run(*self._windows), range(at_once)))
        self._turns.setdefault(at_once, []).append(time.perf_counter() - started)
        return self.pace(at_once)

    def pace(self, at_once: int) -> Pace:
        """What its turns say."""
        kept = at_once * self.recipe.batch * self.recipe.core**2
        return Pace(self.recipe.core, self.recipe.batch, at_once, kept / 1e6 / median(self._turns[at_once]))

    def turn(self) -> float:
        """How long its last turn took, in seconds."""
        return next(reversed(self._turns.values()))[-1]
