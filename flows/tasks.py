"""What the commands and the flow do, as plain functions: no Prefect here.

A job is done scene after scene, several of them under way; each scene's blocks go to the Dask workers of one cluster,
which is started when the first block is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.archive import catalogued
from flows.batches import placed
from flows.lines import JobReport
from flows.office import Listener, Office
from flows.room import Room, demand_room, room_for
from flows.shift import Part, Shift, client_of, nobody
from flows.sources.listed import LeftOut
from pipeline.child import Child
from pipeline.errors import InputError
from pipeline.folder import Folder
from pipeline.run import demand_startable
from pipeline.settings import Job, SceneEntry
from pipeline.verify import Verdict, verify

_log = logging.getLogger("maskmill")


def run_job(job: Job, on_progress: Listener | None = None, child: Child | None = None) -> JobReport:
    """Do the scenes of a job: those that are named, and of an archive those that are due.

    A scene that is refused or has holes is a problem, and the others are done; raises its InputError where no scene
    could start.
    """
    left = LeftOut()
    job, found = placed(job.begun(datetime.now(UTC)), left)
    for note in (*left.notes(), *found.notes()):
        _log.warning("%s", note)
    demand_room(job, found)
    with Shift(job, len(found.due), child or Child()) as shift:
        part = Part(shift, job, on_progress or nobody, JobReport.aside(found, job, left.problems))
        if found.due:
            part.do(found, lambda: None)
    if found.of_archive:
        catalogued(job, part.rows)
    return part.report()


def run_part(shift: Shift, job: Job, on_progress: Listener, at_last: Callable[[], None]) -> JobReport:
    """Do the scenes of a part of a run, whose whole was looked at before; otherwise like `run_job`.

    `at_last` is called when the part begins its last scene: the next part may begin.
    """
    job, found = placed(job, left := LeftOut())
    part = Part(shift, job, on_progress, JobReport.aside(found, job, left.problems))
    part.do(found, at_last)
    return part.report()


def plan_job(job: Job, child: Child | None = None) -> tuple[list[dict[str, Any]], Room | None]:
    """Plan every scene of a job, writing nothing; `refused` says why a run of it would not start, or is None.

    Beside the plans stands what all scenes together need on the disk. Where a scene cannot even be planned there is
    nothing beside its name and `refused`. Raises an InputError where the job or its model is at fault.
    """
    job, found = placed(job, left := LeftOut())
    for note in (*left.notes(), *found.notes(), *left.problems):
        _log.warning("%s", note)
    with ExitStack() as stack:
        office = stack.enter_context(Office.of(job, child, client_of(stack, job)))
        return [_planned(office, due.entry) for due in found.due], room_for(job, found)


def _planned(office: Office, entry: SceneEntry) -> dict[str, Any]:
    job, plan = office.job, {"scene": entry.name}
    try:
        had = None if job.overwrite is True else Folder(job.out, entry.name).choices()
        settled = office.settle(entry, had[1] if had else None)
        plan = settled.as_dict()
        demand_startable(job, settled, fresh=had is None)
    except InputError as error:
        return {**plan, "refused": error.message}
    return {**plan, "refused": None}


def verify_scene(folder: Path, sample: int) -> Verdict:
    """Prove a finished scene, from what its folder says of its source and model. Raises an InputError."""
    place = Folder(folder.parent, folder.name)
    job = Job.model_validate(place.asked())
    had = place.choices()
    entry = next(one for one in job.scenes if isinstance(one, SceneEntry))
    with Office.of(job) as office:
        return verify(office.settle(entry, had[1] if had else None), place, sample)
