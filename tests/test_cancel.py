"""A run that is cancelled in Prefect ends within seconds, leaves nothing running, and is gone on with by the next."""

import json

import pytest

from tests.mill import world, write_job
from tests.serving import Night, gone, until

BEGUN = 30  # blocks after which it is cancelled


def done_blocks(journal):
    """The blocks that a journal says are done, as often as it says so."""
    written = journal.read_bytes().rpartition(b"\n")[0] if journal.exists() else b""
    said = [json.loads(line.partition(b" ")[2]) for line in written.splitlines()]
    return [one["block"] for one in said if one.get("state") == "done"]


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_run_that_is_cancelled_stops_and_the_next_goes_on(tmp_path):
    write_job(tmp_path, world(tmp_path, side=1500) | {"cluster": "local", "workers": 2})
    journal = tmp_path / "out" / "scene0" / "ledger" / "journal.jsonl"
    night = Night(tmp_path, cron="0 0 1 1 *")
    try:
        run = night.begin()
        until(lambda: len(done_blocks(journal)) >= BEGUN)
        family = night.family()
        assert family
        night.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})  # as the button in the UI does
        until(lambda: all(map(gone, family)), 40)
        until(lambda: [one["id"] for one in night.runs("CANCELLED")] == [run], 40)
        had = done_blocks(journal)
        assert len(had) < 47 * 47
        assert not (tmp_path / "out" / "scene0" / "mask.tif").exists()

        again = night.begin()
        until(lambda: [one["id"] for one in night.runs("COMPLETED")] == [again], 200)
        assert (tmp_path / "out" / "scene0" / "mask.tif").is_file()
        assert done_blocks(journal)[: len(had)] == had
        assert sorted(set(done_blocks(journal))) == list(range(47 * 47))
        assert len(done_blocks(journal)) == 47 * 47  # none twice: what had been in flight had not been written down
    finally:
        night.end()
