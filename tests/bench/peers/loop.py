"""An afternoon's loop: rasterio and ONNX Runtime, windows of 512 whose outer 64 pixels are thrown away."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import rasterio
from given import given, say, scaled, session_of
from rasterio.enums import Resampling
from rasterio.windows import Window

WINDOW, MARGIN = 512, 64
CORE = WINDOW - 2 * MARGIN


def read(file: rasterio.DatasetReader, top: int, left: int) -> np.ndarray:
    """A window of 512; what lies beyond the image is reflected."""
    rows = max(0, top - MARGIN), min(file.height, top - MARGIN + WINDOW)
    cols = max(0, left - MARGIN), min(file.width, left - MARGIN + WINDOW)
    pixels = file.read(window=Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0]))
    before = rows[0] - (top - MARGIN), cols[0] - (left - MARGIN)
    after = WINDOW - before[0] - pixels.shape[1], WINDOW - before[1] - pixels.shape[2]
    return np.pad(pixels, [(0, 0), (before[0], after[0]), (before[1], after[1])], "reflect")


def predict(task: SimpleNamespace, path: str) -> None:
    session = session_of(task, 0)
    name = session.get_inputs()[0].name
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(task.scene) as file:
        profile = {"driver": "GTiff", "height": file.height, "width": file.width, "count": 1, "dtype": "uint8"}
        place = {"crs": file.crs, "transform": file.transform}
        with rasterio.open(path, "w", **profile, **place, **tiling) as mask:
            for top in range(0, file.height, CORE):
                for left in range(0, file.width, CORE):
                    said = session.run(None, {name: scaled(read(file, top, left), task)[None]})[0][0]
                    found = said[:, MARGIN:-MARGIN, MARGIN:-MARGIN].argmax(0).astype(np.uint8)
                    found = found[: file.height - top, : file.width - left]
                    mask.write(found, 1, window=Window(left, top, found.shape[1], found.shape[0]))


def main() -> None:
    task, start = given(), time.perf_counter()
    path = f"{task.out}.tif"
    predict(task, path)
    with rasterio.open(path, "r+") as mask:
        mask.build_overviews([2, 4, 8, 16], Resampling.mode)
    say(start, ("rasterio",), window=WINDOW, overlap=2 * MARGIN, mask=path)


if __name__ == "__main__":
    main()
