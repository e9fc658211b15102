"""Memory that does not hold a batch halves it, and no byte of the answer changes."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.network.engine import EngineOutOfMemory
from pipeline.network.shrink import Shrinking
from tests.test_engine import built, windows


class Small:
    """An engine in a memory that holds so many windows; all else is the real one's."""

    def __init__(self, batch, room):
        self.engine, self.batch, self.room = built(batch), batch, room
        self.numeric_class = self.engine.numeric_class

    def run(self, *batch):
        if self.batch > self.room:
            raise EngineOutOfMemory(f"A batch of {self.batch} does not fit.")
        return self.engine.run(*batch)


@pytest.mark.parametrize("room", [1, 2, 3, 7, 8])
def test_a_batch_is_done_in_as_many_parts_as_memory_asks_for(room, caplog):
    made = []

    def build(batch):
        made.append(batch)
        return Small(batch, room)

    engine, alone = Shrinking(build, 8), built(8)
    for count in (8, 5, 1):
        batch = windows(count, 32, seed=count)
        said, whole = engine.run(*batch), alone.run(*batch)
        assert {name: values.tobytes() for name, values in said.items()} == {
            name: values.tobytes() for name, values in whole.items()
        }
    assert engine.batch == 8
    assert made == {1: [8, 4, 2, 1], 2: [8, 4, 2], 3: [8, 4, 2], 7: [8, 4], 8: [8]}[room]
    assert len(caplog.records) == len(made) - 1  # each halving is told, once


def test_several_threads_halve_once():
    made = []

    def build(batch):
        made.append(batch)
        return Small(batch, 4)

    engine = Shrinking(build, 8)
    batches = [windows(8, 32, seed) for seed in range(8)]
    alone = [built(8).run(*batch)["classes"].tobytes() for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        assert [said["classes"].tobytes() for said in threads.map(lambda one: engine.run(*one), batches)] == alone
    assert made == [8, 4]


def test_one_window_that_does_not_fit_is_an_error():
    with pytest.raises(EngineOutOfMemory, match="A batch of 1"):
        Shrinking(lambda batch: Small(batch, 0), 4).run(*windows(3, 32))


def test_a_memory_that_is_really_too_small_is_answered_during_the_run():
    script = """
        import psutil, resource
        from tests.test_engine import built, windows
        from pipeline.network.shrink import Shrinking
        built(1, 1024).run(*windows(1, 1024))
        engine, batch = Shrinking(lambda size: built(size, 1024), 8), windows(8, 1024)
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 700 * 2**20,) * 2)
        print(engine.run(*batch)["classes"].shape)
    """
    command, root = [sys.executable, "-c", textwrap.dedent(script)], Path(__file__).parents[1]
    done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True, timeout=120)
    assert "(8, 1016, 1016)" in done.stdout, done
    assert "This process goes on with 4 at once." in done.stderr
