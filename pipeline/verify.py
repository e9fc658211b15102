"""The proof of a finished result: blocks computed again, and windows against one pass over a crop of several."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.child import in_child
from pipeline.errors import IdentityError, SettingsError
from pipeline.folder import Folder
from pipeline.grid import Rect, Stitch
from pipeline.network.rule import classes_of, unit
from pipeline.plan import Plan, demand_same
from pipeline.predict import Stopwatch, predict_block
from pipeline.settle import Settled
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from pipeline.store.sink import Sink
from pipeline.tune import Trial
from pipeline.work import bench, close_bench

AGREEMENT = 0.999  # of the pixels, between two numeric classes
APART = 2e-2  # |Δp|, or the part of their range that values may be apart, between two numeric classes
PIECE = 2048  # px: the side of what is compared at once
_COMPARED = ("mask", "values")  # also between two numeric classes
CROP = 1024  # px: the largest crop that is done in one pass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a verification. `agreement` is the part of pixels that are the same; differences are |Δp|,
    for values in parts of their range.
    """

    scene: str
    same_class: bool
    numeric_class: str
    blocks: tuple[int, ...]
    pixels: int
    differing: int
    crop: tuple[int, int, int, int] | None
    crop_difference: float | None
    crop_flips: int | None
    sentence: str
    exit_code: int

    @property
    def agreement(self) -> float:
        """The part of the recomputed pixels that are the same."""
        return 1 - self.differing / self.pixels if self.pixels else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "agreement": self.agreement}


def verify(settled: Settled, folder: Folder, sample: int, seed: int | None = None) -> Verdict:
    """Compute a random sample of blocks again and compare; then prove a crop.

    On the numeric class that made the result every pixel must be the same; on another, and on a GPU, which takes its
    sums by the batch and the memory at hand, 99.9 %. Raises IdentityError
    where the sources, the model or the settings have changed since, SettingsError where nothing is done yet.
    """
    had = folder.choices()
    if had is None:
        raise SettingsError(f"{folder.path} holds no result of maskmill; name a scene's folder, such as out/scene.")
    plan = settled.plan.on(str(folder.store))
    same_class = had[0]["numeric class"] == plan.identity["numeric class"]
    demand_same({**had[0], "numeric class": None}, {**plan.identity, "numeric class": None}, str(folder.path))
    _, fold = read_ledger(folder.ledger)
    done = fold.of(State.DONE).tolist()
    if not done:
        raise SettingsError(f"{folder.path} has no block that is done, so there is nothing to verify yet.")
    blocks = tuple(sorted(random.Random(seed).sample(done, min(sample, len(done)))))  # noqa: S311 - a sample, no secret
    again, crop = in_child(compare, plan, blocks, same_class and plan.choices.device == "cpu")
    return judged(plan, same_class, blocks, again, crop)


def judged(
    plan: Plan, same_class: bool, blocks: tuple[int, ...], again: tuple[int, int], crop: tuple[Rect, float, int] | None
) -> Verdict:
    """Say what the (pixels, pixels that differ) of blocks and the (crop, |Δp|, flips) of a crop mean."""
    pixels, differing = again
    exact, because = same_class and plan.choices.device == "cpu", "a GPU" if same_class else "another numeric class"
    agreed = differing == 0 if exact else differing <= (1 - AGREEMENT) * pixels
    demanded = "equality" if exact else f"agreement of {AGREEMENT:.1%}, as {because} made it"
    said = f"{len(blocks)} blocks computed again: {differing} of {pixels} pixels differ ({demanded} was asked for); "
    proven = True
    if crop is None:
        said += "windows blend, so no crop is proved"
    else:
        place, difference, flips = crop
        proven = not plan.margin.exact or difference <= _allowed(plan)
        said += f"windows and one pass over {place.height} × {place.width} px differ by {difference:.3g}, {flips} flip"
    return Verdict(
        scene=plan.scene.name,
        same_class=same_class,
        numeric_class=plan.choices.numeric_class,
        blocks=blocks,
        pixels=pixels,
        differing=differing,
        crop=(crop[0].top, crop[0].left, crop[0].bottom, crop[0].right) if crop else None,
        crop_difference=crop[1] if crop else None,
        crop_flips=crop[2] if crop else None,
        sentence=said + ("." if agreed and proven else ". This result is NOT what its inputs make."),
        exit_code=0 if agreed and proven else 1,
    )


def _allowed(plan: Plan) -> float:
    """|Δp| that an exact margin may show: none on the CPU, rounding where interpolation or a GPU rounds."""
    if plan.choices.device != "cpu":
        return APART
    return 1e-4 if plan.margin.kind.value.endswith("rounding") else 0.0


