"""From a job to its scenes, by name, and from many scenes to the few tasks that a night can bear.

A Prefect task costs milliseconds and database rows: a large scene is one task, small ones share one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.archive import Selection, select
from flows.sources.listed import LeftOut
from flows.zoo import model_path
from pipeline.errors import SettingsError
from pipeline.raster.address import absolute
from pipeline.settings import Device, Job, SceneEntry

LARGE_BYTES = 32 * 2**20  # a file from here on is a task of its own
SCENES_PER_TASK = 64


def placed(job: Job, left: LeftOut) -> tuple[Job, Selection]:
    """The job, and what of it is due, with its paths as workers on other machines find them and its cluster's device.

    Raises SettingsError where the two exclude each other, and what `select` raises.
    """
    if job.cluster == "gpus" and job.device is Device.CPU:
        raise SettingsError("`cluster: gpus` has no workers for `device: cpu`; take `local`.")
    found = select(job, left)
    more: dict[str, Any] = {"settle": 0.0, "allow": job.allowed, "priority": ()}
    if found.of_archive and not job.overwrite:
        more["overwrite"] = "other"
    if job.cluster == "gpus":
        more["device"] = Device.CUDA
    if job.far:
        found.due = [replace(due, entry=_absolute(due.entry)) for due in found.due]
        more |= {"out": job.out.resolve(), "model": str(model_path(job.model).resolve())}
    return job.model_copy(update={**more, "scenes": tuple(due.entry for due in found.due)}), found


def _absolute(entry: SceneEntry) -> SceneEntry:
    """A scene by names that do not depend on the folder that one is in."""
    bands = entry.bands and {
        name: one.model_copy(update={"file": absolute(one.file)}) for name, one in entry.bands.items()
    }
    return entry.model_copy(update={"uri": absolute(entry.uri), "bands": bands})


def batched(job: Job, left: LeftOut) -> tuple[list[Job], Selection]:
    """The job in parts, each large scene alone, small ones together, in order; and what is due; `left` as above.

    Raises what `select` raises.
    """
    found = select(job, left)
    parts: list[list[SceneEntry]] = []
    room = 0
    for due in found.due:
        if due.entry.bands or _large(due.entry.uri):
            parts.append([due.entry])
            room = 0
        elif room:
            parts[-1].append(due.entry)
            room -= 1
        else:
            parts.append([due.entry])
            room = SCENES_PER_TASK - 1
    more = {
        "settle": 0.0,
        "allow": job.allowed,
        "expect_min": None,
        "on_failure": None,
        "priority": (),
        "overwrite": job.overwrite or ("other" if found.of_archive else False),
    }
    golden = (job.golden if number == 0 else None for number in range(len(parts)))  # it is proved once a night
    made = [
        job.model_copy(update={**more, "golden": one, "scenes": tuple(part)})
        for one, part in zip(golden, parts, strict=True)
    ]
    return made, found


def _large(uri: str) -> bool:
    # What is no local file cannot be weighed here, and is taken for large.
    return not os.path.isfile(uri) or Path(uri).stat().st_size >= LARGE_BYTES  # noqa: PTH113  # as above
