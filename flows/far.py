"""Workers that are somebody else's: a scheduler at an address, or a cluster of any class that Dask knows."""

from __future__ import annotations

import importlib
import logging
import os
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client
from distributed.scheduler import KilledWorker
from distributed.security import Security

from flows.cluster import ENVIRONMENT, SETTINGS, quiet
from flows.growth import grows
from flows.hand import Terms, greet
from flows.upkeep import kept
from pipeline.carried import carried, keep, lacks
from pipeline.child import Ended, Result, interrupts_held
from pipeline.errors import ClusterError, LackingError, MaskmillError
from pipeline.plan import Network, Plan
from pipeline.settings import ClusterClass, Scheduler

CONNECT_SECONDS = 10
SAID_AGAIN = 60.0  # seconds between two lines about workers that do not come
COUNTED = 2.0  # seconds for which the number of threads is believed
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_log = logging.getLogger("maskmill")


@contextmanager
def far_cluster(asked: Scheduler | ClusterClass, workers: int | None) -> Iterator[Client]:
    """Connect to a scheduler, or start a cluster and have so many workers in it; wait for the first.

    Raises ClusterError where no scheduler answers, or the class cannot be had.
    """
    quiet()
    with ExitStack() as stack:
        if isinstance(asked, Scheduler):
            client = stack.enter_context(_connected(asked))
        else:
            stack.enter_context(dask.config.set(SETTINGS))
            stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}))
            client = stack.enter_context(_started(asked, workers))
        _await_workers(client)
        yield client


@contextmanager
def _connected(asked: Scheduler) -> Iterator[Client]:
    _warn_of_plain(asked.address)
    files = asked.tls
    try:
        security = (
            Security(
                tls_ca_file=str(files.ca),
                tls_client_cert=str(files.cert),
                tls_client_key=str(files.key),
                require_encryption=True,
            )
            if files
            else Security()  # which reads Dask's own settings
        )
        with interrupts_held():
            client = Client(asked.address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {asked.address} ({' '.join(str(error).split()) or type(error).__name__}). "
            "Start one with `dask scheduler`, or mend `cluster: address`."
        ) from None
    with client:
        yield client


def _warn_of_plain(address: str) -> None:
    where = urlsplit(address)
    if where.scheme == "tcp" and where.hostname not in _LOOPBACK:
        _log.warning(
            "The scheduler at %s is reached without encryption: whoever can reach it too can run programs on its "
            "workers. Use tls:// and certificates.",
            address,
        )


@contextmanager
def _started(asked: ClusterClass, workers: int | None) -> Iterator[Client]:
    module, _, name = asked.path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ClusterError(f"There is no {asked.path} ({error}); install the package that it comes from.") from None
    arguments = {
        key: os.path.expandvars(value) if isinstance(value, str) else value for key, value in asked.arguments.items()
    }
    with ExitStack() as stack:
        try:
            with interrupts_held():
                cluster: Any = stack.enter_context(kind(**arguments))
                if asked.adapt:
                    grows(cluster, asked.adapt.minimum, asked.adapt.maximum)
                elif workers:
                    cluster.scale(workers)
                client = stack.enter_context(Client(cluster, set_as_default=False))
                stack.enter_context(kept(cluster))
            _warn_of_plain(_address(client))
        except Exception as error:  # anything: it is another's code
            said = " ".join(str(error).split()) or type(error).__name__
            raise ClusterError(f"{asked.path} does not start ({said}); see `cluster: arguments`.") from error
        yield client


def _await_workers(client: Client) -> None:
    """Wait for the first worker, however long a queue is, and say so now and then."""
    said = time.monotonic()
    while not client.nthreads():
        if client.status != "running":
            raise lost(client)
        if time.monotonic() - said > SAID_AGAIN:
            _log.warning("No worker has come to the Dask scheduler at %s yet; waiting.", _address(client))
            said = time.monotonic()
        time.sleep(0.1)


@contextmanager
def reaching(client: Client) -> Iterator[None]:
    """Raise ClusterError where the body finds the scheduler gone."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise lost(client) from error


def lost(client: Client) -> ClusterError:
    """What to say when the scheduler has gone."""
    return ClusterError(f"The Dask scheduler at {_address(client)} was lost.")


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "its address"


@dataclass(slots=True)
class Threads:
    """How many threads a cluster's workers have together, as it grows and shrinks."""

    client: Client
    _count: int = 0
    _counted: float = field(default=-COUNTED)

    def __call__(self) -> int:
        """Now, or two seconds ago."""
        if time.monotonic() - self._counted >= COUNTED and self.client.status == "running":
            self._count, self._counted = sum(self.client.nthreads().values()), time.monotonic()
        return self._count


@dataclass(slots=True)
class FarChild:
    """Does one thing after another on a worker, in place of a child process of this machine."""

    client: Client

    def ask(self, work: Callable[..., Result], *args: object, seconds: float | None = None) -> Result:
        """Run a module's function there and return its result, or raise its error.

        Raises Ended where the worker dies of it or takes longer than `seconds`, ClusterError without a scheduler.
        """
        future = self.client.submit(work, *args, pure=False)
        try:
            result: Result = future.result(timeout=seconds)
        except KilledWorker:
            raise Ended("died", by_system=True) from None
        except TimeoutError:
            self.client.cancel([future], force=True)
            raise Ended(f"took more than {seconds:g} s", by_system=False) from None
        return result

    def close(self) -> None:
        """Nothing is held there."""


def demand_alike(client: Client, plan: Plan, terms: Terms) -> None:
    """Have every worker say whether it could do a block, and send the network to those that lack it.

    Raises the error of the first that could not, with its name.
    """
    with reaching(client):
        answers = client.run(greet, plan, terms, on_error="return")
    if lacking := [worker for worker, answer in answers.items() if isinstance(answer, LackingError)]:
        send_model(client, plan.network, lacking)
        answers |= client.run(greet, plan, terms, workers=lacking, on_error="return")
    for worker, answer in sorted(answers.items()):
        if isinstance(answer, MaskmillError):
            raise named(answer, worker)
        if isinstance(answer, Exception) and not isinstance(answer, OSError):  # which has left meanwhile
            raise ClusterError(
                f"The worker {worker} could not begin ({type(answer).__name__}: {answer}); is the same maskmill there?"
            )


def share_model(client: Client, network: Network) -> None:
    """Send a network to the workers that lack it. Raises like `send_model`."""
    with reaching(client):
        answers = client.run(lacks, Path(network.path), network.digest, on_error="return")
    if lacking := [worker for worker, answer in answers.items() if answer is True]:
        send_model(client, network, lacking)


def send_model(client: Client, network: Network, workers: Sequence[str]) -> None:
    """Have workers keep a network's bytes.

    Raises LackingError where the coordinator has not the network itself, and the error of a worker that cannot.
    """
    data = carried(Path(network.path), network.digest)
    for worker, answer in client.run(keep, data, network.digest, workers=list(workers), on_error="return").items():
        if isinstance(answer, MaskmillError):
            raise named(answer, worker)


def named(error: MaskmillError, worker: str) -> Exception:
    """The error of a worker, said of it by name."""
    return type(error)(f"The worker {worker}: {error.message}")
