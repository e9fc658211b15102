"""What a Dask worker does for a run: blocks, one after another, each within its time."""

from __future__ import annotations

import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self

from distributed import Worker, get_worker

from pipeline.errors import ClusterError, InputError, SceneError, portable
from pipeline.grid import Rect
from pipeline.plan import Plan
from pipeline.work import Outcome, bench, do_block


@dataclass(frozen=True, slots=True)
class Versions:
    """What has to be the same wherever a run's blocks are done. That ONNX Runtime is, the numeric class tells."""

    python: str
    maskmill: str
    numpy: str

    @classmethod
    def own(cls) -> Self:
        """Those of this process; of Python, the version without the last number."""
        return cls(".".join(platform.python_version_tuple()[:2]), version("maskmill"), version("numpy"))


@dataclass(frozen=True, slots=True)
class Terms:
    """What somebody else's worker is held to: versions, and a file that lies where results are made."""

    versions: Versions
    token: Path
    text: str


@dataclass(frozen=True, slots=True)
class Errand:
    """A plan, the seconds that one block of it may take, and terms, unless the worker is this machine's own."""

    plan: Plan
    seconds: float
    terms: Terms | None = None


class Told(NamedTuple):
    """Which worker did it, and what came of each block."""

    worker: str
    outcomes: list[Outcome]


_admitted: set[Terms] = set()
_due: dict[int, float] = {}  # by thread, when its block has to be done
_timing = threading.Lock()


def do_blocks(errand: Errand, blocks: tuple[tuple[int, int], ...]) -> Told:
    """Do blocks, each given with the number of the attempt. An InputError comes back as a value, and ends them."""
    worker, outcomes = get_worker(), list[Outcome]()
    try:
        admit(errand.terms)
    except InputError as error:
        return Told(worker.address, [portable(error)])
    hands = worker.state.nthreads if errand.terms else 1  # on this machine threads take turns: that was planned
    for block, attempt in blocks:
        with within(errand.seconds):
            outcomes.append(do_block(errand.plan, block, attempt, hands))
        if isinstance(outcomes[-1], Exception):
            break
    return Told(worker.address, outcomes)


def greet(plan: Plan, terms: Terms, dask_worker: Worker) -> Exception | None:
    """Find out, before any block, whether this worker could do one; what keeps it from it comes back as a value."""
    try:
        admit(terms)
        opened = bench(plan, dask_worker.state.nthreads)
        middle = plan.scene.height // 2, plan.scene.width // 2
        opened.reader.read(Rect(*middle, middle[0] + 1, middle[1] + 1))
    except InputError as error:
        return portable(error)
    except Exception as error:  # noqa: BLE001  # whatever it is, this worker cannot read the image
        return SceneError(f"The image cannot be read there ({error}); it must be where every worker finds it.")
    return None


def admit(terms: Terms | None) -> None:
    """Raise ClusterError where this process has other versions than the coordinator, or sees another folder."""
    if terms is None or terms in _admitted:
        return
    own = Versions.own()
    for name in Versions.__slots__:
        here, there = getattr(own, name), getattr(terms.versions, name)
        if here != there:
            raise ClusterError(f"It has {name} {here}, the coordinator has {there}: install the same on both.")
    try:
        found = terms.token.read_text(encoding="utf-8")
    except OSError as error:
        found = error.strerror or str(error)
    if found != terms.text:
        raise ClusterError(
            f"It does not see the folder of results: {terms.token} holds something else there ({found[:60]}). `out` "
            "must be one folder that coordinator and workers share, under one name."
        )
    _admitted.add(terms)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """End this process where the body takes longer, in native code too: SIGALRM, which nothing here handles, does it.

    The block is then done by another, as after any death.
    """
    me = threading.get_ident()
    with _timing:
        _due[me] = time.monotonic() + seconds
        _set_alarm()
    try:
        yield
    finally:
        with _timing:
            del _due[me]
            _set_alarm()


def _set_alarm() -> None:
    """For the first that is due, of all threads; 0 takes it back."""
    left = min(_due.values()) - time.monotonic() if _due else 0.0
    signal.setitimer(signal.ITIMER_REAL, max(left, 0.001) if _due else 0.0)
