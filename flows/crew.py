"""Who does a job's blocks: one process, where that ends sooner, or the workers of a Dask cluster."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.child import Child, Ended, unlimited
from pipeline.plan import Plan
from pipeline.run import SceneRun
from pipeline.store.record import Record, State
from pipeline.work import Outcome, do_block

if TYPE_CHECKING:
    from distributed import Client

CLUSTER_SECONDS = 2.0  # from nothing to the first block; most of it is imports, in each worker
MOST_ALONE = 10.0  # seconds of work that is done without a cluster where one has one worker only


@dataclass(slots=True)
class Crew:
    """The workers of a job. A cluster is started when first needed; until then there is the child alone."""

    stack: ExitStack
    child: Child
    scenes: int  # how many the job has
    client: Client | None = None
    size: int = 0

    def records(self, run: SceneRun) -> Iterator[Record]:
        """Have what is left of a scene done; yields the records as they come, in no order.

        Raises the InputError of a worker that cannot do any block of the plan.
        """
        attempts, workers = run.job.attempts, min(run.settled.budget.workers, len(run.todo))
        if self._sooner_alone(run):
            run.hands = 1
            run.make_ahead(None)
            return alone(self.child, run.plan, run.todo, attempts)
        run.hands = workers
        from flows.feed import feed, makers  # noqa: PLC0415  # see `import_early`

        threads, on_gpu = run.settled.budget.threads, run.settled.probe.device == "cuda"
        client = self._of(workers, threads, on_gpu)
        run.make_ahead(None if on_gpu else makers(client))
        # ^ A GPU's worker has better things to do.
        return feed(client, run.plan, run.todo, attempts, workers * threads)

    def _sooner_alone(self, run: SceneRun) -> bool:
        """Whether one process is done before a cluster would be, if there is none yet and none was asked for."""
        if self.client or run.job.workers:
            return False
        settled, grid = run.settled, run.plan.grid
        seconds = self.scenes * settled.probe.seconds * grid.computed(run.todo) / grid.window**2
        return seconds <= min(MOST_ALONE, CLUSTER_SECONDS + seconds / settled.budget.workers)

    def _of(self, workers: int, threads: int, on_gpu: bool) -> Client:
        """A client with at least this many workers, of so many threads where it is the first."""
        from flows.cluster import local_cluster, scale_to  # noqa: PLC0415  # as above
        from flows.gpus import gpus  # noqa: PLC0415  # as above

        if self.client is None:
            self.client = self.stack.enter_context(local_cluster(workers, threads, gpus() if on_gpu else ()))
            self.size = workers
        elif workers > self.size:
            scale_to(self.client, workers)
            self.size = workers
        return self.client


def import_early() -> None:
    """Import Dask, which takes as long as a small scene, while this process waits for its files to be opened."""
    threading.Thread(target=importlib.import_module, args=("flows.cluster",)).start()


def alone(child: Child, plan: Plan, blocks: list[int], attempts: int) -> Iterator[Record]:
    """Have blocks done in one child process, one after another; yields their records.

    A block that fails, or that ends the process, is tried `attempts` times; then its record says FAILED and why. Raises
    the InputError that keeps the process from doing any block of the plan.
    """
    for block in blocks:
        record = _tried(child, plan, block, 1)
        while record.state is State.FAILED and record.attempts < attempts:
            record = _tried(child, plan, block, record.attempts + 1)
        yield record


def _tried(child: Child, plan: Plan, block: int, attempt: int) -> Record:
    try:
        outcome: Outcome = child.ask(unlimited, do_block, plan, block, attempt)
    except Ended as end:
        reason = f"the process that did it {end.how}; it may need more memory than there is"
        return Record(block=block, state=State.FAILED, attempts=attempt, reason=reason)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
