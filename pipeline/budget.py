"""The bytes that a run will hold, in memory and on disk: a page of arithmetic, done before any work.

Nothing here depends on the side of the scene except the ledger, at about a hundred bytes a block, and the disk.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.errors import RoomError
from pipeline.grid import Grid, Stitch
from pipeline.network.card import Card
from pipeline.network.host import Recipe
from pipeline.pyramid import ROWS
from pipeline.raster.access import CACHE_BYTES, PUBLISH_CACHE_BYTES
from pipeline.raster.source import Scene
from pipeline.raster.stage import staging_rows
from pipeline.store.hierarchy import Product
from pipeline.tiles import piece_side

MIB = 2**20
CONSTANT = 250  # how much smaller a block of one number is when it is packed; DEFLATE makes at most 1/1032 of it
FLOAT = 4  # bytes of a float32
BYTES_PER_BLOCK = 512  # of the ledger's arrays and of what Dask keeps of a task in flight
THREADS = 4  # at most, that make what is published in the coordinator, where no workers do
THREADS_BYTES = 128 * MIB  # that these should not exceed together
SLACK = 48 * MIB  # allocators round up; Python's objects
DASK_BYTES = 48 * MIB  # what a worker holds of Dask: 15 MiB of modules, its queues and connections


@dataclass(frozen=True, slots=True)
class Budget:
    """What is planned, in bytes. `disk` is what the folder may grow to while the scene is being published."""

    worker: int
    coordinator: int
    workers: int
    disk: int
    threads: int = 1  # blocks that a worker has in hand at once

    @property
    def memory(self) -> int:
        """What all processes may hold together."""
        return self.worker * self.workers + self.coordinator

    def fitting(self, free: int) -> int:
        """How many workers fit into so many bytes, beside the coordinator."""
        return max(0, (free - self.coordinator) // self.worker)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "memory": self.memory}


def block_bytes(grid: Grid, scene: Scene, products: tuple[Product, ...], card: Card) -> int:
    """What one block holds beside the session: the rows of its hull, its rasters, their shards."""
    side = grid.hull_side()
    hull = side**2
    pixel = np.dtype(scene.dtype).itemsize * len(scene.bands)
    # The rows that are held, those that are read, once more where they are reflected, and both together.
    rows = min(2 * side, 4 * (grid.window + scene.tile[0]))
    reading = rows * side * (pixel + 1)
    if grid.zoom != 1:  # the scene's own pixels, a band of them as float64 with its weights, and the view's rasters
        reading += ceil(side / grid.zoom) ** 2 * (2 * pixel + 2 + 16)
        reading += hull * sum(each.pixel_bytes for each in products)
    reading += max((layer.reading_bytes(side) for layer in scene.layers), default=0)
    # Rasters, zarr's chunks, a shard's bytes; what is asked for, and what is wanted.
    writing = grid.block**2 * (sum(each.pixel_bytes for each in products) * 3 + 2)
    census = grid.block * max(256, len(card.legend) + 3) * 8
    blending = blend_bytes(grid, card) if grid.stitch is Stitch.BLEND else 0
    return max(reading + writing + census + blending, making_bytes(grid, products))


def blend_bytes(grid: Grid, card: Card) -> int:
    """The row bands of a blended block: sum, least and greatest by class, and the weights, at float32."""
    band = (grid.window + grid.core) * grid.hull_side()
    return band * FLOAT * (4 * len(card.classes) + 2)


def making_bytes(grid: Grid, products: tuple[Product, ...]) -> int:
    """What making a coarser shard holds, or a piece of a GeoTIFF: a product at a time, whoever makes it.

    The shard, a quarter of what it is made of, zarr's chunks, the shard's bytes, and what a few rows need to be halved;
    or the piece as read, and GDAL's small file.
    """
    widest = max(each.pixel_bytes for each in products)
    return max(4 * grid.block**2 + 20 * ROWS * grid.block, 2 * piece_side(products) ** 2) * widest


def publish_bytes(grid: Grid, products: tuple[Product, ...]) -> int:
    """What publishing holds: what each thread makes; GDAL's cache, twice.

    Image and mask are read at once by two threads, and what one has freed in its part of the heap the other cannot use.
    """
    return threads_of(grid, products) * making_bytes(grid, products) + 2 * PUBLISH_CACHE_BYTES


def threads_of(grid: Grid, products: tuple[Product, ...]) -> int:
    """How many threads make what is published, where the coordinator does it: fewer where each holds much."""
    return max(1, min(THREADS, THREADS_BYTES // making_bytes(grid, products)))


def ledger_bytes(grid: Grid, card: Card) -> int:
    """What the coordinator holds of its blocks: also a count and an area for each class."""
    return len(grid) * (BYTES_PER_BLOCK + 12 * len(card.legend))


def stage_bytes(scene: Scene) -> int:
    """What staging a file holds beside GDAL's cache: the rows in hand, their validity, a piece being decoded."""
    pixel = np.dtype(scene.dtype).itemsize * len(scene.bands) + 6
    return staging_rows(scene) * scene.width * pixel + scene.tile_bytes + CACHE_BYTES


