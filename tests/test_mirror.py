"""Results in a bucket: what lies there is what a folder would hold, whoever made which part of it, and when it died."""

import hashlib
import json
import shutil
import signal
import subprocess
import time

import pytest

from flows.tasks import run_job
from pipeline.document import load_job
from pipeline.errors import IdentityError
from pipeline.outside import Store
from pipeline.store.bucket import Bucket
from tests.images import quiet
from tests.mill import COMMAND, last_json, maskmill, surroundings, world, write_job
from tests.stored import kept

pytestmark = quiet
OUT = "s3://masks/night"


@pytest.fixture
def said(monkeypatch):
    """What the environment says of a server with the bucket `masks`."""
    with kept("masks") as (said, _):
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        yield said


def listed(scene="scene0"):
    return Bucket(OUT, Store()).list(scene)


def pixels_there(scene="scene0"):
    """The digest of each file that a reader opens, by its name."""
    bucket = Bucket(OUT, Store())
    names = [name for name in bucket.list(scene) if name.startswith("mask.") or name == "quicklook.png"]
    return {name: hashlib.sha256(bucket.get(f"{scene}/{name}")).hexdigest() for name in names}


def pixels_here(folder):
    files = [*folder.glob("mask.zarr/**/*"), *folder.glob("mask.*"), folder / "quicklook.png"]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def jobs(tmp_path, side=96, **more):
    """A job that goes to the bucket, and the same result in a folder."""
    job = {**world(tmp_path, side=side), "cluster": "inline", **more}
    here = maskmill("run", "--job", write_job(tmp_path, job, "here.yaml"), cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    path = write_job(tmp_path, {**job, "out": OUT, "store": {"workshop": str(tmp_path / "shop")}})
    return path, pixels_here(tmp_path / "out/scene0")


def test_what_lies_in_the_bucket_is_what_lies_in_a_folder(said, tmp_path):
    job, here = jobs(tmp_path)
    done = maskmill("run", "--job", job, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pixels_there() == here
    assert {"report.json", "ledger/plan.json", "ledger/journal-0.jsonl"} <= set(listed())
    before = listed()
    shutil.rmtree(tmp_path / "shop")
    again = maskmill("run", "--job", job, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert last_json(again)["scenes"][0]["state"] == "already complete"
    assert listed() == before  # nothing was put again


@pytest.mark.slow
def test_a_killed_run_goes_on_on_another_machine(said, tmp_path):
    job, here = jobs(tmp_path, side=640)
    deaths, seen = 0, 0
    for _ in range(40):
        process = subprocess.Popen(
            [*COMMAND, "run", "--job", str(job)], cwd=tmp_path, env=surroundings(), stderr=subprocess.DEVNULL
        )
        began = len(listed())
        while process.poll() is None and len(listed()) <= began + 25:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert "report.json" not in listed()
        shutil.rmtree(tmp_path / "shop")
        deaths, seen = deaths + 1, max(seen, len(listed()))
    assert process.returncode == 0
    assert deaths > 3
    assert seen > 25
    assert pixels_there() == here
    report = json.loads(Bucket(OUT, Store()).get("scene0/report.json"))
    assert report["blocks"]["failed"] == 0


def test_what_is_no_result_is_left_alone(said, tmp_path):
    job, _ = jobs(tmp_path)
    Bucket(OUT, Store()).put("scene0/notes.txt", b"mine")
    with pytest.raises(IdentityError, match=r"holds notes\.txt and no ledger"):
        run_job(load_job(job, {}))
    assert list(listed()) == ["notes.txt"]


def test_overwrite_replaces_what_lies_there(said, tmp_path):
    job, _ = jobs(tmp_path)
    assert run_job(load_job(job, {})).exit_code == 0
    with pytest.raises(IdentityError, match="--overwrite"):
        run_job(load_job(job, {"card": {"scaling": {"kind": "constant", "divide_by": 9}}}))
    other = {"card": {"scaling": {"kind": "constant", "divide_by": 9}}, "overwrite": True}
    assert run_job(load_job(job, other)).exit_code == 0
    near = load_job(tmp_path / "here.yaml", {**other, "out": tmp_path / "other"})
    assert run_job(near).exit_code == 0
    assert pixels_there() == pixels_here(tmp_path / "other/scene0")
