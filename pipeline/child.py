"""Work in a process of its own: it gives its memory back, and takes nobody with it when it dies."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self, TypeVar

from pipeline.errors import ModelError, RoomError, portable

Result = TypeVar("Result")


class Ended(Exception):  # noqa: N818  # what happened, not yet anybody's error
    """A process ended before it answered: by a signal, by an exit code, or because its time was up."""

    def __init__(self, how: str, *, by_system: bool) -> None:
        super().__init__(how)
        self.how = how
        self.by_system = by_system  # killed from outside, most likely for its memory


class Child:
    """A process that does one thing after another; started for the first, and anew after it has died."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, work: Callable[..., Result], *args: object, seconds: float | None = None) -> Result:
        """Run a module's function there and return its result, or raise its error.

        Raises Ended where the process dies of it or takes longer than `seconds`; the next call has a new one.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send((work, args))
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
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(target=_serve, args=(its,), daemon=True)
        with interrupts_held():
            process.start()
        self._process, self._pipe = process, mine
        its.close()
        return mine

    def _ended(self) -> Ended:
        if self._process is None:
            return Ended("was not there", by_system=True)
        self._process.join()
        code = self._process.exitcode or 0
        self.close()
        if code >= 0:
            return Ended(f"ended with code {code}", by_system=False)
        if -code == signal.SIGXCPU:
            return Ended("took more time of the processor than is allowed", by_system=False)
        return Ended(f"was ended by {signal.Signals(-code).name}", by_system=-code == signal.SIGKILL)


def in_child(work: Callable[..., Result], *args: object) -> Result:
    """Run a module's function in a fresh process and return its result, or raise its error.

    In a child it is run where it is: a child may have none of its own, and does no harm to others already. The process
    ends with the call, whatever ends that. Raises RoomError where the system ended it, ModelError where it crashed.
    """
    if multiprocessing.current_process().daemon:
        return work(*args)
    try:
        with Child() as child:
            return child.ask(work, *args)
    except Ended as end:
        if not end.by_system:
            raise ModelError(
                f"The process that tried one window {end.how}: the network crashes ONNX Runtime; export it anew."
            ) from None
    except MemoryError:
        pass
    raise RoomError(
        "The process that tried one window was ended by the system, most likely for its memory. "
        "Take a smaller --window or --batch."
    )


def _serve(pipe: Connection) -> None:
    while True:
        try:
            work, args = pipe.recv()
        except EOFError:  # whoever asked is gone
            return
        try:
            answer: tuple[bool, object] = True, work(*args)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again by the caller
            error.add_note(f"In a child process: {traceback.format_exc()}")
            answer = False, portable(error)
        pipe.send(answer)


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
