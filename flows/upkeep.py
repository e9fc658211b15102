"""Dask workers that nobody starts again: where a start fails or takes long, Dask itself gives them up for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from distributed import Nanny
from distributed.core import Status
from distributed.deploy.spec import SpecCluster
from tornado.ioloop import PeriodicCallback

LOOK = 5.0  # seconds


@contextmanager
def kept(cluster: object) -> Iterator[None]:
    """Have as many workers in a cluster as it was last told to have, for as long as the body lasts.

    Clusters that Dask's SpecCluster is not the base of look after their workers themselves.
    """
    if not isinstance(cluster, SpecCluster) or (loop := cluster.loop) is None:
        yield
        return
    callback = PeriodicCallback(_Upkeep(cluster).look, LOOK * 1000)
    loop.add_callback(callback.start)
    try:
        yield
    finally:
        loop.add_callback(callback.stop)


@dataclass(slots=True)
class _Upkeep:
    """Looks, in the cluster's own loop, which of its workers are gone."""

    cluster: SpecCluster
    _dead: frozenset[object] = frozenset()  # at the last look
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    def look(self) -> None:
        """Strike off what has been dead for two looks, so that it is not just being restarted, and start anew."""
        workers = self.cluster.workers
        dead = frozenset(name for name, one in workers.items() if isinstance(one, Nanny) and not one.is_alive())
        for name in dead & self._dead:
            task = asyncio.ensure_future(_closed(workers.pop(name)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._dead = dead
        missing = self.cluster.worker_spec.keys() - workers.keys()
        if missing and self.cluster.status is Status.running:
            SpecCluster.scale(self.cluster, len(self.cluster.worker_spec))


async def _closed(worker: Nanny) -> None:
    with suppress(Exception):  # there is nothing left to end
        await worker.close()
