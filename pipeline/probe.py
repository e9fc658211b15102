"""One window, tried before a run: what really runs it, how much memory that takes, how long.

It happens in a child process, see `pipeline.child`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.budget import peak_memory, restart_peak
from pipeline.errors import BlockError, ModelError
from pipeline.grid import Stitch
from pipeline.network.engine import Engine, largest_batch
from pipeline.network.host import Recipe
from pipeline.network.providers import CUDA
from pipeline.network.rule import unit
from pipeline.plan import Network
from pipeline.work import build_engine

Windows = tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]

GPU_BATCH = 8
RUNS, LONG_ENOUGH = 3, 0.2  # at most so many, or until so many seconds are measured; the engine is warm


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


def try_recipe(network: Network, recipe: Recipe, device: str, batch: int | None) -> Probe:
    """Build the fused graph and run it on noise; to be called in a process of its own.

    Raises ModelError where the network does not run on such a window, DeviceError where the device is not to be had.
    """
    restart_peak()
    rest = peak_memory()
    first = build_engine(network, replace(recipe, batch=1), device)
    wanted = batch or (GPU_BATCH if first.provider == CUDA else 1)
    try:
        engine, note = largest_batch(
            lambda size: first if size == 1 else build_engine(network, replace(recipe, batch=size), device), wanted
        )
        seconds = _seconds_per_window(engine, network, recipe)
    except BlockError as error:
        raise ModelError(
            f"The network does not run on a window of {recipe.window} px: {error.message} Another --window may do."
        ) from None
    return Probe(
        device="cuda" if engine.provider == CUDA else "cpu",
        numeric_class=engine.numeric_class,
        provider=engine.provider,
        fallback=engine.fallback,
        note=note,
        batch=engine.batch,
        rest=rest,
        peak=peak_memory(),
        seconds=seconds,
    )


def relaxed_difference(network: Network, window: int) -> float | None:
    """How much a network of fixed size changes when it is given another: the largest |Δp| on noise, on the CPU.

    For values it is in parts of their range.

    The larger of the two windows is compared with one of the smaller, placed inside it at a multiple of the stride, a
    reach from the smaller's rim. None where nothing is left to compare. To be called in a process of its own.
    """
    side, reach, stride = network.side or window, network.field.reach, network.field.stride
    small, large = sorted((side, window))
    if small <= 2 * reach:
        return None
    offset = (large - small) // 2 // stride * stride
    pixels = np.random.default_rng(0).random((len(network.card.bands), large, large), np.float32)
    part = pixels[:, offset : offset + small, offset : offset + small]
    whole, alone = _said_of(network, pixels), _said_of(network, np.ascontiguousarray(part))
    from_rim = reach - network.field.offset
    inside = slice(from_rim, from_rim + small - 2 * reach)
    placed = slice(offset + from_rim, offset + from_rim + small - 2 * reach)
    difference = float(np.abs(whole[:, placed, placed] - alone[:, inside, inside]).max())
    return difference / unit([alone], network.card)


def _said_of(network: Network, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is said (class, row, col) of one window of pixels (band, row, col) that are scaled already."""
    bands, side, _ = pixels.shape
    recipe = Recipe(side, 0, 1, "float32", Stitch.BLEND)
    as_is = np.zeros(bands, np.float32), np.ones(bands, np.float32)
    said = build_engine(network, recipe, "cpu").run(pixels[None], np.ones((1, side, side), np.bool_), *as_is)
    answer: NDArray[np.float32] = said[network.card.answer][0]
    return answer


def _seconds_per_window(engine: Engine, network: Network, recipe: Recipe) -> float:
    windows = noise(engine, network, recipe)
    taken: list[float] = []
    while len(taken) < RUNS and sum(taken) < LONG_ENOUGH:
        start = time.perf_counter()
        engine.run(*windows)
        taken.append(time.perf_counter() - start)
    return median(taken) / engine.batch


def noise(engine: Engine, network: Network, recipe: Recipe) -> Windows:
    """A batch of windows of noise, as it looks after scaling to about −1 to 1."""
    bands, side = len(network.card.bands), engine.window
    pixels = np.random.default_rng(0).integers(0, 128, (engine.batch, bands, side, side)).astype(recipe.dtype)
    valid = np.ones((engine.batch, side, side), np.bool_)
    return pixels, valid, np.full(bands, 64, np.float32), np.full(bands, 1 / 64, np.float32)