def disk_bytes(grid: Grid, products: tuple[Product, ...], staged: Sequence[Scene], inside: int | None = None) -> int:
    """What the folder may hold at once, uncompressed: Zarr and levels, their GeoTIFFs, the COG, the staged files.

    `inside` is how many pixels lie in blocks that an area touches. In the others all pixels are one number.
    """
    pixel = sum(each.pixel_bytes for each in products)
    written = grid.scene.area if inside is None else inside + (grid.scene.area - inside) // CONSTANT
    source = sum(file.rect.area * (np.dtype(file.dtype).itemsize * len(file.bands) + 1) for file in staged)
    return written * pixel * 4 + source + 16 * MIB


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def allowed(asked: int | None) -> int:
    """The bytes that a run may take: what the job says, or what is free."""
    return asked or int(psutil.virtual_memory().available)


def demand_window(recipe: Recipe, bands: int, asked: int | None) -> None:
    """Raise RoomError, before one is tried, where a batch of windows does not fit as it is read and as it is scaled."""
    held = recipe.batch * recipe.window**2 * bands * (np.dtype(recipe.dtype).itemsize + FLOAT)
    if held > allowed(asked):
        raise RoomError(
            f"A batch of {recipe.batch} windows of {recipe.window} px takes {_mib(held)} for its pixels alone, and "
            f"{_mib(allowed(asked))} may be taken. Take a smaller --window, --margin or --batch."
        )


def demand_memory(budget: Budget, asked: int | None) -> None:
    """Raise RoomError where the processes do not fit into what they may take."""
    free = allowed(asked)
    if budget.memory > free:
        fits = budget.fitting(free)
        raise RoomError(
            f"The run would hold {_mib(budget.memory)}: {budget.workers} workers of {_mib(budget.worker)} and a "
            f"coordinator of {_mib(budget.coordinator)}; {_mib(free)} may be taken. "
            + (f"Take --workers {fits}." if fits else "Take a smaller --block or --window, or allow more by --memory.")
        )


def free_on(folder: Path) -> int:
    """The bytes that the disk of a folder, which need not be there yet, has left for this user."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def demand_disk(budget: Budget, folder: Path) -> None:
    """Raise RoomError where the folder's disk has less room than planned."""
    free = free_on(folder)
    if budget.disk > free:
        raise RoomError(
            f"{folder} may grow to {_mib(budget.disk)}, and its disk has {_mib(free)} left. "
            "Free some, or take another --out."
        )


def peak_memory() -> int:
    """The most bytes that this process has held in memory so far.

    Linux's VmHWM starts anew with a program, unlike ru_maxrss, which a child inherits.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def restart_peak() -> None:
    """Let what this process holds now be its peak, where the system can: what it held before was another's doing."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"
