"""Blocks to futures: a bounded number in flight, each done again if it fails, none lost if a worker dies."""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from dask.utils import key_split
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from flows.far import SAID_AGAIN, lost, named, reaching, send_model
from flows.hand import Errand, Terms, Told, do_blocks
from flows.patience import Patience
from pipeline.errors import ClusterError, LackingError, MaskmillError
from pipeline.making import Submit
from pipeline.plan import Plan
from pipeline.store.record import Record, State
from pipeline.work import Outcome

IN_FLIGHT = 3  # futures for each that is being done: itself, and two waiting
LOOK = 1.0  # seconds: how often the cluster is looked at while nothing comes
DEATHS = 2  # after so many of its workers' a block is done alone
ENOUGH = 3  # times that a worker is sent a network which it then lacks
OFTEN = 10_000  # futures
MANY, SEVERAL = 1_000_000, 8  # from so many blocks on a future carries several
_log = logging.getLogger("maskmill")


@dataclass(frozen=True, slots=True)
class _Try:
    """Blocks on their way, each with its attempt; `alone` where nothing else was in flight: a death is their doing."""

    blocks: tuple[tuple[int, int], ...]
    seconds: float = 0.0
    started: float = 0.0
    alone: bool = False


@dataclass(slots=True)
class Feed:
    """Has blocks of a plan done by a cluster. `hands` says how many it does at once, now.

    Of a higher `priority` are done sooner; `demand_going` raises where this is to end.
    """

    client: Client
    plan: Plan
    attempts: int
    hands: Callable[[], int]
    terms: Terms | None = None
    patience: Patience = field(default_factory=Patience)
    priority: int = 0
    demand_going: Callable[[], None] = lambda: None
    _waiting: deque[_Try] = field(default_factory=deque)
    _suspects: deque[_Try] = field(default_factory=deque)
    _running: dict[Future[Told], _Try] = field(default_factory=dict)
    _ended: SimpleQueue[Future[Told]] = field(default_factory=SimpleQueue)
    _deaths: Counter[int] = field(default_factory=Counter)
    _sent: Counter[str] = field(default_factory=Counter)  # how often a worker was sent the network
    _sent_last: dict[str, float] = field(default_factory=dict)  # and when
    _submitted: int = 0
    _heard: float = field(default_factory=time.monotonic)  # when the last block came, or the last word about none

    def records(self, blocks: Iterable[int], several: int = 1) -> Iterator[Record]:
        """Yield the blocks' records as they come, in no order; so many blocks travel together.

        A block that fails is tried `attempts` times; then its record says FAILED and why. A worker that dies takes no
        block with it: what it had is done again, and what was there at two deaths is done alone, at the end; if that
        kills a third worker, it is given up, and no other is. Raises the InputError of a worker that cannot do any
        block of the plan, and ClusterError where the scheduler is lost.
        """
        source = iter(blocks)
        try:
            with reaching(self.client):
                while self._fill(source, several):
                    self.demand_going()
                    try:
                        future = self._ended.get(timeout=LOOK)
                    except Empty:
                        self._demand_scheduler()
                        self._say_none()
                        continue
                    self._heard = time.monotonic()
                    yield from self._taken(future)
        finally:
            if self._running and self.client.status == "running":
                self.client.cancel(list(self._running), force=True)

    def _fill(self, source: Iterator[int], several: int) -> bool:
        """Hand out as much as the cluster can use; say whether there is anything to wait for."""
        room = IN_FLIGHT * max(1, self.hands()) - len(self._running)
        while room > 0 and not any(one.alone for one in self._running.values()):
            if self._waiting:
                self._start(self._waiting.popleft())
            elif chunk := tuple((block, 1) for block in islice(source, several)):
                self._start(_Try(chunk))
            else:
                break
            room -= 1
        if not self._running and self._suspects:
            self._start(replace(self._suspects.popleft(), alone=True))
        return bool(self._running)

    def _start(self, one: _Try) -> None:
        seconds = self.patience.seconds
        try:
            errand = Errand(self.plan, seconds, self.terms)
            future = self.client.submit(do_blocks, errand, one.blocks, pure=False, priority=self.priority)
        except Exception as error:
            self._demand_scheduler()
            raise ClusterError(f"The cluster takes no more work ({error}).") from error
        self._submitted += 1
        if self._submitted % OFTEN == 0:
            key_split.cache_clear()  # a scheduler in this process remembers 100 000 keys there, and none comes twice
        self._running[future] = replace(one, seconds=seconds, started=time.monotonic())
        future.add_done_callback(self._ended.put)

    def _demand_scheduler(self) -> None:
        if self.client.status != "running":
            raise lost(self.client)

    def _say_none(self) -> None:
        """Tell, now and then, that there is nobody to wait for but those who may come."""
        if time.monotonic() - self._heard > SAID_AGAIN and not self.client.nthreads():
            _log.warning("No worker is left; %d blocks wait until one comes.", len(self._running))
            self._heard = time.monotonic()

    def _taken(self, future: Future[Told]) -> Iterator[Record]:
        one = self._running.pop(future, None)
        if one is None:  # heard of already
            return
        if future.status == "finished":
            told = self._fetched(future)
            if told is None:  # it died with the worker, and is computed again
                self._running[future] = one
                future.add_done_callback(self._ended.put)
                return
            future.release()  # a result that is kept is computed again when its worker dies
            for (block, attempt), outcome in zip(one.blocks, told.outcomes, strict=False):
                yield from self._judged(one, block, attempt, outcome, told.worker)
            for lacking in one.blocks[len(told.outcomes) :]:
                self._waiting.append(_Try((lacking,)))
            return
        error = future.exception() if future.status == "error" else None
        future.release()
        if isinstance(error, KilledWorker):
            yield from self._died(one)
        elif error is not None:
            raise ClusterError(f"A worker could not begin ({type(error).__name__}: {error}).") from error
        else:
            self._demand_scheduler()
            self._waiting.append(replace(one, alone=False))

    def _fetched(self, future: Future[Told]) -> Told | None:
        """What a worker says of its blocks; None where it dies before that is here, and it is being found out again."""
        try:
            return future.result(timeout=LOOK)
        except (TimeoutError, UnboundLocalError):  # Dask's `sync` names no result where its call is cancelled
            return None
        except Exception as error:
            if future.status != "finished":
                return None
            if isinstance(error, OSError):  # `reaching` says what that is
                raise
            raise ClusterError(f"What a worker did cannot be fetched ({type(error).__name__}: {error}).") from error

    def _judged(self, one: _Try, block: int, attempt: int, outcome: Outcome, worker: str) -> Iterator[Record]:
        if isinstance(outcome, LackingError):
            self._waiting.append(_Try(((block, attempt),)))
            if one.started <= self._sent_last.get(worker, 0.0):  # it was on its way before the network was
                return
            if self._sent[worker] == ENOUGH:
                raise named(outcome, worker)
            send_model(self.client, self.plan.network, [worker])
            self._sent[worker] += 1
            self._sent_last[worker] = time.monotonic()
        elif isinstance(outcome, Exception):
            raise named(outcome, worker) if self.terms and isinstance(outcome, MaskmillError) else outcome
        elif outcome.state is State.FAILED and attempt < self.attempts:
            (self._suspects if one.alone else self._waiting).append(_Try(((block, attempt + 1),)))
        else:
            self.patience.heard(outcome)
            yield outcome

    def _died(self, one: _Try) -> Iterator[Record]:
        """A worker is dead that had these blocks, and perhaps others."""
        for block, attempt in one.blocks:
            self._deaths[block] += 1
            if one.alone:
                reason = _reason(time.monotonic() - one.started, one.seconds)
                yield Record(block=block, state=State.FAILED, attempts=self._deaths[block], reason=reason)
            else:
                again = self._suspects if self._deaths[block] >= DEATHS else self._waiting
                again.append(_Try(((block, attempt),)))


def _reason(took: float, allowed: float) -> str:
    if took >= allowed:
        return (
            f"it took more than {allowed:,.0f} s, three times, and its worker was ended; the network or a codec hangs"
        )
    return "three workers died of it, the last with no other block at hand; it may need more memory than there is"


def makers(client: Client, priority: int) -> Submit:
    """Have functions called on workers that have no block waiting: a block that is done stays done after a kill.

    The function that is returned raises ClusterError where the scheduler is lost.
    """
    executor = client.get_executor(pure=False)

    def submit(function: Callable[..., Any], *arguments: object) -> concurrent.futures.Future[Any]:
        if client.status != "running":
            raise lost(client)
        made: concurrent.futures.Future[Any] = executor.submit(function, *arguments, priority=priority)
        return made

    return submit
