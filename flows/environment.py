"""How Prefect is set up before it is imported: it reads the environment once, at import.

What a user has set stays as it is; their own ~/.prefect is used.
"""
# ruff: noqa: PLC0415  # Prefect may be imported only after it is set up

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.screen import Moved
    from pipeline.settings import Job

LOGGERS = "flows,pipeline"  # what we log per scene reaches the run's page, too
_DEFAULTS = {
    # The embedded server needs 11 to 30 s to start and gives up after 20 by default.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": LOGGERS,
}


def prepare_prefect() -> None:
    """Set what is not set. Must be called before `import prefect`."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def run_through_prefect(job: Job, on_progress: Callable[[Moved], None]) -> dict[str, Any]:
    """Run a job as a flow run, on the server that is named or on an embedded one; give the report's mapping.

    Raises an InputError where the server that is named does not answer, and what keeps the whole job from starting.
    """
    prepare_prefect()
    from flows.server import demand_answer

    if url := os.environ.get("PREFECT_API_URL"):
        demand_answer(url)
    from flows.segment import run_as_flow

    return run_as_flow(job, on_progress)
