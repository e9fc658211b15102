"""Dask workers on this machine: processes, reachable from this machine alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.deploy.cluster import Cluster
from distributed.scheduler import DEFAULT_EXTENSIONS
from distributed.security import Security
from distributed.spans import SpanMetadata, SpansSchedulerExtension

from flows.gpus import OneGpu
from flows.upkeep import kept
from pipeline.child import ONE_THREAD, interrupts_held
from pipeline.errors import ClusterError

# What Dask's own threads may not do to a worker: swap records to disk, or kill it for memory that was planned.
SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.profile.enabled": False,  # a look at the stack every 10 ms, which nobody reads
    "distributed.admin.tick.interval": "1s",  # every 20 ms, in all processes, it takes 4 % of two cores
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.allowed-failures": 0,  # a worker's death is told at once; `feed` finds the block that did it
}


class Spans(SpansSchedulerExtension):
    """Dask's own, without the note of each call of `submit` that it keeps for as long as the scheduler lives."""

    def observe_tasks(self, tss: Any, code: Any, span_metadata: Any) -> Any:  # noqa: ANN401, ARG002  # Dask's
        """Take tasks into their spans."""
        return super().observe_tasks(tss, code, SpanMetadata(collections=[]))


class Workers(LocalCluster):
    """Dask's own, which also ends what was just starting when its own start was interrupted or failed."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401  # Dask's
        try:
            super().__init__(**arguments)  # type: ignore[no-untyped-call]  # Dask's
        except BaseException:
            with suppress(Exception):  # why it did not start is what counts
                self.close(timeout=10)
            raise

    def _update_worker_status(self, op: Any, msg: Any) -> None:  # noqa: ANN401  # Dask's
        # Dask's own ends, some time after a death, whoever is just coming up in that worker's place, and a block with
        # it: `kept` looks after them.
        Cluster._update_worker_status(self, op, msg)

    async def _close(self) -> None:
        # Nobody waits any more for what is still starting, nor wants to be told how that ends.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _told: None)
        strays = set(self._created).difference(self.workers.values())
        if strays:
            await asyncio.wait([asyncio.ensure_future(one.close()) for one in strays], timeout=ENDING)
        await super()._close()  # type: ignore[no-untyped-call]  # Dask's


EXTENSIONS = {**DEFAULT_EXTENSIONS, "spans": Spans}
TRIES = 3
ENDING = 5.0  # seconds that workers have which were just starting
QUIET = logging.CRITICAL  # what happens to a worker is told by the blocks; that it lost its scheduler at the end is not
ENVIRONMENT = {
    **ONE_THREAD,
    "DASK_LOGGING__DISTRIBUTED": "critical",
}


@contextmanager
def local_cluster(workers: int, threads: int = 1, gpus: Sequence[str] = ()) -> Iterator[Client]:
    """Start workers of so many threads, each with a GPU if there are any, give a client; end them all on leaving."""
    quiet()
    with (
        dask.config.set(SETTINGS),
        dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}),
        ExitStack() as stack,
    ):
        with interrupts_held():
            cluster = _started(stack, workers, threads)
            client = stack.enter_context(closing(Client(cluster)))  # its own `with` is for one thread
            stack.enter_context(kept(cluster))
        if gpus:
            client.register_plugin(OneGpu(gpus))
        yield client


def _started(stack: ExitStack, workers: int, threads: int) -> LocalCluster:
    """Start the processes; once more where one of them was killed meanwhile. Raises ClusterError."""
    reason: Exception | None = None
    for _ in range(TRIES):
        try:
            cluster = Workers(
                n_workers=workers,
                threads_per_worker=threads,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                # Without one its HTTP server would ask for 8787, and complain where another has that.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0", "extensions": EXTENSIONS},
                memory_limit=None,
                # A scheduler runs whatever it is sent: only this process has the key.
                security=Security.temporary(),
                silence_logs=QUIET,
            )
            stack.enter_context(cluster)
            return cluster
        except (RuntimeError, OSError) as error:
            reason = error
    raise ClusterError(f"Dask's workers do not start ({' '.join(str(reason).split())}).") from reason


def quiet() -> None:
    """Have Dask say nothing by itself."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    for name in [*names, "tornado.application"]:  # where a worker that does not start is reported with its traceback
        logging.getLogger(name).setLevel(QUIET)


def scale_to(client: Client, workers: int) -> None:
    """Have more workers in a cluster that `local_cluster` started."""
    if client.cluster is not None:
        client.cluster.scale(workers)
