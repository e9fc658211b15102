"""MONAI's sliding_window_inference over the whole image in memory, for whichever predictor; and its best window."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import rasterio
import torch
from given import say, scaled
from monai.inferers import sliding_window_inference
from rasterio.windows import Window
from torch import Tensor

WINDOWS, OVERLAPS = (256, 512, 1024, 2048), (0.25, 0.5)
TRIES = 3  # the quickest counts
Predictor = Callable[[Tensor], Tensor]


def slide(pixels: np.ndarray, window: int, overlap: float, predictor: Predictor) -> Tensor:
    with torch.inference_mode():
        return sliding_window_inference(
            torch.from_numpy(pixels[None]), window, 1, predictor, overlap=overlap, mode="gaussian"
        )


def best(task: SimpleNamespace, predictor: Predictor) -> dict:
    """The window and overlap that would take the scene the fewest seconds, by two windows of each side.

    A window costs the same however much of it overlaps, so the overlaps differ by how many windows there are.
    """
    with rasterio.open(task.scene) as file:
        height, width = file.shape
        known = [side for side in task.sides or WINDOWS if side <= min(height, width)]
        pixels = scaled(file.read(window=Window(0, 0, min(width, 2 * max(known)), max(known))), task)
    slide(pixels[:, :256, :256], 256, 0.25, predictor)  # to warm up
    expected = {}
    for side in known:
        crop = np.ascontiguousarray(pixels[:, :side, : 2 * side - side // 4])
        seconds = min(timed(crop, side, predictor) for _ in range(TRIES))
        each = seconds / _count(crop.shape[2], side, 0.25)
        for overlap in OVERLAPS:
            expected[f"{side} {overlap}"] = each * _count(height, side, overlap) * _count(width, side, overlap)
    side, overlap = min(expected, key=expected.get).split()
    return {"window": int(side), "overlap": float(overlap), "expected": expected}


def timed(crop: np.ndarray, side: int, predictor: Predictor) -> float:
    start = time.perf_counter()
    slide(crop, side, 0.25, predictor)
    return time.perf_counter() - start


def _count(length: int, side: int, overlap: float) -> int:
    """How many windows MONAI lays along an axis."""
    return math.ceil(max(0, length - side) / int(side * (1 - overlap))) + 1


def measure(task: SimpleNamespace, start: float, predictor: Predictor, packages: tuple[str, ...]) -> None:
    if task.tune:
        say(start, packages, **best(task, predictor))
        return
    path = f"{task.out}.tif"
    with rasterio.open(task.scene) as file:
        pixels, place = scaled(file.read(), task), {"crs": file.crs, "transform": file.transform}
    mask = slide(pixels, task.monai_window, task.monai_overlap, predictor)[0].argmax(0).to(torch.uint8).numpy()
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    profile = {"driver": "GTiff", "height": mask.shape[0], "width": mask.shape[1], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, **place, **tiling) as file:
        file.write(mask, 1)
    say(start, packages, window=task.monai_window, overlap=task.monai_overlap, mask=path)
