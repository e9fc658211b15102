"""Which margin will do, where the graph alone does not say it: measured on crops of the scene, in a child process."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.budget import cores
from pipeline.child import Asked, Child, tried
from pipeline.errors import BlockError, DeviceError, ModelError
from pipeline.grid import Rect, Stitch
from pipeline.lay import rounded_up
from pipeline.network.card import Card
from pipeline.network.cuda import has_driver
from pipeline.network.engine import Engine, agreement
from pipeline.network.host import Recipe
from pipeline.network.rule import unit
from pipeline.pace import Pace, measured
from pipeline.plan import Kind, Margin, Network, digest_of
from pipeline.probe import Probe, noise, relaxed_difference, try_recipe
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene
from pipeline.remember import recalled, remember
from pipeline.settings import Precision
from pipeline.work import build_engine, fused_graph

ROUNDING = 1e-4  # the largest |Δp| between a fixed window and a larger one that holds it
TOLERANCE = 1e-3  # the largest |Δp| that a measured margin may have
CROPS = 6  # windows compared with their exact ones
TRIAL_READ = 1024  # px: a few tiles
AGREEMENT = 0.999  # of the pixels: what two devices, or precisions, owe each other
COMPARED = 512  # px: the side of a window that is compared with the CPU
TRIAL_CORE = 256  # px: small cores put more of the compared pixels near the rim


@dataclass(frozen=True, slots=True)
class Trial:
    """What is needed to run a network on any square of a scene; shift and factor hold one number for each band."""

    network: Network
    scene: Scene
    shift: tuple[float, ...]
    factor: tuple[float, ...]
    device: str
    precision: Precision = "fp32"

    def one_pass(self, crop: Rect, margin: int) -> NDArray[np.float32]:
        """What is said, (class, row, col) float32, of a square crop by one window that reaches `margin` further."""
        with Reader(self.scene) as reader:
            return self._said_of(crop, margin, reader, self._engine(crop.height + 2 * margin))

    def cores(self, margin: int) -> dict[Rect, NDArray[np.float32]]:
        """What is said of small cores over the scene that hold a valid pixel, each from a window of this margin."""
        side = rounded_up(TRIAL_CORE, self.network.field.stride)
        engine = self._engine(side + 2 * margin)
        with Reader(self.scene) as reader:
            places = [crop for crop in crops(self.scene, side) if reader.read(crop)[1].any()]
            return {crop: self._said_of(crop, margin, reader, engine) for crop in places}

    def _engine(self, window: int) -> Engine:
        recipe = Recipe(window, 0, 1, self.scene.dtype, Stitch.BLEND, precision=self.precision)
        return build_engine(self.network, recipe, self.device)

    def _said_of(self, crop: Rect, margin: int, reader: Reader, engine: Engine) -> NDArray[np.float32]:
        pixels, valid = reader.read(crop.grown(margin))
        shift, factor = np.array(self.shift, np.float32), np.array(self.factor, np.float32)
        said: NDArray[np.float32] = engine.run(pixels[None], valid[None], shift, factor)[self.network.card.answer][0]
        start = margin - self.network.field.offset
        return said[:, start : start + crop.height, start : start + crop.width]


class Tuner:
    """Measures once per job what a job's scenes share, in a child process."""

    def __init__(self, child: Asked | None = None, scenes: int = 1, beside: int | None = None) -> None:
        self._child = child or Child()
        self.scenes = scenes  # how many the job has
        self.beside = beside  # runs side by side in one of somebody else's workers, whose machine is not this one
        self._probes: dict[str, Probe] = {}
        self._margins: dict[str, Margin] = {}
        self._decoding: dict[str, float] = {}
        self._agreements: dict[str, float] = {}
        self._relaxable: set[tuple[str, int]] = set()

    def probe(self, network: Network, recipe: Recipe, device: str, batch: int | None) -> Probe:
        """Try a recipe; `batch` None lets the device decide it."""
        key = _key(network, device, recipe=repr(recipe), batch=batch)
        name = digest_of(key)
        if name not in self._probes:
            known = recalled("probes", key) if self._knows(device) else None
            self._probes[name] = Probe(**known) if known else self._probed(network, recipe, device, batch, key)
        return self._probes[name]

    def _probed(self, network: Network, recipe: Recipe, device: str, batch: int | None, key: dict[str, Any]) -> Probe:
        probe = tried(self._child, try_recipe, network, recipe, device, batch)
        if probe.device == "cuda":
            self._child.close()  # it would keep a part of the GPU
        elif self.beside is None:
            remember("probes", key, asdict(probe))
        return probe

    def paces(
        self, network: Network, recipes: Sequence[Recipe], device: str, at_once: int, seconds: float
    ) -> list[Pace]:
        """How fast the network is with each recipe: remembered, or measured for so many seconds; for none, nothing."""
        key = _key(network, device, recipes=repr(list(recipes)), at_once=at_once)
        known = recalled("paces", key) if self._knows(device) else None
        if known and known["seconds"] >= seconds / 2:  # measured about as well
            return [Pace(**pace) for pace in known["paces"]]
        if not seconds:
            return []
        found = tried(self._child, measured, network, recipes, device, at_once, seconds)
        if self.beside is None:
            remember("paces", key, {"seconds": seconds, "paces": [pace.as_dict() for pace in found]})
        return found

    def _knows(self, device: str) -> bool:
        """Whether what was measured on this machine holds for who does the work."""
        return self.beside is None and _surely_cpu(device)

    def decoding(self, scene: Scene) -> float:
        """Seconds that decoding a byte of a scene takes, measured once on tiles from its middle."""
        if scene.uri not in self._decoding:
            self._decoding[scene.uri] = tried(self._child, seconds_per_byte, scene)
        return self._decoding[scene.uri]

    def demand_relaxable(self, network: Network, window: int) -> None:
        """Raise ModelError where a network exported for one size says something else at the window's size."""
        key = network.digest, window
        if network.side in {None, window} or key in self._relaxable:
            return
        difference = tried(self._child, relaxed_difference, network, window)
        if difference is not None and difference > ROUNDING:
            raise ModelError(
                f"The network was exported for windows of {network.side} px; at {window} px it says something else: "
                f"|Δp| is {difference:.3g} where {ROUNDING} is rounding. Take a --window of {network.side}."
            )
        self._relaxable.add(key)

    def margin(self, trial: Trial, chosen: int | None) -> Margin:
        """Measure the disagreement of a chosen margin, or find the smallest that keeps the tolerance."""
        key = f"{trial.network.digest} {trial.device} {chosen}"
        if key not in self._margins:
            self._margins[key] = tried(self._child, try_margins, trial, chosen)
            if not _surely_cpu(trial.device):
                self._child.close()  # it has settled that it computes in fp32, which rounds least
        return self._margins[key]

    def agreement(self, trial: Trial, window: int) -> float:
        """Measure on which part of the scene's pixels a GPU, in the trial's precision, agrees with the CPU in fp32.

        Raises DeviceError where that is less than two devices owe each other.
        """
        key = f"{trial.network.digest} {trial.device} {trial.precision}"
        if key not in self._agreements:
            self._agreements[key] = tried(self._child, try_agreement, trial, window)
            self._child.close()  # as above
        share = self._agreements[key]
        if share >= AGREEMENT:
            return share
        said = f"agree on {share:.3%} of a probe's pixels, less than {AGREEMENT:.1%}"
        if trial.precision == "fp32":
            raise DeviceError(
                f"The GPU and the CPU {said}; run with `device: cpu`, and look for a newer driver or onnxruntime."
            )
        raise DeviceError(f"The GPU in {trial.precision} and the CPU in fp32 {said}; take `precision: fp32`.")


