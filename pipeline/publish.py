"""From a complete ledger to what users open: coarser levels, GeoTIFFs, the quicklook, the report; then into place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline import cog, outlines, paint, pyramid, quicklook
from pipeline.folder import Folder
from pipeline.plan import Plan
from pipeline.raster.access import PUBLISH_CACHE_BYTES, cache_of
from pipeline.report import Facts
from pipeline.store.hierarchy import levels
from pipeline.store.ledger import Ledger
from pipeline.store.objects import Shard, put_whole, shard_at, sync
from pipeline.store.sink import Sink

Tick = Callable[[str, int, int], None]  # stage, pixels done, pixels in all


def publish(plan: Plan, folder: Folder, facts: Callable[[], Facts], tick: Tick) -> dict[str, Any]:
    """Make everything that a result has beside level 0 and put it into place; the report, of `facts` by then, last.

    Returns what was made, for the ledger: (length, CRC-32) of each file, and of each coarser shard. Everything is made
    anew each time, so it may be killed anywhere.
    """
    shutil.rmtree(folder.products, ignore_errors=True)
    folder.products.mkdir(parents=True)
    with cache_of(PUBLISH_CACHE_BYTES), ThreadPoolExecutor(1) as pool:
        image = pool.submit(quicklook.image_of, plan.scene, facts().settled.interest.extent)
        shards = _pyramid(plan, Sink(folder.building), tick)
        _write_cogs(plan, folder, tick)
        if plan.outlines:
            count = _counter(tick, outlines.NAME, plan.grid.height * plan.grid.width)
            outlines.write(
                Sink(folder.building), plan.scene, plan.georef, plan.network.card.legend, folder.products, count
            )
        picture, counts, total = image.result(), facts().fold.counts, plan.grid.scene.area
        painting = paint.paint(folder.products, plan.network.card, counts, total, picture.shape[:2])
        quicklook.draw(picture, painting, plan.scene.name, folder.products / "quicklook.png")
    files = {path.name: shard_at(path) for path in sorted(folder.products.iterdir())}
    for name in files:
        sync(folder.products / name)
    report = facts()
    put_whole(folder.products / "report.json", json.dumps(report.as_dict(), indent=1).encode())
    report.fold.save(folder.ledger / "blocks.npz")
    folder.publish()
    return {"identity": plan.digest, "files": files, "levels": shards}


def _pyramid(plan: Plan, sink: Sink, tick: Tick) -> dict[str, Shard]:
    """Make the coarser levels; returns their shards."""
    grid, done = plan.grid, 0
    total = sum(rows * cols for rows, cols in levels(grid.height, grid.width)[1:])
    shards: dict[str, Shard] = {}
    for area, made in pyramid.build(sink, plan.products, grid.height, grid.width, grid.block):
        shards |= made
        done += area
        tick("pyramid", done, total)
    return shards


def _write_cogs(plan: Plan, folder: Folder, tick: Tick) -> None:
    """Write each product as a Cloud-Optimized GeoTIFF."""
    card = plan.network.card
    provenance = {
        "model": card.name,
        "model_digest": plan.network.digest,
        "identity": plan.identity,
        "margin": plan.margin.kind.value,
    }
    total = sum(rows * cols for rows, cols in levels(plan.grid.height, plan.grid.width))
    for product in plan.products:
        count = _counter(tick, f"{product.name}.tif", total)
        dress = cog.Dress(card.legend, provenance)
        cog.write(Sink(folder.building), product, plan.scene, dress, folder.products, count)


def _counter(tick: Tick, stage: str, total: int) -> Callable[[int], None]:
    """Turn pixels made into pixels made so far."""
    done = 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        tick(stage, done, total)

    return count


def intact(folder: Folder, ledger: Ledger) -> bool:
    """Whether the last publishing was told to the ledger, and all that it made is still there as it was."""
    published = [event.data for event in ledger.fold.events if event.name == "published"]
    if not published or not (folder.path / "report.json").exists():
        return False
    said = published[-1]
    sink = Sink(folder.published)
    return all(shard_at(folder.path / name) == Shard(*shard) for name, shard in said["files"].items()) and all(
        sink.check(product, int(row), int(col), Shard(*shard), int(level))
        for key, shard in said["levels"].items()
        for product, level, row, col in [key.split("/")]
    )
