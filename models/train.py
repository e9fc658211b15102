"""Trains a network of the zoo: `python -m models.train earth-water --out FILE.onnx [--steps N] [--seed S]`.

On one machine the same seed gives the same weights: one thread, and every random number from one generator. The half of
the globe that is held out is looked at once, after training, for the scores that the card states.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models import earth_water
from models.crops import IGNORED, Crops
from models.earth_water_score import score
from models.evaluate import iou
from models.export import exported, noise, spoken
from models.parity import compared, speaker
from models.unet import UNet, parameters
from pipeline.errors import MaskmillError
from pipeline.network.mlm import embed

logger = logging.getLogger(__name__)

WIDTHS = (12, 24, 48, 64)  # three halvings: it sees 51 pixels to each side, which a margin of 56 holds
BATCH, SIDE, RIM = 8, 192, 16
RATE, DECAY, WARMUP = 4e-3, 1e-2, 0.05  # AdamW's highest rate and weight decay; the share of steps that it rises over
AVERAGED_OVER = 300  # steps: the weights that ship are a running mean of those that were trained


def earth_water_crops() -> Crops:
    """Cut from the half of the globe that trains, around inland water."""
    image = earth_water.blue_marble()
    rows, cols = image.shape[1:]
    truth = earth_water.truth(rows, cols)
    truth[earth_water.misleading(truth)] = IGNORED
    seen = earth_water.trained_on(cols)
    shift, factor = earth_water.card({}).affine(None)
    return Crops(
        np.ascontiguousarray(image[..., seen]),
        np.ascontiguousarray(truth[:, seen]),
        rare=earth_water.INLAND_WATER,
        side=SIDE,
        rim=RIM,
        shift=shift,
        factor=factor,
    )


def train(crops: Crops, classes: int, steps: int, seed: int, heard: Callable[[int, float], None] | None = None) -> UNet:
    """Train a U-Net and give the running mean of its weights, ready for use (`eval`).

    `heard` is told each step's number and loss. Raises ValueError where `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"training takes at least one step, not {steps}")
    torch.set_num_threads(1)  # sums split among threads depend on how many there are
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = UNet(len(crops.image), classes, WIDTHS, "batch", "nearest")
    averaged = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    places = crops.rare_places()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * _share_of_rate(step, steps)
        pixels, truth = crops.draw(random, places, BATCH)
        found = _step(network, optimiser, torch.from_numpy(pixels), torch.from_numpy(truth))
        _follow(averaged, network, min(1 - 1 / AVERAGED_OVER, step / (step + 10)))
        if heard is not None:
            heard(step, found)
    averaged.eval()
    return averaged


def loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy plus what is missing to a soft IoU of 1, the mean over the classes that the batch shows.

    logits: float32 (N, classes, rows, cols); truth: int64 (N, rows, cols), IGNORED where nothing is learnt.
    Cross-entropy alone would leave out what is rare: inland water is one pixel in three hundred.
    """
    learnt = truth != IGNORED
    probabilities = logits.softmax(1).movedim(1, -1)[learnt]
    actual = functional.one_hot(truth[learnt], logits.shape[1]).to(logits.dtype)
    both = (probabilities * actual).sum(0)
    either = (probabilities + actual).sum(0) - both
    shown = actual.sum(0) > 0
    missing = (1 - both / either)[shown].mean()
    return functional.cross_entropy(logits, truth, ignore_index=IGNORED) + missing


def _step(network: UNet, optimiser: torch.optim.Optimizer, pixels: Tensor, truth: Tensor) -> float:
    """Learn from one batch; gives the loss before it."""
    network.train()
    pixels = pixels.to(memory_format=torch.channels_last)  # a third quicker on a CPU
    # bfloat16 takes 60 % of the time on processors that multiply it, and loses a third of a grey level.
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pixels)
    found = loss(logits.float(), truth)
    optimiser.zero_grad()
    torch.autograd.backward(found)
    optimiser.step()
    return float(found.detach())


def _share_of_rate(step: int, steps: int) -> float:
    """Rise in a line, then fall as half a cosine: the share of the highest rate, above 0 to 1."""
    rising = max(1, round(WARMUP * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _follow(averaged: UNet, network: UNet, kept: float) -> None:
    """Move the running mean towards the network's weights; `kept` is the share that stays."""
    with torch.no_grad():
        for mean, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - kept)
            else:
                mean.copy_(new)  # batch norm counts its batches


def _say(step: int, found: float) -> None:
    if step % 100 == 0:
        logger.info("step %d, loss %.4f", step, found)


def make_earth_water(out: Path, steps: int, seed: int) -> None:
    """Train, score on the half never seen, and write one file that holds network and card."""
    network = train(earth_water_crops(), len(earth_water.CLASSES), steps, seed, _say)
    logger.info("%d parameters trained", parameters(network))
    model = exported(network, bands=3).model
    compared(spoken(network), speaker(model), noise(model, 3, network.stride), "noise").demand()
    matrix = score(model, earth_water.card({}))
    scores = {
        f"IoU {name}, western half": round(float(v), 4)
        for name, v in zip(earth_water.CLASSES, iou(matrix), strict=True)
    }
    logger.info("%s", scores)
    out.write_bytes(embed(model, earth_water.card(scores)).SerializeToString(deterministic=True))


def main() -> int:
    """Read the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train a network of the zoo.")
    parser.add_argument("name", choices=["earth-water"])
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logger.setLevel(logging.INFO)
    try:
        make_earth_water(said.out, said.steps, said.seed)
    except MaskmillError as error:
        logger.error("%s", error.message)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