def _key(network: Network, device: str, **more: object) -> dict[str, Any]:
    """What a measurement of a network depends on, beside the machine."""
    how = repr((network.card, network.field, network.rim, network.scale))
    return {"model": network.digest, "used": how, "device": device, **more}


def _surely_cpu(device: str) -> bool:
    """Whether nothing would be tried on a GPU: of one that may be gone, or back, nothing is taken for granted."""
    return device == "cpu" or not has_driver()


def try_agreement(trial: Trial, window: int) -> float:
    """The part of the pixels on which the trial's device and precision agree with the CPU in fp32.

    Of windows spread over the scene, as the network will see it: noise would put most pixels near a decision. Noise
    where none holds a valid pixel. Windows are no larger than 512 px, if the network takes them so: the CPU is slow.
    To be called in a process of its own.
    """
    network = trial.network
    side, field = _side_to_compare(network, window), network.field
    recipe = Recipe(side, field.offset, 1, trial.scene.dtype, Stitch.EXACT, precision=trial.precision)
    ours = Engine(fused_graph(network, recipe), trial.device, precision=trial.precision)
    theirs = Engine(fused_graph(network, replace(recipe, precision="fp32")), "cpu", threads=cores())
    scaling = np.array(trial.shift, np.float32), np.array(trial.factor, np.float32)
    shares = []
    with Reader(trial.scene) as reader:
        for crop in crops(trial.scene, side):
            pixels, valid = reader.read(crop)
            if valid.any():
                windows = pixels[None], valid[None], *scaling
                shares.append(agreement(ours.run(*windows), theirs.run(*windows)))
    if not shares:
        windows = noise(ours, network, recipe)
        shares.append(agreement(ours.run(*windows), theirs.run(*windows)))
    return sum(shares) / len(shares)


