"""Mosaics: the images of several places as one scene, a VRT that is written where the job says, and kept up to date."""
# ruff: noqa: PTH112
# ^ Path's own tests raise for names that are too long

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from flows.sources.folder import Walk, demand_folder, stamp_of
from flows.sources.listed import LeftOut, Listed, Stamp
from flows.sources.names import name_by_hand
from flows.sources.patterns import Pattern, split
from pipeline.child import Child, Ended
from pipeline.errors import SceneError
from pipeline.origin import SETTLE_MINUTES, MosaicOrigin
from pipeline.raster.mosaic import MARK, mosaic_of
from pipeline.settings import Job, SceneEntry
from pipeline.store.objects import put_whole


def mosaic(origin: MosaicOrigin, job: Job, left: LeftOut) -> Iterator[Listed]:
    """The one scene that a mosaic is, its VRT written anew where its images are others than they were.

    None while one of them may be half an upload. Raises SceneError where they make no mosaic.
    """
    images = list(_images(origin.of, left))
    name = name_by_hand(origin.mosaic, origin.name)
    changed = max((stamp.modified or 0.0 for _, stamp in images), default=0.0)
    until = changed + 60 * (SETTLE_MINUTES if job.settle is None else job.settle)
    if changed and until > time.time():
        left.wait(name, until)
        return
    path = Path(origin.mosaic)
    put_mosaic([image for image, _ in images], path, origin.top == "last")
    size = sum(stamp.size or 0 for _, stamp in images)
    yield Listed(SceneEntry(name=name, uri=str(path)), Stamp(size, max(changed, path.stat().st_mtime)))


def put_mosaic(images: Iterable[str], path: Path, last_on_top: bool = False) -> bool:
    """Write the VRT of a mosaic, if it is not there just so; say whether it was written.

    Raises SceneError where the images make none, or where something else has the VRT's name.
    """
    chosen = [Path(image) for image in images]
    made = _looked_at(chosen[::-1] if last_on_top else chosen, path)
    try:
        there = path.read_bytes()
    except FileNotFoundError:
        there = b""
    except OSError as error:
        raise SceneError(f"The mosaic {path} cannot be written: {error.strerror}.") from None
    if there and MARK.encode() not in there:
        raise SceneError(f"{path} is no mosaic that was made here, and is not written over: give a new name.")
    if there != made:
        put_whole(path, made)
    return there != made


def _looked_at(images: list[Path], path: Path) -> bytes:
    """The VRT, made in a process of its own, since the images are of strangers."""
    with Child() as child:
        try:
            return child.ask(mosaic_of, images, path)
        except Ended as end:
            raise SceneError(f"The process that looked at the images of the mosaic {path} {end.how}.") from None


def images_of(said: Iterable[str], left: LeftOut) -> list[str]:
    """The images that paths, patterns and folders mean, in their order, by name within each; `left` as in a listing."""
    return [image for image, _ in _images(said, left)]


def _images(said: Iterable[str], left: LeftOut) -> Iterator[tuple[str, Stamp]]:
    for one in said:
        if os.path.isdir(one):
            root, pattern = one, Pattern()
        elif glob.has_magic(one) and not os.path.lexists(one):
            root, pattern = split(one)
        else:
            yield one, stamp_of(one)
            continue
        demand_folder(root)
        yield from ((scene.entry.uri, scene.stamp) for scene in Walk(root, pattern, None, left).scenes())
