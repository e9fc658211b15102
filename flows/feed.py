"""Blocks to futures: a bounded number in flight, each done again if it fails, none lost if a worker dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from pipeline.plan import Plan
from pipeline.store.record import Record, State
from pipeline.work import run_block

IN_FLIGHT = 3  # blocks for each worker: one being done, two waiting


def feed(client: Client, plan: Plan, blocks: Sequence[int], attempts: int, workers: int) -> Iterator[Record]:
    """Have blocks done and yield their records as they come, in no order.

    A block that fails is tried `attempts` times; then its record says FAILED and why. A block whose worker died four
    times is given up the same way. Raises the InputError of a worker that cannot do any block of the plan.
    """
    waiting = deque((block, 1) for block in blocks)
    running: dict[Future[Record], tuple[int, int]] = {}
    finished = as_completed(raise_errors=False)
    try:
        while waiting or running:
            while waiting and len(running) < IN_FLIGHT * workers:
                block, attempt = waiting.popleft()
                future = client.submit(run_block, plan, block, attempt, pure=False)
                running[future] = block, attempt
                finished.add(future)
            future = next(finished)
            block, attempt = running.pop(future)
            record = _record(future, block, attempt)
            future.release()  # a result that is kept is computed again when its worker dies
            if record.state is State.FAILED and attempt < attempts:
                waiting.append((block, attempt + 1))
            else:
                yield record
    finally:
        if running:
            client.cancel(list(running), force=True)


def _record(future: Future[Record], block: int, attempt: int) -> Record:
    if future.status == "finished":
        record: Record = future.result()
        return record
    error = future.exception()
    if isinstance(error, KilledWorker):
        reason = "the worker doing it died four times; it may need more memory than there is"
        return Record(block=block, state=State.FAILED, attempts=max(attempt, 4), reason=reason)
    if error is None:
        return Record(block=block, state=State.FAILED, attempts=attempt, reason=f"its task was {future.status}")
    raise error
