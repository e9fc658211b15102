"""Blocks in real processes, Dask's or one alone: tried again, given up with a reason, and never one for another."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import re
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

import dask
import numpy as np
import pytest
from dask.utils import key_split
from hypothesis import given
from hypothesis import strategies as st

from flows import feed as feeding
from flows.cluster import local_cluster
from flows.crew import Crew, alone
from flows.feed import IN_FLIGHT, Feed
from flows.patience import Patience
from pipeline.child import Child, limit
from pipeline.errors import ModelError
from pipeline.grid import Grid, Rect
from pipeline.plan import Plan
from pipeline.settings import Job
from pipeline.store.record import Record, State
from pipeline.store.sink import Sink
from pipeline.work import close_bench, run_block
from tests.oracle import HUGE, brittle, noise, opened, save_model, save_scene, small_unet


@dataclass(frozen=True, slots=True)
class DeadlyGrid(Grid):
    """A grid of which some blocks kill the process that does them, as lack of memory would; once a file is there."""

    deadly: tuple[int, ...] = ()
    armed: str = os.devnull

    def owned(self, block: int) -> Rect:
        """A block's pixels; the end, for some."""
        if block in self.deadly and Path(self.armed).exists():
            os._exit(9)
        return Grid.owned(self, block)


@dataclass(frozen=True, slots=True)
class SlowGrid(Grid):
    """A grid of which some blocks hang in native code, deaf to Python; with a file to count in, the first time only."""

    slow: tuple[int, ...] = ()
    tried: str = ""

    def owned(self, block: int) -> Rect:
        """A block's pixels; after a sleep that holds the interpreter's lock, for some."""
        if block in self.slow and not (self.tried and Path(self.tried).exists()):
            if self.tried:
                Path(self.tried).touch()
            ctypes.PyDLL(None).sleep(1000)
        return Grid.owned(self, block)


def feed(client, plan, blocks, attempts, hands, **more):
    return Feed(client, plan, attempts, lambda: hands, **more).records(blocks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("feed")
    save_model(place / "model.onnx", brittle(small_unet()))
    pixels = noise(250, 250).astype(np.float32)
    pixels[0, 70, 70] = HUGE  # in block 5: what the network makes of it is not finite
    save_scene(place / "scene.tif", pixels)
    return place


def planned(folder: Path, out: Path) -> Plan:
    """A plan of 16 blocks, its store laid out."""
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "out": out, "device": "cpu"}
    with opened(Job(**said, window=76, block=64)) as run:
        assert run.todo == list(range(16))
        return run.plan


def deadly(plan: Plan, *blocks: int, **armed: str) -> Plan:
    return replace(plan, grid=DeadlyGrid(**sides(plan), deadly=blocks, **armed))


def sides(plan: Plan) -> dict:
    return {one.name: getattr(plan.grid, one.name) for one in fields(Grid)}


@pytest.fixture(scope="module")
def client():
    with local_cluster(1) as made:
        yield made


@pytest.fixture(scope="module", params=["cluster", "alone"])
def done(request):
    """What has blocks done: (plan, blocks, attempts) to their records."""
    if request.param == "cluster":
        client = request.getfixturevalue("client")
        yield lambda plan, blocks, attempts, **more: feed(client, plan, blocks, attempts, hands=1, **more)
    else:
        with Child() as child:
            child.warm("pipeline.work", "tests.test_feed")
            child.ask(limit, 1 << 20, 60)  # as a file of a stranger's was opened
            yield lambda plan, blocks, attempts, **more: alone(child, plan, blocks, attempts, **more)


def by_block(records) -> dict[int, Record]:
    found = {}
    for record in records:
        assert record.block not in found
        found[record.block] = record
    return found


def known(client) -> int:
    """How many tasks the scheduler holds."""
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


@pytest.mark.parametrize("seed", [0, 1])
def test_any_order_gives_the_shards_that_this_process_makes(folder, done, tmp_path, seed):
    here, there = (planned(folder, tmp_path / name) for name in ("here", "there"))
    order = random.Random(seed).sample(range(16), 16)
    found = by_block(done(there, order, 1))
    assert set(found) == set(range(16))
    for block in range(16):
        own = run_block(here, block)
        assert (found[block].state, found[block].shards, found[block].counts) == (own.state, own.shards, own.counts)
    close_bench()


