"""Work in a process of its own: it gives its memory back, and takes nobody with it when it dies."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from pipeline.errors import ModelError, RoomError, portable

Result = TypeVar("Result")

# In a process that predicts: sums in one order, and no library that takes all cores for itself.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Ended(Exception):  # noqa: N818  # what happened, not yet anybody's error
    """A process ended before it answered: by a signal, by an exit code, or because its time was up."""

    def __init__(self, how: str, *, by_system: bool) -> None:
        super().__init__(how)
        self.how = how
        self.by_system = by_system  # killed from outside, most likely for its memory


class Asked(Protocol):
    """Another process, here or elsewhere, that does one thing after another."""

    def ask(self, work: Callable[..., Result], *args: object, seconds: float | None = None) -> Result:
        """Run a module's function there and return its result, or raise its error. Raises Ended where it dies of it."""

    def close(self) -> None:
        """Let it give back what it holds."""


class Child:
    """A process that does one thing after another; started for the first, and anew after it has died.

    Several threads may ask: one at a time is answered.
    """

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._awaited = 0  # answers that nobody is interested in
        self._asking = threading.Lock()
        self._at_an_end = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, work: Callable[..., Result], *args: object, seconds: float | None = None) -> Result:
        """Run a module's function there and return its result, or raise its error.

        Raises Ended where the process dies of it or takes longer than `seconds`; the next call has a new one.
        """
        with self._asking:
            return self._ask(work, args, seconds)

    def _ask(self, work: Callable[..., Result], args: tuple[object, ...], seconds: float | None) -> Result:
        pipe = self._pipe or self._start()
        try:
            pipe.send((work, args))
            while self._awaited:
                pipe.recv()
                self._awaited -= 1
            if not pipe.poll(seconds):
                raise Ended(f"took more than {seconds:g} s", by_system=False)
            done, said = pipe.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        except BaseException:
            self.close()  # an answer that nobody waits for would be taken for the next one's
            raise
        if not done:
            raise said
        result: Result = said
        return result

    def close(self) -> None:
        """End the process, whatever it does."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        self._awaited = 0
        if process is not None:
            process.kill()
            process.join()
            process.close()
        if pipe is not None:
            pipe.close()

    def end(self) -> None:
        """End the process amid whatever it does for another thread, whose call raises Ended, and start none again."""
        self._at_an_end = True
        with suppress(AttributeError, ValueError):  # there is none, or it is being closed
            self._process.kill()  # type: ignore[union-attr]

    def warm(self, *modules: str) -> None:
        """Start the process now, and have it import modules meanwhile: the first call waits for less."""
        self._pipe = self._pipe or self._start()
        with suppress(OSError):  # where it is dead already, the first call finds that out
            self._pipe.send((_import, modules))
            self._awaited += 1

    def _start(self) -> Connection:
        if self._at_an_end:
            raise Ended("was not to be started again", by_system=False)
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(target=_serve, args=(its,), daemon=True)
        with interrupts_held():
            process.start()
        self._process, self._pipe = process, mine
        its.close()
        return mine

    def _ended(self) -> Ended:
        process = self._process
        if process is None:
            return Ended("was not there", by_system=True)
        process.join()
        code = process.exitcode or 0
        self.close()
        if code >= 0:
            return Ended(f"ended with code {code}", by_system=False)
        if -code == signal.SIGXCPU:
            return Ended("took more time of the processor than is allowed", by_system=False)
        return Ended(f"was ended by {signal.Signals(-code).name}", by_system=-code == signal.SIGKILL)


def in_child(work: Callable[..., Result], *args: object) -> Result:
    """Run a module's function in a fresh process and return its result, or raise its error.

    In a child it is run where it is: a child may have none of its own, and does no harm to others already. The process
    ends with the call, whatever ends that. Raises what `tried` raises.
    """
    if multiprocessing.current_process().daemon:
        return work(*args)
    with Child() as child:
        return tried(child, work, *args)


def tried(child: Asked, work: Callable[..., Result], *args: object) -> Result:
    """Try a window in a child that may have limits, without them; return its result, or raise its error.

    Raises RoomError where the system ended the process, ModelError where it crashed.
    """
    try:
        result: Result = child.ask(unlimited, work, *args)
    except Ended as end:
        if not end.by_system:
            raise ModelError(
                f"The process that tried one window {end.how}: the network crashes ONNX Runtime; export it anew."
            ) from None
    except MemoryError:
        pass
    else:
        return result
    raise RoomError(
        "The process that tried one window was ended by the system, most likely for its memory. "
        "Take a smaller --window or --batch."
    )


def limit(room: int, seconds: int) -> None:
    """Let this process have so many more bytes of address space and seconds of processor time than it had so far."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    _set(resource.RLIMIT_CORE, 0)  # a crash leaves nothing behind
    _set(resource.RLIMIT_AS, used + room)
    _set(resource.RLIMIT_CPU, int(time.process_time()) + seconds)


def unlimited(work: Callable[..., Result], *args: object) -> Result:
    """Run a function without the limits that this process may have; to be called in a child."""
    for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU):
        _set(which, resource.RLIM_INFINITY)
    return work(*args)


def _set(which: int, wanted: int) -> None:
    """Set a soft limit, to the hard one at most, which stays."""
    _, hard = resource.getrlimit(which)
    lower = hard if wanted == resource.RLIM_INFINITY or (hard != resource.RLIM_INFINITY and hard < wanted) else wanted
    resource.setrlimit(which, (lower, hard))


def _import(*modules: str) -> None:
    for name in modules:
        importlib.import_module(name)


def _serve(pipe: Connection) -> None:
    os.environ.update(ONE_THREAD)
    while True:
        try:
            work, args = pipe.recv()
        except (EOFError, ConnectionError):  # whoever asked is gone
            return
        try:
            answer: tuple[bool, object] = True, work(*args)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again by the caller
            error.add_note(f"In a child process: {traceback.format_exc()}")
            answer = False, portable(error)
        try:
            pipe.send(answer)
        except ConnectionError:  # as above
            return


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes and threads that Ctrl-C does not reach; if it is pressed meanwhile, it is heard at the end.

    A terminal sends Ctrl-C to every process at once. The first process is to hear it and to end the others, which
    would otherwise each die with a traceback. What is blocked in a thread is blocked in what the thread starts.
    """
    resource_tracker.ensure_running()  # started with the first process, it would let SIGINT through again
    pressed: list[int] = []
    # Another thread may take the signal, and Python then has the main thread handle it: so the handler is the first
    # to come and the last to go, and no KeyboardInterrupt can come between a mask and its undoing.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if pressed:
            signal.raise_signal(signal.SIGINT)
