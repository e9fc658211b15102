"""From a complete ledger to what users open: coarser levels, GeoTIFFs, the quicklook, the report; then into place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import cog, outlines, quicklook
from pipeline.budget import cores, threads_of
from pipeline.folder import Folder
from pipeline.grid import Rect
from pipeline.making import Making, Site, Submit
from pipeline.plan import Plan
from pipeline.predict import Stopwatch
from pipeline.raster.access import PUBLISH_CACHE_BYTES, cache_of
from pipeline.raster.seal import demand_unchanged
from pipeline.report import Facts
from pipeline.store.hierarchy import levels
from pipeline.store.ledger import Ledger
from pipeline.store.objects import Shard, put_whole, sha256_at, shard_at, sync
from pipeline.store.sink import Sink

Tick = Callable[[str, int, int], None]  # stage, pixels done, pixels in all


@dataclass(frozen=True, slots=True)
class Ahead:
    """What can be made before the last block is done. Like all that is published, it is made anew after a kill."""

    making: Making
    image: Future[NDArray[np.uint8]]
    stack: ExitStack

    @classmethod
    def begin(
        cls, plan: Plan, folder: Folder, within: Rect | None, submit: Submit | None, done: Iterable[int]
    ) -> Ahead:
        """Begin with the blocks that are done; by threads of this process where nobody else is there to submit to.

        `within` is what the picture of the scene is to show.
        """
        stack = ExitStack()
        stack.enter_context(cache_of(PUBLISH_CACHE_BYTES))
        if submit is None:
            pool = ThreadPoolExecutor(min(threads_of(plan.grid, plan.products), cores()))
            stack.callback(pool.shutdown, cancel_futures=True)
            submit = pool.submit
        image = submit(quicklook.image_of, plan.scene, plan.network.card, within)
        site = Site.of(folder.building, folder.stage, plan.products, plan.grid)
        return cls(Making.begin(site, submit, done), image, stack)

    def picture(self, plan: Plan, within: Rect | None) -> NDArray[np.uint8]:
        """The picture of the scene; made here where its maker died."""
        if self.image.cancelled() or self.image.exception() is not None:
            return quicklook.image_of(plan.scene, plan.network.card, within)
        return self.image.result()

    def close(self) -> None:
        """Begin nothing more."""
        self.image.cancel()
        self.making.close()
        self.stack.close()


def publish(
    plan: Plan, folder: Folder, ahead: Ahead, facts: Callable[[], Facts], tick: Tick
) -> tuple[dict[str, Any], Facts]:
    """Make everything that a result has beside level 0 and put it into place; the report, of `facts` by then, last.

    Returns what was made, for the ledger, and what was reported: (length, CRC-32) of each file, and of each coarser
    shard. Everything is made anew each time, so it may be killed anywhere.
    """
    making, legend, watch = ahead.making, plan.network.card.legend, Stopwatch()
    shutil.rmtree(folder.products, ignore_errors=True)
    folder.products.mkdir(parents=True)
    with watch("waiting"):
        making.finish(lambda done, total: tick("pyramid and tiles", done, total))
    _write_cogs(plan, folder, making, watch, tick)
    if plan.outlines:
        with watch(outlines.NAME):
            count = _counter(tick, outlines.NAME, plan.grid.height * plan.grid.width)
            outlines.write(Sink(folder.building), plan.scene, plan.georef, legend, folder.products, count)
    with watch("quicklook.png"):
        picture, fold = ahead.picture(plan, facts().settled.interest.extent), facts().fold
        quicklook.draw(picture, plan.scene, plan.network.card, fold.counts, folder.products)
    demand_unchanged(plan.scene)  # what was drawn is of the image that was done
    files = {path.name: shard_at(path) for path in sorted(folder.products.iterdir())}
    for name in files:
        sync(folder.products / name)
    report = replace(facts(), publishing={"by_stage": watch.seconds, "by_makers": making.seconds})
    put_whole(folder.products / "report.json", json.dumps(report.as_dict(), indent=1).encode())
    sums = {path.name: sha256_at(path) for path in sorted(folder.products.iterdir())}
    report.fold.save(folder.ledger / "blocks.npz")
    folder.publish()
    return {"identity": plan.digest, "files": files, "sha256": sums, "levels": making.shards}, report


def _write_cogs(plan: Plan, folder: Folder, making: Making, watch: Stopwatch, tick: Tick) -> None:
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
        name = f"{product.name}.tif"
        with watch(name):
            dress = cog.Dress(card.legend, provenance)
            cog.write(product, plan.scene, dress, making.site.pieces, folder.products, _counter(tick, name, total))


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