def test_threads_of_one_worker_make_the_same_and_each_counts_what_it_read(folder, client, tmp_path):
    one, three = (planned(folder, tmp_path / name) for name in ("one", "three"))
    blocks = [block for block in range(16) if block != 5]
    alone = by_block(feed(client, one, blocks, attempts=1, hands=1))
    with local_cluster(1, threads=3) as threaded:
        together = by_block(feed(threaded, three, blocks, attempts=1, hands=3))
    for block in blocks:
        assert together[block].shards == alone[block].shards
        assert together[block].bytes_read == alone[block].bytes_read > 0
    assert sum(record.seconds["wait"] for record in together.values()) > 0


def test_no_more_blocks_are_in_flight_than_the_workers_can_use(folder, client, tmp_path):
    plan, most = planned(folder, tmp_path), 0
    for record in feed(client, plan, range(16), attempts=1, hands=1):
        assert record.state in {State.DONE, State.FAILED}
        most = max(most, known(client))
    assert 1 < most <= IN_FLIGHT


def test_a_feed_that_is_left_takes_its_blocks_back(folder, client, tmp_path):
    blocks = feed(client, planned(folder, tmp_path), range(16), attempts=1, hands=1)
    next(blocks)
    blocks.close()
    until = time.monotonic() + 20
    while known(client) and time.monotonic() < until:
        time.sleep(0.05)
    assert known(client) == 0


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_block_that_fails_is_tried_again_and_then_given_up_with_the_reason(folder, done, tmp_path, attempts):
    found = by_block(done(planned(folder, tmp_path), [4, 5, 6], attempts))
    assert {block: found[block].state for block in (4, 6)} == {4: State.DONE, 6: State.DONE}
    assert (found[5].state, found[5].attempts) == (State.FAILED, attempts)
    assert "NaN or infinity" in found[5].reason


def test_what_no_block_can_be_done_with_ends_the_run(folder, done, tmp_path):
    plan = planned(folder, tmp_path / "out")
    save_model(tmp_path / "changed.onnx", small_unet(seed=1))
    changed = replace(plan, network=replace(plan.network, path=str(tmp_path / "changed.onnx")), store=f"{plan.store} ")
    with pytest.raises(ModelError, match="changed since the run was planned"):
        list(done(changed, range(16), 3))


def test_a_block_that_kills_its_worker_each_time_is_given_up_and_no_other_is(folder, done, tmp_path):
    plan = deadly(planned(folder, tmp_path), 1)
    found = by_block(done(plan, range(5), 2))
    assert {block: found[block].state for block in (0, 2, 3, 4)} == dict.fromkeys((0, 2, 3, 4), State.DONE)
    assert found[1].state is State.FAILED
    assert re.search("three workers died of it|process that did it ended with code 9", found[1].reason)


@pytest.mark.parametrize("again", ["it lives", "it dies"])
def test_a_worker_that_dies_with_what_it_did_in_its_hands_costs_no_block(folder, client, tmp_path, again):
    """The coordinator hears that blocks are done, and before it has the result of them the worker is killed."""
    armed = tmp_path / "armed"
    plan = deadly(planned(folder, tmp_path / "out"), *([4] if again == "it dies" else []), armed=str(armed))

    def hands() -> int:
        if not armed.exists() and blocks._running:
            until = time.monotonic() + 60
            while blocks._ended.qsize() < 2 and time.monotonic() < until:
                time.sleep(0.01)
            armed.touch()
            for worker in client.run(os.getpid).values():
                os.kill(worker, signal.SIGKILL)
        return 1

    blocks = Feed(client, plan, 1, hands)
    found = by_block(blocks.records(range(10), several=3))
    failed = {block: record.reason for block, record in found.items() if record.state is State.FAILED}
    assert failed.keys() == {5} | set(plan.grid.deadly)
    assert set(found) == set(range(10))


def test_a_block_that_hangs_is_ended_and_done_again(folder, tmp_path):
    plan = planned(folder, tmp_path / "out")
    plan = replace(plan, grid=SlowGrid(**sides(plan), slow=(2,), tried=str(tmp_path / "tried")))
    with local_cluster(1) as client:
        found = by_block(feed(client, plan, range(5), 1, hands=1, patience=Patience(least=9.0)))
    assert {record.state for record in found.values()} == {State.DONE}


@pytest.mark.slow
def test_a_block_that_always_hangs_is_given_up_and_no_other_is(folder, done, tmp_path):
    plan = planned(folder, tmp_path)
    plan = replace(plan, grid=SlowGrid(**sides(plan), slow=(2,)))
    found = by_block(done(plan, range(5), 1, patience=Patience(least=9.0)))
    assert {block for block, record in found.items() if record.state is State.FAILED} == {2}
    assert "took more than" in found[2].reason


