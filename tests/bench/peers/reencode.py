"""A band above 127, written again as a Cloud-Optimized GeoTIFF: reading and writing alone, by rasterio and GDAL."""

from __future__ import annotations

import time

import numpy as np
import rasterio
import rasterio.shutil
from given import given, say
from rasterio.io import MemoryFile


def main() -> None:
    task, start = given(), time.perf_counter()
    with rasterio.open(task.scene, num_threads=task.threads) as file:
        mask = (file.read(1) > 127).astype(np.uint8)
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": file.crs, "transform": file.transform}
    path = f"{task.out}.tif"
    with MemoryFile() as memory:
        with memory.open(height=mask.shape[0], width=mask.shape[1], **profile) as file:
            file.write(mask, 1)
        words = {"compress": "DEFLATE", "overview_resampling": "MODE", "num_threads": str(task.threads)}
        rasterio.shutil.copy(memory.name, path, driver="COG", **words)
    say(start, ("rasterio",), window=0, overlap=0, mask=path, gdal=rasterio.__gdal_version__)


if __name__ == "__main__":
    main()
