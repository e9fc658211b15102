"""pytorch-toolbelt's ImageSlicer and TileMerger over the image in memory, pyramid weights, the network in torch."""

from __future__ import annotations

import time

import numpy as np
import rasterio
import torch
from given import given, say, scaled
from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger
from torch_network import torch_network

TILE, STEP = 512, 384


def main() -> None:
    task, start = given(), time.perf_counter()
    network = torch_network(task.model, task.threads)
    with rasterio.open(task.scene) as file:
        pixels, place = scaled(file.read(), task), {"crs": file.crs, "transform": file.transform}
    image, merger = np.ascontiguousarray(pixels.transpose(1, 2, 0)), None
    slicer = ImageSlicer(image.shape[:2], TILE, STEP, weight="pyramid")
    for tile, coords in slicer.iter_split(image):
        with torch.inference_mode():
            said = network(torch.from_numpy(np.ascontiguousarray(tile.transpose(2, 0, 1)))[None])
        merger = merger or TileMerger(slicer.target_shape, said.shape[1], slicer.weight)
        merger.integrate_batch(said, [coords])
    mask = slicer.crop_to_orignal_size(merger.merge_().argmax(0).to(torch.uint8).numpy())
    path = f"{task.out}.tif"
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    profile = {"driver": "GTiff", "height": mask.shape[0], "width": mask.shape[1], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, **place, **tiling) as file:
        file.write(mask, 1)
    say(start, ("pytorch-toolbelt", "torch"), window=TILE, overlap=TILE - STEP, mask=path)


if __name__ == "__main__":
    main()
