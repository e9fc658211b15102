"""dask.array.map_overlap over an ONNX Runtime session of one thread, as many threads as cores, written to Zarr."""

from __future__ import annotations

import shutil
import time

import dask
import dask.array as da
import numpy as np
import rioxarray
from dask.array.overlap import ensure_minimum_chunksize
from given import given, say, scaled, session_of

CHUNK = 1024


def main() -> None:
    task, start = given(), time.perf_counter()
    session = session_of(task, 1)
    name, margin = session.get_inputs()[0].name, task.margin

    def predict(pixels: np.ndarray) -> np.ndarray:
        _, rows, cols = pixels.shape
        more = [(0, 0), (0, -rows % task.stride), (0, -cols % task.stride)]  # the network's sides are multiples
        said = session.run(None, {name: np.pad(scaled(pixels, task), more, "edge")[None]})[0][0]
        return said[:, margin : rows - margin, margin : cols - margin].argmax(0).astype(np.uint8)

    scene = rioxarray.open_rasterio(task.scene, chunks={"band": -1, "y": CHUNK, "x": CHUNK}, lock=False).data
    # map_overlap would otherwise join chunks that are smaller than the margin by itself, and not say so.
    scene = scene.rechunk((-1, *(ensure_minimum_chunksize(margin, sides) for sides in scene.chunks[1:])))
    mask = da.map_overlap(
        predict,
        scene,
        depth={1: margin, 2: margin},
        boundary={1: "reflect", 2: "reflect"},
        trim=False,
        drop_axis=0,
        chunks=scene.chunks[1:],
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
    )
    path = f"{task.out}.zarr"
    shutil.rmtree(path, ignore_errors=True)
    with dask.config.set(scheduler="threads", num_workers=task.threads):
        mask.rechunk(512).to_zarr(path)
    say(start, ("dask", "zarr", "rioxarray"), window=CHUNK + 2 * margin, overlap=2 * margin, mask=path)


if __name__ == "__main__":
    main()
