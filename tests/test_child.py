"""Work in a process of its own: what it returns, raises and dies of, and Ctrl-C."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from pipeline.child import in_child, interrupts_held
from pipeline.errors import BlockError, RoomError


def pid_and(number):
    return os.getpid(), number


def fail(kind, *args):
    raise kind(*args)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def press_ctrl_c_and_answer():
    os.kill(os.getpid(), signal.SIGINT)
    return "unmoved"


def test_its_result_comes_from_another_process():
    pid, number = in_child(pid_and, 7)
    assert number == 7
    assert pid != os.getpid()


def test_its_error_is_raised_here_and_one_that_nobody_foresaw_says_where_it_was():
    with pytest.raises(BlockError, match="The tile is torn"):
        in_child(fail, BlockError, "The tile is torn.")
    with pytest.raises(ZeroDivisionError, match="by what") as raised:
        in_child(fail, ZeroDivisionError, "by what?")
    assert "in fail" in raised.value.__notes__[0]


@pytest.mark.parametrize("work", [(die,), (fail, MemoryError)], ids=["killed", "out of memory"])
def test_a_process_that_the_system_ends_is_a_matter_of_memory(work):
    with pytest.raises(RoomError, match="most likely for its memory"):
        in_child(*work)


def test_ctrl_c_does_not_reach_it():
    assert in_child(press_ctrl_c_and_answer) == "unmoved"


def test_ctrl_c_here_ends_it_at_once():
    others = set(multiprocessing.active_children())
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_child(time.sleep, 60)
    assert time.monotonic() - began < 10
    assert set(multiprocessing.active_children()) <= others


def test_what_is_pressed_while_interrupts_are_held_is_heard_afterwards():
    def press():
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            heard.append("not yet")
        time.sleep(5)  # where another thread takes the signal, it is heard a moment later

    taker = threading.Event()
    threading.Thread(target=taker.wait, daemon=True).start()  # that other thread
    for _ in range(50):
        heard = []
        with pytest.raises(KeyboardInterrupt):
            press()
        assert heard == ["not yet"]
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    taker.set()


def nested(number):
    return in_child(abs, number)


def test_a_child_needs_none_of_its_own():
    assert in_child(nested, -3) == 3
