"""Dask workers that nobody starts again: where a start fails or takes long, Dask itself gives them up for good."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from distributed import Nanny
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface, SpecCluster
from tornado.ioloop import PeriodicCallback

from flows.growth import jobs

LOOK = 5.0  # seconds
LONGEST_START = 60.0  # seconds


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
    _begun: frozenset[object] = frozenset()  # jobs of a queue of which workers have come; it may be long until they do
    _away_since: dict[object, float] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    def look(self) -> None:
        """Strike off what is not coming back, and start anew."""
        workers = self.cluster.workers
        nannies = {name: one for name, one in workers.items() if isinstance(one, Nanny)}
        dead = frozenset(name for name, one in nannies.items() if not one.is_alive())
        known = jobs(self.cluster)
        here = {known.get(said["name"]) for said in self.cluster.scheduler_info["workers"].values()}
        self._begun = (self._begun | here) & (workers.keys() - nannies.keys())
        over = (dead & self._dead) | self._away(nannies.keys() | self._begun, here)
        self._begun -= over  # what is asked for next has the same name
        for name in over:
            task = asyncio.ensure_future(_closed(workers.pop(name)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._dead = dead
        missing = self.cluster.worker_spec.keys() - workers.keys()
        if missing and self.cluster.status is Status.running:
            SpecCluster.scale(self.cluster, len(self.cluster.worker_spec))

    def _away(self, names: Set[object], here: Set[object]) -> set[object]:
        """Those that the scheduler has not seen at any look for so long that they are stuck, or their job is over."""
        now = time.monotonic()
        self._away_since = {name: self._away_since.get(name, now) for name in names - here}
        away = {name for name, since in self._away_since.items() if now - since > LONGEST_START}
        for name in away:
            del self._away_since[name]
        return away


async def _closed(worker: Nanny | ProcessInterface) -> None:
    """End a worker at once: one that came up meanwhile would be given a block, and be ended amid it."""
    with suppress(Exception):  # there may be nothing left to end
        closing = asyncio.ensure_future(worker.close())
        await asyncio.sleep(0)  # it is known to be closing, and is not started again
        if isinstance(worker, Nanny) and worker.pid:
            os.kill(worker.pid, signal.SIGKILL)
        await closing
