"""Who does a job's blocks: this process, one child, where that ends sooner, or the workers of a Dask cluster."""

from __future__ import annotations

import importlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from flows.patience import Patience
from pipeline.child import Child, Ended, unlimited
from pipeline.plan import Plan
from pipeline.run import SceneRun
from pipeline.settings import Job
from pipeline.store.objects import put_whole
from pipeline.store.record import Record, State
from pipeline.work import Outcome, do_block

if TYPE_CHECKING:
    from distributed import Client

    from flows.hand import Terms

CLUSTER_SECONDS = 2.0  # from nothing to the first block; most of it is imports, in each worker
MOST_ALONE = 10.0  # seconds of work that is done without a cluster where one has one worker only


@dataclass(slots=True)
class Crew:
    """The workers of a job. A cluster is started when first needed; until then there is the child alone."""

    stack: ExitStack
    child: Child
    scenes: int  # how many the job has
    client: Client | None = None
    importing: threading.Thread | None = None  # of what a cluster needs
    size: int = 0
    _turn: int = 0  # scenes so far: what is left of an earlier one comes first

    def records(self, run: SceneRun, demand_going: Callable[[], None] = lambda: None) -> Iterator[Record]:
        """Have what is left of a scene done; yields the records as they come, in no order.

        `demand_going` raises where this is to end. Raises the InputError of a worker that cannot do any block of the
        plan.
        """
        grid = run.plan.grid
        patience = Patience(run.settled.probe.seconds * grid.computed(run.todo[:1]) / grid.window**2)
        if run.job.cluster == "inline":
            run.make_ahead(None)
            return inline(run.plan, in_time(run.job, run.todo), run.job.attempts)
        if self._sooner_alone(run):
            run.make_ahead(None)
            return alone(self.child, run.plan, in_time(run.job, run.todo), run.job.attempts, patience, demand_going)
        return self._fed(run, patience, demand_going)

    def _fed(self, run: SceneRun, patience: Patience, demand_going: Callable[[], None]) -> Iterator[Record]:
        """The same, by the workers of a cluster."""
        if self.importing:
            self.importing.join()  # Dask's modules import each other, and two threads at once would see half of them
        from flows.far import Threads, demand_alike  # noqa: PLC0415  # see `import_early`
        from flows.feed import MANY, SEVERAL, Feed, makers  # noqa: PLC0415  # as above

        budget, on_gpu, terms = run.settled.budget, run.settled.probe.device == "cuda", None
        hands: Callable[[], int]
        if run.job.far and self.client:
            client, terms, hands = self.client, _terms_of(run), Threads(self.client)
            demand_alike(client, run.plan, terms)
            run.hands = hands()
        else:
            run.hands = min(budget.workers, len(run.todo))
            client, hands = self._of(run.hands, budget.threads, on_gpu), lambda: run.hands * budget.threads
        self._turn += 1
        run.make_ahead(None if on_gpu else makers(client, -2 * self._turn - 1))
        # ^ A GPU's worker has better things to do.
        feed = Feed(client, run.plan, run.job.attempts, hands, terms, patience, -2 * self._turn, demand_going)
        return feed.records(in_time(run.job, run.todo), SEVERAL if len(run.todo) >= MANY else 1)

    def _sooner_alone(self, run: SceneRun) -> bool:
        """Whether one process is done before a cluster would be, if there is none yet and none was asked for."""
        if self.client or run.job.workers or run.job.cluster != "local":
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


def import_early() -> threading.Thread:
    """Import Dask, which takes as long as a small scene, while this process waits for its files to be opened.

    Whoever needs any of it joins the thread that is returned, before its own import.
    """

    def run() -> None:
        with suppress(Exception):  # whoever needs it hears of it; a process that is ending already imports no more
            importlib.import_module("flows.feed")

    # No process waits for it at its end: Ctrl-C amid an import leaves Python's import lock taken, and this would hang.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _terms_of(run: SceneRun) -> Terms:
    """What workers on other machines are held to; leaves in the folder what they must see there."""
    from flows.hand import Terms, Versions  # noqa: PLC0415  # see `import_early`

    token, text = run.folder.stage / "token", uuid.uuid4().hex
    put_whole(token, text.encode())
    return Terms(Versions.own(), token, text)


def in_time(job: Job, blocks: Iterable[int]) -> Iterator[int]:
    """Blocks, until the job's time is over."""
    return takewhile(lambda _block: not job.is_over, blocks)


def inline(plan: Plan, blocks: Iterable[int], attempts: int) -> Iterator[Record]:
    """Have blocks done in this process, one after another: a debugger sees them. Otherwise like `alone`."""
    return _one_by_one(partial(do_block, plan), blocks, attempts)


def alone(
    child: Child,
    plan: Plan,
    blocks: Iterable[int],
    attempts: int,
    patience: Patience | None = None,
    demand_going: Callable[[], None] = lambda: None,
) -> Iterator[Record]:
    """Have blocks done in one child process, one after another; yields their records.

    `demand_going` raises where this is to end.

    A block that fails, or that ends the process or takes too long, is tried `attempts` times; then its record says
    FAILED and why. Raises the InputError that keeps the process from doing any block of the plan.
    """
    patient = patience or Patience()

    def do(block: int, attempt: int) -> Outcome:
        try:
            outcome: Outcome = child.ask(unlimited, do_block, plan, block, attempt, seconds=patient.seconds)
        except Ended as end:
            demand_going()
            reason = f"the process that did it {end.how}; it may need more memory than there is, or it hangs"
            return Record(block=block, state=State.FAILED, attempts=attempt, reason=reason)
        if isinstance(outcome, Record):
            patient.heard(outcome)
        return outcome

    return _one_by_one(do, blocks, attempts)


def _one_by_one(do: Callable[[int, int], Outcome], blocks: Iterable[int], attempts: int) -> Iterator[Record]:
    for block in blocks:
        for attempt in range(1, attempts + 1):
            outcome = do(block, attempt)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome.state is not State.FAILED or attempt == attempts:
                yield outcome
                break
