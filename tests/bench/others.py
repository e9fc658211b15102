"""Two parts about maskmill alone: `copy`, reading and writing without a network; `workers`, two against one."""

from __future__ import annotations

import math
from pathlib import Path

from tests.bench.asked import Asked
from tests.bench.envs import HOME, OWN, python_of
from tests.bench.networks import network_of
from tests.bench.results import Book
from tests.bench.rounds import heed_others, measured, read_mask, scene_of, task_of, told

COPIED = 200.0  # megapixels
WORKED = {"earth-water": 25.0, "article": 3.0}


def copy(asked: Asked, name: str) -> None:
    """`maskmill run` with a network of one node, beside GDAL's COG driver on the same pixels.

    maskmill writes a Zarr and a quicklook besides, and its ledger.
    """
    folder = HOME / "work" / "copy"
    network = network_of(name, folder, None)
    side = round(math.sqrt((asked.megapixels or COPIED) * 1e6))
    task = task_of(network, scene_of(network, folder, side), side, 512)
    starts = {"maskmill": [python_of(OWN), "maskmill.py"], "rasterio-cog": [python_of("plain"), "reencode.py"]}
    book = Book("copy", name, {"rows": side, "cols": side, "threads": task["threads"]}, asked.command)
    for _ in range(len(book.said["rounds"]), asked.rounds):
        heed_others(book)
        figures, masks = {}, {}
        for peer, start in starts.items():
            said, figures[peer] = measured(folder, peer, start, task)
            masks[peer] = said["mask"]
            print(f"copy: {told(peer, figures[peer])}", flush=True)
        ours, theirs = (read_mask(Path(masks[peer])) for peer in starts)
        book.note(differing=int((ours != theirs).sum()))
        book.add(figures)


def workers(asked: Asked, name: str) -> None:
    """The same scene by one worker and by two, each of one thread."""
    folder = HOME / "work" / f"workers-{name}"
    network = network_of(name, folder, asked.ukis)
    side = round(math.sqrt((asked.megapixels or WORKED[name]) * 1e6))
    task = task_of(network, scene_of(network, folder, side), side, 512)
    book = Book("workers", name, {"rows": side, "cols": side, "window": task["window"]}, asked.command)
    for _ in range(len(book.said["rounds"]), asked.rounds):
        heed_others(book)
        figures = {}
        for count in (1, 2):
            start = [python_of(OWN), "maskmill.py"]
            _, figures[str(count)] = measured(folder, f"workers-{count}", start, task | {"threads": count})
            print(f"workers: {name}: {told(str(count), figures[str(count)])}", flush=True)
        book.add(figures)
