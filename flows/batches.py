"""From a job to its scenes, by name, and from many scenes to the few tasks that a night can bear.

A Prefect task costs milliseconds and database rows: a large scene is one task, small ones share one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flows.listing import listed
from flows.sources.listed import LeftOut
from flows.zoo import model_path
from pipeline.errors import SettingsError
from pipeline.raster.address import absolute
from pipeline.settings import Device, Job, SceneEntry

LARGE_BYTES = 32 * 2**20  # a file from here on is a task of its own
SCENES_PER_TASK = 64


def expanded(job: Job, left: LeftOut | None = None) -> tuple[SceneEntry, ...]:
    """The job's scenes, each with its name, in the job's order; `left` takes what is left out, and why.

    Raises what `listed` raises.
    """
    return tuple(scene.entry for scene in listed(job, left))


def placed(job: Job, left: LeftOut | None = None) -> tuple[Job, tuple[SceneEntry, ...]]:
    """The job, and its scenes, with its paths as workers on other machines find them and its cluster's device.

    Raises SettingsError where the two exclude each other, and what `expanded` raises.
    """
    if job.cluster == "gpus" and job.device is Device.CPU:
        raise SettingsError("`cluster: gpus` has no workers for `device: cpu`; take `local`.")
    scenes = expanded(job, left)
    more: dict[str, Any] = {"scenes": scenes, "settle": 0.0}
    if job.cluster == "gpus":
        more["device"] = Device.CUDA
    if job.far:
        scenes = tuple(_absolute(entry) for entry in scenes)
        more |= {"scenes": scenes, "out": job.out.resolve(), "model": str(model_path(job.model).resolve())}
    return job.model_copy(update=more), scenes


def _absolute(entry: SceneEntry) -> SceneEntry:
    """A scene by names that do not depend on the folder that one is in."""
    bands = entry.bands and {
        name: one.model_copy(update={"file": absolute(one.file)}) for name, one in entry.bands.items()
    }
    return entry.model_copy(update={"uri": absolute(entry.uri), "bands": bands})


def batched(job: Job, left: LeftOut | None = None) -> list[Job]:
    """The same job in parts: each large scene alone, small ones together, in order; `left` as above.

    Raises what `expanded` raises.
    """
    parts: list[list[SceneEntry]] = []
    room = 0
    for entry in expanded(job, left):
        if entry.bands or _large(entry.uri):
            parts.append([entry])
            room = 0
        elif room:
            parts[-1].append(entry)
            room -= 1
        else:
            parts.append([entry])
            room = SCENES_PER_TASK - 1
    return [job.model_copy(update={"scenes": tuple(part), "settle": 0.0}) for part in parts]


def _large(uri: str) -> bool:
    # What is no local file cannot be weighed here, and is taken for large.
    return not os.path.isfile(uri) or Path(uri).stat().st_size >= LARGE_BYTES  # noqa: PTH113  # as above
