"""dask-jobqueue's queue for tests, this machine's shell, of which a job may be over before it is cancelled."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from dask_jobqueue.local import LocalCluster, LocalJob


class ShellJob(LocalJob):
    """A job: one command, which starts the workers."""

    @classmethod
    async def _close_job(cls, job_id, cancel_command):
        with suppress(ProcessLookupError):
            os.kill(int(job_id), signal.SIGTERM)


class ShellCluster(LocalCluster):
    """A cluster of such jobs."""

    job_cls = ShellJob
