"""What has to be measured before a run: memory and speed of one window, what really runs it, and which margin will do.

All of it happens in a child process, which gives back its memory and cannot take the coordinator with it when it dies.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.budget import peak_memory
from pipeline.errors import RoomError, SettingsError
from pipeline.grid import Rect, Stitch
from pipeline.network.engine import Engine
from pipeline.network.host import Recipe
from pipeline.plan import Kind, Margin, Network, rounded_up
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene
from pipeline.work import build_engine

Result = TypeVar("Result")

TOLERANCE = 1e-3  # the largest |Δp| that a measured margin may have
CROPS = 6  # windows compared with their exact ones
TRIAL_CORE = 256  # px: small cores put more of the compared pixels near the rim
GPU_BATCH = 8
PROBE_RUNS = 3  # the first also warms up


@dataclass(frozen=True, slots=True)
class Probe:
    """One recipe, tried in a child process. Bytes and seconds are of that process; `rest` is it without a session."""

    device: str
    numeric_class: str
    provider: str
    fallback: str | None
    note: str | None
    batch: int
    rest: int
    peak: int
    seconds: float  # per window, the median


def in_child(work: Callable[..., Result], *args: object) -> Result:
    """Run a module's function in a fresh process and return its result, or raise its error."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *args).result()
        except BrokenProcessPool:
            raise RoomError(
                "The process that tried one window was ended by the system, most likely for its memory. "
                "Take a smaller --window or --batch."
            ) from None


@dataclass(frozen=True, slots=True)
class Trial:
    """What is needed to run a network on any square of a scene; shift and factor hold one number for each band."""

    network: Network
    scene: Scene
    shift: tuple[float, ...]
    factor: tuple[float, ...]
    device: str

    def one_pass(self, crop: Rect, margin: int) -> NDArray[np.float32]:
        """Probabilities (class, row, col) float32 of a square crop, from one window that reaches `margin` further."""
        window = crop.grown(margin)
        recipe = Recipe(window.height, 0, 1, self.scene.dtype, Stitch.BLEND, confidence=False, probabilities=False)
        with Reader(self.scene) as reader:
            pixels, valid = reader.read(window)
        engine = build_engine(self.network, recipe, self.device)
        said = engine.run(
            pixels[None], valid[None], np.array(self.shift, np.float32), np.array(self.factor, np.float32)
        )
        probabilities: NDArray[np.float32] = said["probabilities"][0]
        return probabilities[:, margin : margin + crop.height, margin : margin + crop.width]

    def cores(self, margin: int) -> dict[Rect, NDArray[np.float32]]:
        """The probabilities of small cores over the scene, each from a window with this margin."""
        side = rounded_up(TRIAL_CORE, self.network.field.stride)
        return {crop: self.one_pass(crop, margin) for crop in crops(self.scene, side)}


class Tuner:
    """Measures once per job what a job's scenes share."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = tuple(preload)  # modules that a worker holds beside the pipeline
        self._probes: dict[tuple[object, ...], Probe] = {}
        self._margins: dict[str, Margin] = {}

    def probe(self, network: Network, recipe: Recipe, device: str, batch: int | None) -> Probe:
        """Try a recipe; `batch` None lets the device decide it."""
        key = (network.digest, recipe, device, batch, repr(network.card))
        if key not in self._probes:
            self._probes[key] = in_child(try_recipe, network, recipe, device, batch, self._preload)
        return self._probes[key]

    def margin(self, trial: Trial, chosen: int | None) -> Margin:
        """Measure the disagreement of a chosen margin, or find the smallest that keeps the tolerance."""
        key = f"{trial.network.digest} {trial.device} {chosen}"
        if key not in self._margins:
            self._margins[key] = in_child(try_margins, trial, chosen)
        return self._margins[key]


def try_recipe(network: Network, recipe: Recipe, device: str, batch: int | None, preload: Sequence[str]) -> Probe:
    """Build the fused graph and run it; to be called in a process of its own."""
    for name in preload:
        importlib.import_module(name)
    rest = peak_memory()
    note = None
    engine = build_engine(network, replace(recipe, batch=batch or 1), device)
    if batch is None and engine.provider == "CUDAExecutionProvider":
        batch = GPU_BATCH
        engine = build_engine(network, replace(recipe, batch=batch), device)
    batch = batch or 1
    try:
        seconds = _seconds_per_window(engine, network, recipe, batch)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's have no common class; each becomes a sentence or a batch of 1
        if batch == 1:
            raise SettingsError(
                f"The network does not run on a window of {recipe.window} px: {' '.join(str(error).split())[:300]} "
                "Another --window may do."
            ) from None
        note = f"the network refuses a batch of {batch}, so windows go one at a time"
        batch, engine = 1, build_engine(network, replace(recipe, batch=1), device)
        seconds = _seconds_per_window(engine, network, recipe, 1)
    return Probe(
        device="cuda" if engine.provider == "CUDAExecutionProvider" else "cpu",
        numeric_class=engine.numeric_class,
        provider=engine.provider,
        fallback=engine.fallback,
        note=note,
        batch=batch,
        rest=rest,
        peak=peak_memory(),
        seconds=seconds,
    )


def _seconds_per_window(engine: Engine, network: Network, recipe: Recipe, batch: int) -> float:
    bands = len(network.card.bands)
    pixels = np.ones((batch, bands, recipe.window, recipe.window), recipe.dtype)
    valid = np.ones((batch, recipe.window, recipe.window), np.bool_)
    zeros, ones = np.zeros(bands, np.float32), np.ones(bands, np.float32)
    taken = []
    for _ in range(PROBE_RUNS):
        start = time.perf_counter()
        engine.run(pixels, valid, zeros, ones)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2] / batch


def try_margins(trial: Trial, chosen: int | None) -> Margin:
    """Compare windows with smaller margins to windows with the exact one, over crops of the scene."""
    field = trial.network.field
    exact = trial.cores(field.margin)
    if chosen is not None:
        pixels = rounded_up(chosen, field.stride)
        why = f"{chosen} px were asked for; the network looks {field.reach} px to each side"
        return Margin(pixels, Kind.CHOSEN, why, _difference(trial.cores(pixels), exact))
    for pixels in candidates(field.stride, field.margin):
        difference = _difference(trial.cores(pixels), exact)
        if difference <= TOLERANCE:
            why = f"the smallest tried within {TOLERANCE}; the exact {field.margin} px would more than double the work"
            return Margin(pixels, Kind.MEASURED, why, difference)
    return Margin(field.margin, Kind.EXACT, f"no smaller margin keeps |Δp| within {TOLERANCE}", 0.0)


def candidates(stride: int, exact: int) -> Iterator[int]:
    """Margins to try, in order: multiples of the stride, about a quarter further apart each time."""
    pixels = stride
    while pixels < exact:
        yield pixels
        pixels += rounded_up(math.ceil(pixels / 4), stride)


def _difference(found: dict[Rect, NDArray[np.float32]], exact: dict[Rect, NDArray[np.float32]]) -> float:
    """The largest |Δp|."""
    return max(float(np.abs(core - exact[crop]).max()) for crop, core in found.items())


def crops(scene: Scene, side: int, count: int = CROPS) -> list[Rect]:
    """Squares of `side` px, their corners multiples of it, spread over the scene."""
    down, across = -(-scene.height // side), -(-scene.width // side)
    odd = range(1, 2 * count, 2)
    places = {(k * down // (2 * count), k * 5 % (2 * count) * across // (2 * count)) for k in odd}
    return [Rect(row * side, col * side, (row + 1) * side, (col + 1) * side) for row, col in sorted(places)]