@given(st.lists(st.floats(0.001, 1000), max_size=300), st.floats(0, 1000))
def test_patience_is_ten_times_the_median_of_the_last_blocks_and_two_minutes(spent, expected):
    patience = Patience(expected)
    for seconds in spent:
        patience.heard(Record(block=0, state=State.DONE, seconds={"predict": seconds / 2, "read": seconds / 2}))
    usual = float(np.median(spent[-101:])) if spent else expected
    assert patience.seconds == pytest.approx(max(120, 10 * usual))


def test_several_blocks_may_travel_together_and_are_told_apart(folder, client, tmp_path):
    plan = deadly(planned(folder, tmp_path), 9)
    records = Feed(client, plan, 2, lambda: 1).records(range(16), several=5)
    found = by_block(records)
    assert {block for block, record in found.items() if record.state is State.FAILED} == {5, 9}
    assert len(found) == 16


@pytest.mark.slow
def test_a_worker_that_is_away_for_too_long_is_replaced(folder, tmp_path):
    here, there = (planned(folder, tmp_path / name) for name in ("here", "there"))
    with dask.config.set({"distributed.scheduler.worker-ttl": "2s"}), local_cluster(2) as client:
        away = random.Random(0).choice(list(client.run(os.getpid).values()))
        found = {}
        for record in feed(client, there, [*range(5), *range(6, 16)], 1, hands=2):
            found[record.block] = record
            if len(found) == 3:
                os.kill(away, signal.SIGSTOP)
        with suppress(ProcessLookupError):  # its nanny has ended it
            os.kill(away, signal.SIGCONT)
    for block, record in found.items():
        assert record.shards == run_block(here, block).shards
    close_bench()
    assert len(found) == 15
    assert all(
        Sink(Path(there.store)).check("mask", *there.grid.position(block), found[block].shards["mask"])
        for block in found
    )


@pytest.mark.parametrize(
    ("seconds", "scenes", "asked", "sooner"),
    [(0.1, 1, None, True), (0.1, 1, 2, False), (0.1, 999, None, False), (1.0, 1, None, False)],
    ids=["little work", "workers were asked for", "many scenes", "much work"],
)
def test_a_cluster_is_started_where_it_is_done_sooner(folder, tmp_path, seconds, scenes, asked, sooner):
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "out": tmp_path}
    with opened(Job(**said, device="cpu", window=76, block=64, workers=asked)) as run, ExitStack() as stack:
        run.settled = replace(run.settled, probe=replace(run.settled.probe, seconds=seconds))
        crew = Crew(stack, stack.enter_context(Child()), scenes)
        record = next(crew.records(run))
        assert record.state is State.DONE
        assert (crew.client is None) == sooner


def test_an_answer_that_is_not_there_in_time_or_is_cancelled_is_asked_for_again(folder, tmp_path, monkeypatch):
    plan, failures = planned(folder, tmp_path), [TimeoutError, asyncio.CancelledError] * 3
    with local_cluster(1) as client:
        gather = client._gather

        async def unsteady(*arguments, **more):
            if failures:
                raise failures.pop()
            return await gather(*arguments, **more)

        monkeypatch.setattr(client, "_gather", unsteady)
        assert len(by_block(feed(client, plan, range(4), attempts=1, hands=1))) == 4
    assert not failures


@pytest.mark.slow
def test_several_that_kill_among_many_that_fail_or_succeed(folder, tmp_path):
    plan = deadly(planned(folder, tmp_path), 0, 6, 15)
    with local_cluster(2) as client:
        found = by_block(feed(client, plan, range(16), attempts=2, hands=2))
    failed = {block for block, record in found.items() if record.state is State.FAILED}
    assert failed == {0, 5, 6, 15}
    assert len(found) == 16


def test_the_scheduler_keeps_nothing_of_blocks_that_are_done(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(feeding, "OFTEN", 3)
    plan = planned(folder, tmp_path)
    for number in range(1000):
        key_split(f"block-{number}")
    with local_cluster(1) as client:
        assert len(list(feed(client, plan, range(6), 1, hands=1))) == 6
        spans = client.cluster.scheduler.extensions["spans"].spans.values()
        assert spans
        assert not any(span._metadata["collections"] for span in spans)
    assert key_split.cache_info().currsize < 100
