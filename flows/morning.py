"""What is left of a run for the morning: a log, DIR/report.html and DIR/report.json. It never fails the run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from flows.logs import logged, note_report
from pipeline.errors import InputError, MaskmillError
from pipeline.settings import Job

_log = logging.getLogger("maskmill")


def reported(job: Job, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do a job and tell the morning what came of it; the mapping of its JobReport.

    Where nothing could start there is a report only in a folder that has had one: a refusal leaves nothing behind.
    """
    from pipeline.morning_page import JSON  # noqa: PLC0415  # Pillow, for which nobody has to wait before the work

    began = time.time()
    with logged(job.out) as log:
        try:
            report = do()
        except InputError as error:
            if os.path.isfile(job.out / JSON):  # noqa: PTH113  # Path.is_file raises for names that are too long
                _write(job, {"scenes": [], "problems": [error.message], "exit_code": 2}, began)
            raise
        note_report(log, report)
        if report["scenes"] or job.out.is_dir():  # where all waits, nothing is made
            _write(job, report, began)
        return report


def _write(job: Job, report: Mapping[str, Any], began: float) -> None:
    from pipeline.morning import Night  # noqa: PLC0415  # as above
    from pipeline.morning_page import HTML, write_morning  # noqa: PLC0415  # as above

    night = Night(began, time.time(), job.price_per_hour)
    try:
        write_morning(job.out, report, night)
    except (MaskmillError, OSError) as error:
        _log.warning("%s is not written: %s", job.out / HTML, error)
    except Exception as error:  # noqa: BLE001  # the masks are what counts
        _log.warning("%s is not written: %s", job.out / HTML, error, exc_info=True)
