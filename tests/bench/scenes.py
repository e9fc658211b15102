"""The scenes that are measured: the Blue Marble, repeated and shifted until it fills them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from models import earth_water

STRIPE = 2048
SPREAD = 40  # of a byte, so that 255 becomes a reflectance of 1.02 in steps of 1e-4
RGB = (0, 1, 2)
REFLECTANCE = (2, 1, 0, 1, 0, 2)  # which colour stands for blue, green, red and three bands of infrared


def write_scene(path: Path, rows: int, cols: int, bands: tuple[int, ...] = RGB, spread: int = 1) -> None:
    """Write a tiled GeoTIFF of rows × cols pixels: for each band the colour that it shows, times `spread`.

    The numbers are bytes, or 16 bits where they are spread.
    """
    earth = earth_water.blue_marble()
    dtype = "uint8" if spread == 1 else "uint16"
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "DEFLATE", "zlevel": 1}
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=rows, width=cols, dtype=dtype, **place, **tiling
    ) as file:
        for top in range(0, rows, STRIPE):
            height = min(STRIPE, rows - top)
            take = np.ix_(bands, np.arange(top, top + height) % earth.shape[1], np.arange(cols) % earth.shape[2])
            pixels = np.ascontiguousarray(earth[take].astype(dtype) * np.array(spread, dtype))
            file.write(pixels, window=Window(0, top, cols, height))
        if len(bands) > 3:
            for band, name in enumerate(("blue", "green", "red", "nir", "swir16", "swir22"), 1):
                file.set_band_description(band, name)
