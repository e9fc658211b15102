"""The hold on a scene: one run has it, who is silent or dead loses it; where none can be had, this is said."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from pipeline.errors import LeaseError, SettingsError
from pipeline.outside import Store
from pipeline.store.bucket import Bucket
from pipeline.store.hold import Hold
from pipeline.store.lease import myself
from tests.stored import kept, stored


@pytest.fixture(scope="module")
def server():
    with kept("masks") as (said, _):
        yield said


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return Bucket(f"s3://masks/{tmp_path.name}", Store())


def leave(bucket, **said):
    """A lease whose holder has not ended it."""
    holder = replace(myself("a run of a", 30.0), **said)
    assert bucket.create(".leases/a/lease-000001.json", holder.to_bytes())


def test_a_second_run_is_refused_and_told_who_holds_it(bucket):
    with Hold.acquire(bucket, "a"):
        with pytest.raises(LeaseError, match=r"held by a run of a \(process \d+ on .*by the store's clock"):
            Hold.acquire(bucket, "a")
        with Hold.acquire(bucket, "b"):
            pass
    with Hold.acquire(bucket, "a"):
        pass


def test_of_many_at_once_one_gets_it(bucket):
    got, refused = [], []

    def run():
        try:
            got.append(Hold.acquire(Bucket(bucket.address, Store()), "a"))
        except LeaseError:
            refused.append(1)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)
    with got[0]:
        pass


def test_a_silent_holder_is_void_by_the_stores_clock_and_loses_it(bucket, caplog):
    leave(bucket, host="elsewhere", place="elsewhere", renewed=time.time() + 1e6, since=0.0)
    with pytest.raises(LeaseError, match="on elsewhere"):
        Hold.acquire(bucket, "a")
    time.sleep(3)
    with Hold.acquire(bucket, "a", void_seconds=1):
        assert "silent for" in caplog.text
        assert list(bucket.list(".leases/a")) == ["lease-000002.json"]


def test_a_dead_process_holds_nothing(bucket, caplog):
    code = (
        "import os, sys; from pipeline.store.bucket import Bucket; from pipeline.outside import Store; "
        "from pipeline.store.hold import Hold; Hold.acquire(Bucket(sys.argv[1], Store()), 'a'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, bucket.address]).returncode == 9
    with Hold.acquire(bucket, "a"):
        assert "has died: it is taken over" in caplog.text


def test_a_holder_that_was_given_up_finds_out(bucket):
    with Hold.acquire(bucket, "a", renew_seconds=0.2) as hold:
        bucket.create(".leases/a/lease-000009.json", myself("another", 30.0).to_bytes())
        assert hold.lost.wait(20)
        with pytest.raises(LeaseError, match="has lost"):
            hold.check()
    assert json.loads(bucket.get(".leases/a/lease-000009.json"))["owner"] == "another"  # untouched by the loser


def test_a_store_without_conditional_puts_is_named_once(tmp_path, monkeypatch, caplog):
    with stored(tmp_path, remembered="5m") as said:
        (tmp_path / "masks").mkdir()
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket("s3://masks/here", Store())
        assert not bucket.conditional
        for _ in range(2):
            with Hold.acquire(bucket, "a"):
                pass
    assert caplog.text.count("has no conditional put") == 1


def test_a_ceiling_on_requests_is_a_sentence(bucket):
    few = Bucket(bucket.address, Store(max_requests=3))
    few.put("a", b"1")
    few.put("a", b"2")
    few.put("a", b"3")
    with pytest.raises(SettingsError, match="max_requests: 3"):
        few.put("a", b"4")
    assert bucket.get("a") == b"3"


def test_what_a_store_refuses_is_told_without_what_it_sent_back(bucket, monkeypatch):
    with pytest.raises(SettingsError, match="no such bucket"):
        Bucket("s3://nothing/here", Store()).put("a", b"1")
    away = Bucket("s3://masks/here", Store(endpoint="http://127.0.0.1:9"), patience=1)
    with pytest.raises(SettingsError, match="no server answers there"):
        away.get("a")


def test_keys_of_a_profile_are_read_again(bucket, monkeypatch, tmp_path):
    from pipeline.store.credentials import profile_of

    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert profile_of() is None
    said = "[default]\naws_access_key_id = {0}\naws_secret_access_key = {0}\naws_session_token = {0}\n"
    file.write_text(said.format("first"))
    keys = profile_of()
    assert keys()["token"] == "first"
    file.write_text(said.format("second"))
    assert keys()["token"] == "second"
    again = Bucket(bucket.address, Store())
    again.put("a", b"1")
    assert again.get("a") == b"1"