def _side_to_compare(network: Network, window: int) -> int:
    """The run's window, or a smaller one that suits the network as well."""
    if not network.field.bounded:
        return network.side or min(window, COMPARED)
    return min(window, max(COMPARED // network.field.stride, 1) * network.field.stride)


def try_margins(trial: Trial, chosen: int | None) -> Margin:
    """Compare windows with smaller margins to windows with the exact one, over crops of the scene."""
    field = trial.network.field
    exact = trial.cores(field.margin)
    if not exact and chosen is None:
        return Margin(field.margin, Kind.EXACT, "the places looked at hold no valid pixel to measure a smaller one on")
    if chosen is not None:
        pixels = rounded_up(chosen, field.stride)
        why = f"{chosen} px were asked for; the network looks {field.reach} px to each side"
        return Margin(pixels, Kind.CHOSEN, why, _difference(trial.cores(pixels), exact, trial.network.card))
    for pixels in candidates(field.stride, field.margin, field.offset):
        difference = _difference(trial.cores(pixels), exact, trial.network.card)
        if difference <= TOLERANCE:
            why = f"the smallest tried within {TOLERANCE}; the exact {field.margin} px would more than double the work"
            return Margin(pixels, Kind.MEASURED, why, difference)
    return Margin(field.margin, Kind.EXACT, f"no smaller margin keeps |Δp| within {TOLERANCE}", 0.0)


def seconds_per_byte(scene: Scene) -> float:
    """How long it takes to decode a byte of a scene, in seconds; 0 where what was looked at cannot be read."""
    row, col = max(0, scene.height - TRIAL_READ) // 2, max(0, scene.width - TRIAL_READ) // 2
    rect = Rect(row, col, row + TRIAL_READ, col + TRIAL_READ).intersect(scene.rect)
    with Reader(scene) as reader:
        try:
            reader.read(Rect(row, col, row + 1, col + 1))  # opens the file
            before, started = reader.bytes_read, time.perf_counter()
            reader.read(rect)
        except BlockError:
            return 0.0
        return (time.perf_counter() - started) / max(reader.bytes_read - before, 1)


def candidates(stride: int, exact: int, least: int = 0) -> Iterator[int]:
    """Margins to try, in order: multiples of the stride from `least` on, about a quarter further apart each time."""
    pixels = rounded_up(max(stride, least), stride)
    while pixels < exact:
        yield pixels
        pixels += rounded_up(math.ceil(pixels / 4), stride)


def _difference(found: dict[Rect, NDArray[np.float32]], exact: dict[Rect, NDArray[np.float32]], card: Card) -> float:
    """The largest |Δp|, for values in parts of their range; 0 where there is nothing to compare."""
    largest = max((float(np.abs(core - exact[crop]).max()) for crop, core in found.items()), default=0.0)
    return largest / unit(exact.values(), card)


def crops(scene: Scene, side: int, count: int = CROPS) -> list[Rect]:
    """Squares of `side` px, their corners multiples of it, spread over the scene."""
    down, across = -(-scene.height // side), -(-scene.width // side)
    odd = range(1, 2 * count, 2)
    places = {(k * down // (2 * count), k * 5 % (2 * count) * across // (2 * count)) for k in odd}
    return [Rect(row * side, col * side, (row + 1) * side, (col + 1) * side) for row, col in sorted(places)]
