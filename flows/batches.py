"""From a job to its scenes, by name, and from many scenes to the few tasks that a night can bear.

A Prefect task costs milliseconds and database rows: a large scene is one task, small ones share one.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path

from pipeline.errors import SceneError, SettingsError
from pipeline.raster.address import shown
from pipeline.raster.naming import scene_name
from pipeline.settings import Job, SceneEntry

LARGE_BYTES = 32 * 2**20  # a file from here on is a task of its own
SCENES_PER_TASK = 64


def expanded(job: Job) -> tuple[SceneEntry, ...]:
    """The job's scenes with their globs resolved and their names made, in the job's order.

    Raises SceneError where a glob matches nothing, and SettingsError where two scenes have one name.
    """
    entries: dict[str, SceneEntry] = {}
    for said in job.scenes:
        for entry in _entries(said):
            other = entries.get(entry.name)
            if other is None:
                entries[entry.name] = entry
            elif os.path.realpath(other.uri) != os.path.realpath(entry.uri):
                raise SettingsError(
                    f"Two scenes would be called {entry.name}: {shown(other.uri)} and {shown(entry.uri)}; give them "
                    "names in a job file, such as `scenes: [{name: north, uri: a/image.tif}, {name: south, uri: "
                    "b/image.tif}]`."
                )
    return tuple(entries.values())


def _entries(said: str | SceneEntry) -> list[SceneEntry]:
    if isinstance(said, SceneEntry):
        return [said]
    uris = [said]
    if "://" not in said and glob.has_magic(said) and not os.path.exists(said):  # noqa: PTH110  # Path.exists raises for a long name
        uris = sorted(glob.glob(said, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
        if not uris:
            raise SceneError(f"No file matches {said}; put the pattern in quotes if the shell should leave it alone.")
    return [SceneEntry(name=scene_name(uri), uri=uri) for uri in uris]


def batched(job: Job) -> list[Job]:
    """The same job in parts: each large scene alone, small ones together, in order.

    Raises what `expanded` raises.
    """
    parts: list[list[SceneEntry]] = []
    room = 0
    for entry in expanded(job):
        if _large(entry.uri):
            parts.append([entry])
            room = 0
        elif room:
            parts[-1].append(entry)
            room -= 1
        else:
            parts.append([entry])
            room = SCENES_PER_TASK - 1
    return [job.model_copy(update={"scenes": tuple(part)}) for part in parts]


def _large(uri: str) -> bool:
    # What is no local file cannot be weighed here, and is taken for large.
    return not os.path.isfile(uri) or Path(uri).stat().st_size >= LARGE_BYTES  # noqa: PTH113  # as above
