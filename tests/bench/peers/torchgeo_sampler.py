"""TorchGeo: RasterDataset, GridGeoSampler and DataLoader, the network in torch, the chips' middles put together."""

from __future__ import annotations

import time

import numpy as np
import rasterio
import torch
from given import given, say, scaled
from torch.utils.data import DataLoader
from torch_network import torch_network
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

CHIP, MARGIN = 512, 64
STRIDE = CHIP - 2 * MARGIN


def main() -> None:
    task, start = given(), time.perf_counter()
    network = torch_network(task.model, task.threads)
    with rasterio.open(task.scene) as file:
        height, width, place = file.height, file.width, {"crs": file.crs, "transform": file.transform}
    to_pixel = ~place["transform"]
    dataset = RasterDataset(task.scene)
    # Chips begin at the lower left corner and reach beyond the image at the upper right, where they are zero.
    loader = DataLoader(dataset, batch_size=1, sampler=GridGeoSampler(dataset, CHIP, STRIDE), collate_fn=stack_samples)
    mask = np.zeros((height, width), np.uint8)
    for batch in loader:
        bounds = batch["bounds"][0]
        west, north = (bounds[0].start, bounds[1].stop) if isinstance(bounds, tuple) else bounds_of(bounds)
        left, top = (round(one) for one in to_pixel @ (west, north))
        with torch.inference_mode():
            said = network(torch.from_numpy(scaled(batch["image"][0].numpy(), task)[None]))
        put(mask, said[0].argmax(0).to(torch.uint8).numpy(), top, left)
    path = f"{task.out}.tif"
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, **place, **tiling) as file:
        file.write(mask, 1)
    say(start, ("torchgeo", "torch"), window=CHIP, overlap=2 * MARGIN, mask=path)


def bounds_of(bounds: torch.Tensor) -> tuple[float, float]:
    """(west, north) of bounds that were collated: xmin, xmax, xres, ymin, ymax, …"""
    return float(bounds[0]), float(bounds[4])


def put(mask: np.ndarray, found: np.ndarray, top: int, left: int) -> None:
    """Write a chip's middle, and its rim too where the image ends there."""
    height, width = mask.shape
    first = 0 if top <= 0 else MARGIN, 0 if left <= 0 else MARGIN
    last = (
        CHIP if top + CHIP >= height else CHIP - MARGIN,
        CHIP if left + CHIP >= width else CHIP - MARGIN,
    )
    rows = slice(max(first[0], -top), min(last[0], height - top))
    cols = slice(max(first[1], -left), min(last[1], width - left))
    mask[top + rows.start : top + rows.stop, left + cols.start : left + cols.stop] = found[rows, cols]


if __name__ == "__main__":
    main()
