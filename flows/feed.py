"""Blocks to futures: a bounded number in flight, each done again if it fails, none lost if a worker dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from pipeline.making import Submit
from pipeline.plan import Plan
from pipeline.store.record import Record, State
from pipeline.work import Outcome, do_block

IN_FLIGHT = 3  # blocks for each that is being done: itself, and two waiting


@dataclass(frozen=True, slots=True)
class _Try:
    """One block on its way; `alone` where no other block was in flight, so that a worker's death is its doing."""

    block: int
    attempt: int = 1
    alone: bool = False


def feed(client: Client, plan: Plan, blocks: Sequence[int], attempts: int, hands: int) -> Iterator[Record]:
    """Have blocks done and yield their records as they come, in no order; so many are done at once.

    A block that fails is tried `attempts` times; then its record says FAILED and why. When a worker dies, every block
    that it had is suspected and done again alone, at the end: the one that kills its worker `attempts` times is given
    up, and no other is. Raises the InputError of a worker that cannot do any block of the plan.
    """
    waiting = deque(_Try(block) for block in blocks)
    suspects: deque[_Try] = deque()
    running: dict[Future[Outcome], _Try] = {}
    finished = as_completed(raise_errors=False)

    def start(one: _Try) -> None:
        future = client.submit(do_block, plan, one.block, one.attempt, pure=False)
        running[future] = one
        finished.add(future)

    try:
        while waiting or suspects or running:
            while waiting and len(running) < IN_FLIGHT * hands:
                start(waiting.popleft())
            if not running:
                start(suspects.popleft())
            future = next(finished)
            one = running.pop(future)
            record = _record(future, one)
            future.release()  # a result that is kept is computed again when its worker dies
            if record is None:
                suspects.append(_Try(one.block, one.attempt, alone=True))
            elif record.state is State.FAILED and one.attempt < attempts:
                (suspects if one.alone else waiting).append(replace(one, attempt=one.attempt + 1))
            else:
                yield record
    finally:
        if running:
            client.cancel(list(running), force=True)


def makers(client: Client) -> Submit:
    """Have functions called on workers that have no block waiting: a block that is done stays done after a kill."""
    return partial(client.get_executor(pure=False).submit, priority=-1)


def _record(future: Future[Outcome], one: _Try) -> Record | None:
    """What came of a try; None where its worker died and another block may have killed it."""
    if future.status == "finished":
        outcome = future.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    error = future.exception()
    if isinstance(error, KilledWorker):
        reason = "the worker that did it died, and no other block was being done; it may need more memory than there is"
        return Record(block=one.block, state=State.FAILED, attempts=one.attempt, reason=reason) if one.alone else None
    if error is None:
        return Record(block=one.block, state=State.FAILED, attempts=one.attempt, reason=f"its task was {future.status}")
    raise error