def compare(plan: Plan, blocks: tuple[int, ...], exact: bool) -> tuple[tuple[int, int], tuple[Rect, float, int] | None]:
    """What `compare_blocks` says and, unless windows blend, `compare_crop`; to be called in a process of its own."""
    again = compare_blocks(plan, blocks, exact)
    return again, compare_crop(plan, blocks[0]) if plan.grid.stitch is Stitch.EXACT else None


def compare_blocks(plan: Plan, blocks: tuple[int, ...], exact: bool) -> tuple[int, int]:
    """(pixels, pixels that differ) of blocks computed again.

    Where `exact`, a pixel is the same where all products are; else their steps may round otherwise, and the mask is
    compared alone; values may then be apart by a small part of their range.
    """
    sink, pixels, differing = Sink(Path(plan.store)), 0, 0
    for block in blocks:
        owned = plan.grid.owned(block)
        again = predict_block(bench(plan), block, Stopwatch()).rasters
        differs = np.zeros(owned.shape, np.bool_)
        for name, raster in again.items():
            if exact or name in _COMPARED:
                differs |= _differ(name, raster, sink.read(name, owned), exact)
        differing += int(np.count_nonzero(differs))
        pixels += owned.area
    close_bench()
    return pixels, differing


def compare_stores(had: Path, made: Path, exact: bool) -> tuple[int, int]:
    """(pixels, pixels that differ) of the masks, or the values, of two hierarchies; `exact` as above.

    Raises IdentityError where they have not the same product of the same size, BlockError for a damaged shard.
    """
    sinks = Sink(had), Sink(made)
    name = next((one for one in _COMPARED if (made / one).is_dir()), _COMPARED[0])
    shapes = [sink.shape(name) for sink in sinks]
    if shapes[0] != shapes[1]:
        raise IdentityError(f"{had} is {_sides(shapes[0])}, and what is made of its image now {_sides(shapes[1])}.")
    *_, height, width = shapes[0]
    differing = 0
    for top in range(0, height, PIECE):
        for left in range(0, width, PIECE):
            piece = Rect(top, left, min(top + PIECE, height), min(left + PIECE, width))
            differ = _differ(name, sinks[1].read(name, piece), sinks[0].read(name, piece), exact)
            differing += int(np.count_nonzero(differ))
    return height * width, differing


def _sides(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _differ(name: str, raster: NDArray[Any], had: NDArray[Any], exact: bool) -> NDArray[np.bool_]:
    """Where two rasters of a product differ, in any of their bands: (row, col)."""
    if exact or name == "mask":
        there = (raster != had) & ~(np.isnan(raster) & np.isnan(had))
    else:
        there = _far_apart(raster, had)
    differ: NDArray[np.bool_] = there.reshape(-1, *there.shape[-2:]).any(axis=0)
    return differ


def _far_apart(raster: NDArray[np.float32], had: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where values differ by more than two numeric classes may; where both are none they do not."""
    numbers = had[np.isfinite(had)]
    span = float(np.ptp(numbers)) if numbers.size else 0.0
    apart: NDArray[np.bool_] = ~np.isclose(raster, had, rtol=0, atol=APART * (span or 1.0), equal_nan=True)
    return apart


def compare_crop(plan: Plan, block: int) -> tuple[Rect, float, int]:
    """A crop around a block's first cores, in one pass and window by window: (crop, largest |Δp|, flipped pixels)."""
    grid, card = plan.grid, plan.network.card
    first = next(iter(grid.windows(block))).grown(-grid.margin)
    cores = max(1, min(CROP // grid.core, 2))
    crop = Rect(first.top, first.left, first.top + cores * grid.core, first.left + cores * grid.core)
    choices, precision = plan.choices, plan.recipe.precision
    trial = Trial(plan.network, plan.view, choices.shift, choices.factor, choices.device, precision)
    whole = trial.one_pass(crop, max(grid.margin, plan.network.field.margin))
    greatest, flips = 0.0, 0
    for top in range(crop.top, crop.bottom, grid.core):
        for left in range(crop.left, crop.right, grid.core):
            core = Rect(top, left, top + grid.core, left + grid.core)
            part = trial.one_pass(core, grid.margin)
            reference: NDArray[np.float32] = whole[:, *core.slices(crop)]
            greatest = max(greatest, float(np.abs(part - reference).max()))
            flipped = classes_of(part, card) != classes_of(reference, card)
            flips += int(np.count_nonzero(flipped.reshape(-1, *flipped.shape[-2:]).any(axis=0)))
    return crop, greatest / unit([whole], card), flips
