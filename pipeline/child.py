"""Work in a process of its own: it gives its memory back, and takes nobody with it when it dies."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

from pipeline.errors import RoomError, portable

Result = TypeVar("Result")


def in_child(work: Callable[..., Result], *args: object) -> Result:
    """Run a module's function in a fresh process and return its result, or raise its error.

    The process ends with the call, whatever ends that. Raises RoomError where the system ended it.
    """
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(its, work, args), daemon=True)
    with interrupts_held():
        child.start()
    its.close()
    try:
        done, said = mine.recv()
    except EOFError:
        done, said = False, MemoryError()
    finally:
        child.kill()
        child.join()
    if isinstance(said, MemoryError):
        raise RoomError(
            "The process that tried one window was ended by the system, most likely for its memory. "
            "Take a smaller --window or --batch."
        )
    if not done:
        raise said
    result: Result = said
    return result


def _answer(to: Connection, work: Callable[..., object], args: tuple[object, ...]) -> None:
    try:
        answer = True, work(*args)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again by the caller
        error.add_note(f"In a child process: {traceback.format_exc()}")
        to.send((False, portable(error)))
    else:
        to.send(answer)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes and threads that Ctrl-C does not reach; if it is pressed meanwhile, it is heard at the end.

    A terminal sends Ctrl-C to every process at once. The first process is to hear it and to end the others, which
    would otherwise each die with a traceback. What is blocked in a thread is blocked in what the thread starts.
    """
    pressed: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # Another thread may take the signal, and Python then has the main thread handle it.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number)) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)
