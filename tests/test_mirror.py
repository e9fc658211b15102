"""Results in a bucket: what lies there is what a folder would hold, whoever made which part of it, and when it died."""

import hashlib
import json
import os
import shutil
import signal
import subprocess

import pytest
import yaml

from flows.bucketed import here
from flows.status import status_of
from flows.tasks import run_job
from pipeline.document import load_job
from pipeline.errors import IdentityError
from pipeline.outside import Store
from pipeline.store.bucket import Bucket
from tests.disturbed import KINDS, disturbed, standing_still
from tests.images import quiet
from tests.mill import COMMAND, last_json, maskmill, surroundings, world, write_job
from tests.stored import kept, stored

pytestmark = quiet


@pytest.fixture(scope="module")
def server():
    with kept("masks") as (said, _):
        yield said


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """A place of its own in a bucket, of which the environment tells."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return Bucket(f"s3://masks/{tmp_path.name}", Store())


def pixels_there(bucket, scene="scene0"):
    """The digest of each file that a reader opens, by its name."""
    names = [name for name in bucket.list(scene) if name.startswith("mask.") or name == "quicklook.png"]
    return {name: hashlib.sha256(bucket.get(f"{scene}/{name}")).hexdigest() for name in names}


def pixels_here(folder):
    files = [*folder.glob("mask.zarr/**/*"), *folder.glob("mask.*"), folder / "quicklook.png"]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def jobs(bucket, tmp_path, side=96, **more):
    """A job that goes to the bucket, and the same result in a folder."""
    job = {**world(tmp_path, side=side), "cluster": "inline", **more}
    here = maskmill("run", "--job", write_job(tmp_path, job, "here.yaml"), cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    path = write_job(tmp_path, {**job, "out": bucket.address, "store": {"workshop": str(tmp_path / "shop")}})
    return path, pixels_here(tmp_path / "out/scene0")


def test_what_lies_in_the_bucket_is_what_lies_in_a_folder(bucket, tmp_path):
    job, here = jobs(bucket, tmp_path)
    done = maskmill("run", "--job", job, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pixels_there(bucket) == here
    assert {"report.json", "ledger/plan.json", "ledger/journal-0.jsonl"} <= set(bucket.list("scene0"))
    before = bucket.list("scene0")
    shutil.rmtree(tmp_path / "shop")
    again = maskmill("run", "--job", job, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (row,) = last_json(again)["scenes"]
    assert (row["state"], row["out"]) == ("complete already", f"{bucket.address}/scene0")
    proof = maskmill("verify", f"{bucket.address}/scene0", "--json", cwd=tmp_path)
    assert proof.returncode == 0, proof.stderr
    assert last_json(proof)["differing"] == 0
    assert bucket.list("scene0") == before  # nothing was put again


@pytest.mark.slow
def test_a_killed_run_goes_on_on_another_machine(bucket, tmp_path):
    job, here = jobs(bucket, tmp_path, side=384)
    deaths, seen = 0, 0
    for allowed in range(10, 2000, 30):
        with (
            standing_still(os.environ["AWS_ENDPOINT_URL"], allowed) as (address, reached),
            (tmp_path / "said").open("w") as told,
        ):
            around = surroundings(AWS_ENDPOINT_URL=address)
            process = subprocess.Popen([*COMMAND, "run", "--job", job], cwd=tmp_path, env=around, stderr=told)
            while process.poll() is None and not reached.wait(0.1):
                pass
            if not reached.is_set():
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
        if "report.json" in bucket.list("scene0"):  # it comes last
            assert pixels_there(bucket) == here
        shutil.rmtree(tmp_path / "shop", ignore_errors=True)
        deaths, seen = deaths + 1, max(seen, len(bucket.list("scene0")))
    assert process.returncode == 0, (tmp_path / "said").read_text()
    assert deaths > 3
    assert seen > 15
    assert pixels_there(bucket) == here
    report = json.loads(bucket.get("scene0/report.json"))
    assert report["blocks"]["failed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_flaps_gets_the_same_bytes(bucket, tmp_path, seed):
    """A run asks again; one that gives up says so, and the same command goes on."""
    job, here = jobs(bucket, tmp_path, side=192)
    with disturbed(os.environ["AWS_ENDPOINT_URL"], seed, share=0.3) as (address, faults):
        for _ in range(10):
            done = maskmill("run", "--job", job, "--json", cwd=tmp_path, AWS_ENDPOINT_URL=address)
            assert "Traceback" not in done.stderr
            if done.returncode == 0:
                break
            assert "again" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    assert {kind for kind, count in faults.items() if count} == {None, *KINDS}
    assert pixels_there(bucket) == here


@pytest.mark.slow
def test_a_store_without_conditional_puts_holds_the_same_bytes(tmp_path, monkeypatch):
    (tmp_path / "store" / "masks").mkdir(parents=True)
    with stored(tmp_path / "store", remembered="5m") as said:
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket("s3://masks/here", Store())
        job, here = jobs(bucket, tmp_path)
        done = maskmill("run", "--job", job, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("has no conditional put") == 1
        assert pixels_there(bucket) == here


@pytest.mark.parametrize("command", ["catalogue", "clean"])
def test_what_works_in_folders_refuses_a_bucket(bucket, tmp_path, command):
    done = maskmill(command, bucket.address, cwd=tmp_path)
    assert done.returncode == 2
    assert f"`maskmill {command}` works in folders, not in a bucket" in done.stderr


@pytest.mark.slow
def test_in_prefect_with_a_golden_scene_and_a_notice(bucket, tmp_path):
    path, here = jobs(bucket, tmp_path)
    job = yaml.safe_load(path.read_text()) | {"golden": "out/scene0"}
    job |= {"scenes": [*job["scenes"], "nowhere.tif"], "on_failure": {"command": ["sh", "-c", "cat > told"]}}
    write_job(tmp_path, job)
    prefect = {"PREFECT_HOME": str(tmp_path / "prefect")}
    done = maskmill("run", "--job", "job.yaml", "--prefect", "--json", cwd=tmp_path, **prefect)
    assert done.returncode == 3, done.stderr
    assert pixels_there(bucket) == here
    told = json.loads((tmp_path / "told").read_text())
    assert (told["out"], told["counts"]) == (bucket.address, {"complete": 1})
    assert "nowhere.tif" in told["problems"][0]


def test_what_is_no_result_is_left_alone(bucket, tmp_path):
    job, _ = jobs(bucket, tmp_path)
    bucket.put("scene0/notes.txt", b"mine")
    with pytest.raises(IdentityError, match=r"holds notes\.txt and no ledger"):
        run_job(load_job(job, {}))
    assert list(bucket.list("scene0")) == ["notes.txt"]


def test_overwrite_replaces_what_lies_there(bucket, tmp_path):
    job, _ = jobs(bucket, tmp_path)
    assert run_job(load_job(job, {})).exit_code == 0
    with pytest.raises(IdentityError, match="--overwrite"):
        run_job(load_job(job, {"card": {"scaling": {"kind": "constant", "divide_by": 9}}}))
    other = {"card": {"scaling": {"kind": "constant", "divide_by": 9}}, "overwrite": True}
    assert run_job(load_job(job, other)).exit_code == 0
    near = load_job(tmp_path / "here.yaml", {**other, "out": tmp_path / "other"})
    assert run_job(near).exit_code == 0
    assert pixels_there(bucket) == pixels_here(tmp_path / "other/scene0")


def test_the_next_night_sees_in_the_bucket_what_is_done(bucket, tmp_path):
    job = {**world(tmp_path, scenes=2), "cluster": "inline", "scenes": [{"folder": "in"}], "settle": 0}
    (tmp_path / "in").mkdir()
    job |= {"out": bucket.address, "store": {"workshop": str(tmp_path / "shop")}}
    for number, names in enumerate([["scene0"], ["scene1"], []]):
        for name in names:
            shutil.copy(tmp_path / f"{name}.tif", tmp_path / "in")
        done = run_job(load_job(write_job(tmp_path, job), {}))
        assert [row["scene"] for row in done.scenes] == names
        assert done.exit_code == 0
        assert bucket.get("scenes.parquet")
        shutil.rmtree(tmp_path / "shop")
        items = [name for name in bucket.list("catalogue") if name.endswith(".item.json")]
        assert len(items) == min(number + 1, 2)
    with here(bucket.address) as ledgers:
        assert [one.published for one in status_of(ledgers)] == [True, True]
