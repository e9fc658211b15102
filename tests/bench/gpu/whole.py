"""A whole run, GeoTIFF → Zarr + COG, beside the bare rate of the same graph in the same minutes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from tests.bench.command import ROOT
from tests.bench.gpu import bare
from tests.bench.gpu.card import Card
from tests.bench.gpu.engines import article, engine_of, take_options, texture, told_by
from tests.bench.gpu.sheet import Asked, Sheet

TILE = 512  # px


def part(asked: Asked, sheet: Sheet, folder: Path) -> None:
    asked = asked.anew()
    start = time.perf_counter()
    scene = _scene(folder / "scene.tif", asked)
    sheet.note(scene={**_sizes(scene), "seconds": time.perf_counter() - start, "compress": asked.compress})
    network, _ = article(folder)
    known = f"--{asked.flag}" in _said([sys.executable, "-m", "flows.cli", "run", "--help"])
    if not known:
        sheet.note(threads=f"`maskmill run` has no flag --{asked.flag}")
    each = asked.threads if known else (None,)
    precisions = [one for one in asked.precisions if asked.device == "cuda" or one == "fp32"]
    for threads, precision in product(each, precisions):
        if not asked.in_time():
            sheet.row("left out", precision=precision, threads=threads)
            continue
        flags = [*network.flags, "--device", asked.device, "--precision", precision, *shlex.split(asked.more)]
        flags += [f"--{asked.flag}", str(threads)] if threads else []
        if asked.device == "cpu":
            flags += ["--window", "80", "--block", "128", "--workers", "1"]
        _row(asked, sheet, folder, scene, precision, threads, flags)


def _row(
    asked: Asked, sheet: Sheet, folder: Path, scene: Path, precision: str, threads: int | None, flags: list
) -> None:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "flows.cli", "run", str(scene), "--out", str(out), "--json", *flags]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.pop("PREFECT_API_URL", None)
    with Card() as card:
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        sheet.row("failed", precision=precision, threads=threads, because=done.stderr.strip()[-600:])
        return
    report = json.loads((out / scene.stem / "report.json").read_text())
    plan = {"precision": precision, "device": asked.device, "each": 3 * asked.each}
    plan |= {"window": report["grid"]["window"], "batch": report["batch"]}
    alone = next(told_by(__name__, plan, str(folder), limit=180))
    windows = -(-report["pixels"] // report["grid"]["core"] ** 2)
    expected = windows / alone["windows a second"]
    stages = {stage: round(found, 1) for stage, found in report["seconds_by_stage"].items()}
    figures = {
        "precision": precision,
        "threads": threads,
        "megapixels a second": report["pixels"] / 1e6 / seconds,
        "seconds": seconds,
        "bare seconds": expected,
        "ratio": expected / seconds,
        "busy": card.busy,
        "stages": stages,
        "run": round(report["seconds"], 1),
        "window": plan["window"],
        "batch": plan["batch"],
    }
    sheet.row("run", **figures)
    kept = {key: value for key, value in report.items() if key not in ("identity", "classes")}
    sheet.note(reports=[*sheet.said.get("reports", []), kept | {"card": card.said, "flags": flags[2:]}])


def _scene(path: Path, asked: Asked) -> Path:
    """A tiled GeoTIFF of the texture, repeated and shifted until it fills the scene."""
    side = max(256, round((asked.gigapixels * 1e9) ** 0.5) // TILE * TILE)
    image = texture()
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    tiling = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "BIGTIFF": "IF_SAFER", "NUM_THREADS": "ALL_CPUS"}
    if asked.compress != "NONE":
        tiling["compress"] = asked.compress
    kind = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "interleave": "pixel"}
    with rasterio.open(path, "w", **kind, **place, **tiling) as file:
        for top in range(0, side, TILE):
            rows, cols = min(TILE, side - top), np.arange(side) + 977 * (top // TILE)
            stripe = image[:, top % image.shape[1] : top % image.shape[1] + rows]
            file.write(stripe.take(cols % image.shape[2], axis=2), window=Window(0, top, side, rows))
    return path


def _sizes(scene: Path) -> dict:
    with rasterio.open(scene) as file:
        return {"rows": file.height, "cols": file.width, "bytes": scene.stat().st_size}


def _said(command: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout


def _in_process(plan: dict, folder: str) -> None:
    take_options()
    _, network = article(Path(folder))
    engine = engine_of(network, plan["device"], plan["precision"], plan["window"], plan["batch"])
    engine.warm()
    best = max(bare.rate(engine, callers, plan["each"]) for callers in (1, 2))
    print(json.dumps({"windows a second": best}))


if __name__ == "__main__":
    _in_process(*(json.loads(word) for word in sys.argv[1:]))
