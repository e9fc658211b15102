"""The golden scene: one with a trusted result, which must come out the same before a night begins.

It is done like any scene, by the same workers, in a folder of its own among the results, which goes when it is proved.
What a changed driver, a worn machine, a wrong model or setting would make of the archive is so seen on one small image.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import BlockError, GoldenError, InputError
from pipeline.folder import GOLDEN, Folder
from pipeline.settings import Job, SceneEntry
from pipeline.store.objects import sentences
from pipeline.verify import AGREEMENT, compare_stores

_log = logging.getLogger("maskmill")


@contextmanager
def again(job: Job, golden: Path) -> Iterator[tuple[Job, SceneEntry]]:
    """The job that makes a golden result anew, in a folder of its own, and its scene.

    What tells how the scene is laid out (its bands' files, its area) is the scene's; all else is the job's. Raises
    GoldenError where the folder holds no result, SettingsError where there can be no folder.
    """
    try:
        had = Job.model_validate(Folder(golden.parent, golden.name).asked())
        entry = next(one for one in had.scenes if isinstance(one, SceneEntry))
    except InputError as error:
        raise GoldenError(f"`golden` names no result to compare with: {error.message} Nothing is begun.") from None
    except (ValueError, StopIteration):
        raise GoldenError(f"`golden: {golden}` is damaged: make that result anew. Nothing is begun.") from None
    out = job.out / f"{GOLDEN}{uuid.uuid4().hex}"
    with sentences(out):
        out.mkdir(parents=True)
    more = {"scenes": (entry,), "out": out, "aoi": had.aoi, "allow": (*job.allow, *had.allow), "products": frozenset()}
    free = {"until": None, "max_scenes": None, "max_megapixels": None, "overwrite": False, "mirror": None}
    try:
        yield job.model_copy(update={**more, **free}), entry
    except GoldenError:
        raise
    except InputError as error:
        raise GoldenError(f"The golden scene {entry.name} cannot be done: {error.message} Nothing is begun.") from error
    finally:
        shutil.rmtree(out, ignore_errors=True)


def demand_same_mask(golden: Path, made: Path, row: Mapping[str, Any], problems: Sequence[str]) -> None:
    """Raise GoldenError unless what was made is what was trusted: every pixel, on another numeric class 99.9 %."""
    if problems:
        raise GoldenError(f"The golden scene does not come out whole: {' '.join(problems)} Nothing is begun.")
    place, here = Folder(golden.parent, golden.name), Folder(made.parent, made.name)
    had, new = _identity(place), _identity(here)
    exact = had["numeric class"] == new["numeric class"] and row["device"] == "cpu"
    try:
        pixels, differing = compare_stores(place.published, here.published, exact)
    except BlockError as error:
        raise GoldenError(f"The golden scene cannot be compared: {error.message} Nothing is begun.") from error
    allowed = 0 if exact else int((1 - AGREEMENT) * pixels)
    if differing <= allowed:
        _log.info("The golden scene %s came out as it did: %d of %d pixels differ.", place.name, differing, pixels)
        return
    others = sorted(key for key in had.keys() | new.keys() if key != "numeric class" and had.get(key) != new.get(key))
    why = f" Not the same as then: {', '.join(others)}." if others else ""
    raise GoldenError(
        f"The golden scene {place.name} does not come out as it did: {differing} of {pixels} pixels differ, and "
        f"{allowed} may.{why} Nothing is begun. Where the new mask is right, make that result anew."
    )


def _identity(folder: Folder) -> Mapping[str, Any]:
    if (had := folder.choices()) is None:
        raise GoldenError(f"{folder.path} holds no result to compare with. Nothing is begun.")
    return had[0]
