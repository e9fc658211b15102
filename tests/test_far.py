"""Somebody else's workers, in processes of Dask's own commands: the same bytes, or a sentence that names the worker."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from distributed.security import Security

import flows
from flows import far as farming
from flows.far import Threads, demand_alike, far_cluster, send_model
from flows.feed import Feed
from flows.hand import Terms, Versions
from pipeline.carried import caches, keep, model_of
from pipeline.document import load_job
from pipeline.errors import ClusterError, DeviceError, LackingError, ModelError
from pipeline.network.digest import model_digest
from pipeline.network.model_file import load_model
from pipeline.settings import ClusterClass, Job, Scheduler
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from pipeline.work import close_bench, run_block
from tests.dask_parts import ended, scheduler, worker
from tests.mill import COMMAND, maskmill, surroundings
from tests.oracle import noise, opened, save_model, save_scene, small_unet, tree

SIDES = {"window": 76, "block": 64, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("far")
    save_model(place / "model.onnx", small_unet())
    save_scene(place / "scene.tif", noise(1500, 1200))
    done = run(place, "here", cluster="inline")
    assert done.returncode == 0, done.stderr
    return place


def job_file(folder: Path, out: str, **more: object) -> Path:
    path = folder / f"{out}.yaml"
    path.write_text(yaml.safe_dump({"scenes": ["scene.tif"], "model": "./model.onnx", "out": out, **SIDES, **more}))
    return path


def run(folder: Path, out: str, **more: object) -> subprocess.CompletedProcess:
    return maskmill("run", "--job", job_file(folder, out, **more), "--json", cwd=folder, timeout=200)


def begun(folder: Path, out: str, address: str) -> tuple[subprocess.Popen, Path]:
    """A run by somebody else's workers that goes on, and where its ledger will be."""
    command = [*COMMAND, "run", "--job", str(job_file(folder, out, cluster={"address": address}))]
    process = subprocess.Popen(command, cwd=folder, env=surroundings(), stderr=subprocess.PIPE, text=True)
    return process, folder / out / "scene" / "ledger"


def assert_same(folder: Path, out: str) -> None:
    assert tree(folder / out / "scene" / "mask.zarr") == tree(folder / "here" / "scene" / "mask.zarr")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler with two workers, in folders and with caches of their own."""
    with ExitStack() as stack:
        place = tmp_path_factory.mktemp("cluster")
        _, address = stack.enter_context(scheduler(place))
        for number in range(2):
            own = place / str(number)
            own.mkdir()
            stack.enter_context(worker(own, address, environment={"XDG_CACHE_HOME": str(own)}))
        yield address


@pytest.fixture
def client(cluster):
    with far_cluster(Scheduler(address=cluster), None) as made:
        made.wait_for_workers(2)
        yield made


def planned(folder: Path, out: Path):
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "out": out, **SIDES}
    with opened(Job(**said)) as open_run:
        return open_run.plan


def terms(folder: Path, text: str = "token", **versions: str) -> Terms:
    (folder / "token").write_text("token")
    return Terms(replace(Versions.own(), **versions), folder / "token", text)


# Whole runs


def test_a_scheduler_at_an_address_makes_what_one_process_makes(folder, cluster):
    done = run(folder, "there", cluster={"address": cluster})
    assert done.returncode == 0, done.stderr
    assert_same(folder, "there")
    kept = [file for file in (folder / "there").rglob("*") if file.is_file() and cluster.encode() in file.read_bytes()]
    assert not kept


def test_a_class_by_its_path_makes_the_same_and_grows_by_itself(folder):
    said = {"n_workers": 0, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    asked = {"class": "distributed.LocalCluster", "arguments": said, "adapt": {"minimum": 1, "maximum": 2}}
    done = run(folder, "grown", cluster=asked)
    assert done.returncode == 0, done.stderr
    assert_same(folder, "grown")


@pytest.mark.slow
def test_certificates_are_taken_from_the_job_file(folder, tmp_path):
    made = Security.temporary()
    files = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (tmp_path / f"{name}.pem").write_text(text)
    said = [
        f"--tls-{flag}={tmp_path / name}.pem" for flag, name in (("ca-file", "ca"), ("cert", "cert"), ("key", "key"))
    ]
    with scheduler(tmp_path, *said, "--protocol", "tls") as (_, address), worker(tmp_path, address, *said):
        assert address.startswith("tls://")
        tls = {name: str(tmp_path / f"{name}.pem") for name in files}
        done = run(folder, "sealed", cluster={"address": address, "tls": tls})
        assert done.returncode == 0, done.stderr
        assert_same(folder, "sealed")
        assert files["key"].splitlines()[1] not in done.stdout + done.stderr


def test_the_scheduler_dies_and_the_same_command_goes_on(folder, tmp_path):
    with ExitStack() as stack:
        process, address = stack.enter_context(scheduler(tmp_path))
        stack.enter_context(worker(tmp_path, address))
        command, ledger = begun(folder, "lost", address)
        while not (ledger / "journal.jsonl").exists() or len(read_ledger(ledger)[1].of(State.PENDING)) > 400:
            assert command.poll() is None
            time.sleep(0.02)
        ended(process, signal.SIGKILL)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 3, said
    assert "scheduler" in said
    assert "was lost" in said
    assert "Traceback" not in said
    assert len(read_ledger(ledger)[1].of(State.PENDING)) > 0
    done = run(folder, "lost")
    assert done.returncode == 0, done.stderr
    assert_same(folder, "lost")


@pytest.mark.slow
def test_a_worker_that_is_told_to_leave_gives_its_blocks_back(folder, tmp_path):
    with ExitStack() as stack:
        _, address = stack.enter_context(scheduler(tmp_path))
        leaving, _ = (stack.enter_context(worker(tmp_path, address)) for _ in range(2))
        command, ledger = begun(folder, "left", address)
        while not (ledger / "journal.jsonl").exists() or len(read_ledger(ledger)[1].of(State.PENDING)) > 400:
            assert command.poll() is None
            time.sleep(0.02)
        ended(leaving, signal.SIGTERM)
        _, said = command.communicate(timeout=100)
    assert command.returncode == 0, said
    assert_same(folder, "left")


@pytest.mark.slow
def test_a_worker_that_comes_back_when_all_is_done_makes_nothing_anew(folder, tmp_path):
    soon = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
    with ExitStack() as stack:
        _, address = stack.enter_context(scheduler(tmp_path, environment=soon))
        away, _ = (stack.enter_context(worker(tmp_path, address, "--no-nanny")) for _ in range(2))
        command, ledger = begun(folder, "away", address)
        while not (ledger / "journal.jsonl").exists() or len(read_ledger(ledger)[1].of(State.PENDING)) > 400:
            assert command.poll() is None
            time.sleep(0.02)
        os.killpg(away.pid, signal.SIGSTOP)
        _, said = command.communicate(timeout=100)
        assert command.returncode == 0, said
        os.killpg(away.pid, signal.SIGCONT)
        time.sleep(3)  # enough for the block that it had in hand
    assert_same(folder, "away")
    assert not (folder / "away" / "scene" / ".stage").exists()


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ("tcp://127.0.0.1:9", "No Dask scheduler answers at tcp://127.0.0.1:9"),
        ({"class": "no.such.Cluster"}, "There is no no.such.Cluster"),
        (
            {"class": "distributed.LocalCluster", "arguments": {"n_workers": "many"}},
            "distributed.LocalCluster does not start",
        ),
        ("somewhere", "`cluster` cannot be"),
        ("gpus", "`cluster: gpus` has no workers for `device: cpu`"),
        ({"class": "a.B", "adapt": {"minimum": 3, "maximum": 2}}, "`cluster` cannot be"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_refused_and_nothing_is_written(folder, cluster, said):
    done = run(folder, "refused", cluster=cluster)
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (2, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "refused").exists()


# What a worker is held to


def test_a_worker_of_another_version_is_named(folder, client, tmp_path):
    with pytest.raises(
        ClusterError, match=r"The worker tcp://127\.0\.0\.1:\d+: It has maskmill .*, the coordinator has 0\.0"
    ):
        demand_alike(client, planned(folder, tmp_path / "out"), terms(tmp_path, maskmill="0.0"))


def test_a_worker_that_sees_another_folder_is_named(folder, client, tmp_path):
    with pytest.raises(ClusterError, match=r"The worker tcp://.*It does not see the folder of results"):
        demand_alike(client, planned(folder, tmp_path / "out"), terms(tmp_path, text="another"))


def test_a_worker_that_cannot_read_the_image_is_named(folder, client, tmp_path):
    plan = planned(folder, tmp_path / "out")
    (tmp_path / "gone.tif").write_bytes((folder / "scene.tif").read_bytes())
    layers = tuple(replace(one, part=replace(one.part, uri=str(tmp_path / "gone.tif"))) for one in plan.scene.layers)
    gone = replace(
        plan, scene=replace(plan.scene, layers=layers, uri=str(tmp_path / "gone.tif")), store=f"{plan.store} "
    )
    (tmp_path / "gone.tif").unlink()
    with pytest.raises(Exception, match=r"The worker tcp://.*(cannot be read|is no image)"):
        demand_alike(client, gone, terms(tmp_path))


def other_class(plan, **more):
    choices = replace(plan.choices, numeric_class="cpu fp32 of another kind")
    return replace(plan, choices=choices, identity={**plan.identity, "numeric class": "other"}, **more)


def test_a_worker_of_another_numeric_class_is_refused_or_told_of(folder, client, tmp_path):
    plan = planned(folder, tmp_path / "out")
    with pytest.raises(DeviceError, match=r"The worker tcp://.*mixed: true"):
        demand_alike(client, other_class(plan), terms(tmp_path))
    with pytest.raises(DeviceError, match=r"The worker tcp://"):  # one that joins later
        list(Feed(client, other_class(plan), 1, Threads(client), terms(tmp_path)).records(range(2)))
    mixed = other_class(plan, mixed=True)
    demand_alike(client, mixed, terms(tmp_path))
    records = list(Feed(client, mixed, 1, Threads(client), terms(tmp_path)).records(range(3)))
    assert {record.ran for record in records} == {plan.choices.numeric_class}


# The model by its content


def test_workers_that_lack_the_model_are_sent_it_once(folder, client, tmp_path, monkeypatch):
    save_model(tmp_path / "own.onnx", small_unet(seed=3))
    said = {
        "scenes": (str(folder / "scene.tif"),),
        "model": str(tmp_path / "own.onnx"),
        "out": tmp_path / "out",
        **SIDES,
    }
    with opened(Job(**said)) as open_run:
        plan = open_run.plan
    monkeypatch.chdir(tmp_path)
    far = replace(plan, network=replace(plan.network, path="own.onnx"))  # which is in this process' folder alone
    demand_alike(client, far, terms(tmp_path))
    found = {
        record.block: record for record in Feed(client, far, 1, Threads(client), terms(tmp_path)).records(range(9))
    }
    (tmp_path / "own.onnx").rename(tmp_path / "moved.onnx")
    demand_alike(client, replace(far, store=f"{far.store} "), terms(tmp_path))  # nothing is sent: nothing is here
    (tmp_path / "moved.onnx").rename(tmp_path / "own.onnx")
    for block, record in found.items():
        assert record.shards == run_block(plan, block).shards
    close_bench()


def test_a_worker_that_joins_later_is_sent_the_model(folder, cluster, client, tmp_path, monkeypatch):
    save_model(tmp_path / "own.onnx", small_unet(seed=4))
    said = {
        "scenes": (str(folder / "scene.tif"),),
        "model": str(tmp_path / "own.onnx"),
        "out": tmp_path / "out",
        **SIDES,
    }
    with opened(Job(**said)) as open_run:
        plan = open_run.plan
    monkeypatch.chdir(tmp_path)
    far = replace(plan, network=replace(plan.network, path="own.onnx"))
    records = list(Feed(client, far, 1, Threads(client), terms(tmp_path)).records(range(4)))  # nobody was asked before
    assert {record.state for record in records} == {State.DONE}


def test_bytes_that_do_not_match_are_refused_and_what_is_kept_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    good, other = small_unet(), small_unet(seed=1)
    path = save_model(tmp_path / "good.onnx", good)
    digest = model_digest(load_model(path))
    with pytest.raises(ModelError, match="was damaged on its way"):
        keep(other.SerializeToString(), digest)
    with pytest.raises(ModelError):
        keep(b"\xff" * 100, digest)
    with pytest.raises(LackingError, match="is not there"):
        model_of(tmp_path / "nowhere.onnx", digest)
    keep(good.SerializeToString(), digest)
    assert model_digest(model_of(tmp_path / "nowhere.onnx", digest)) == digest
    (kept,) = (caches() / "models").iterdir()
    kept.write_bytes(other.SerializeToString())
    with pytest.raises(LackingError, match="damaged"):
        model_of(tmp_path / "nowhere.onnx", digest)
    assert not kept.exists()


def test_a_model_that_the_coordinator_lacks_itself_is_its_error(folder, client, tmp_path):
    plan = planned(folder, tmp_path / "out")
    lost = replace(plan.network, path=str(tmp_path / "gone.onnx"), digest="0" * 32)
    with pytest.raises(LackingError, match="is not there"):
        send_model(client, lost, list(client.nthreads()))


# The cluster grows


def test_more_is_in_flight_where_workers_join(folder, tmp_path):
    with (
        scheduler(tmp_path) as (_, address),
        worker(tmp_path, address),
        far_cluster(Scheduler(address=address), None) as client,
    ):
        hands = Threads(client)
        assert hands() == 1
        with worker(tmp_path, address):
            client.wait_for_workers(2)
            time.sleep(2.1)
            assert hands() == 2


def test_a_plain_address_of_another_machine_is_warned_about(caplog):
    with pytest.raises(ClusterError), far_cluster(Scheduler(address="tcp://192.0.2.1:1"), None):
        pass
    assert "without encryption" in caplog.text


@pytest.mark.parametrize("own", [True, False])
def test_a_class_whose_scheduler_other_machines_reach_is_warned_about(own, caplog, monkeypatch):
    if not own:
        monkeypatch.setattr(farming, "_LOOPBACK", frozenset())  # tests listen nowhere else
    said = {"n_workers": 1, "host": "127.0.0.1", "dashboard_address": None}
    with far_cluster(ClusterClass.model_validate({"class": "distributed.LocalCluster", "arguments": said}), None):
        assert ("without encryption" in caplog.text) != own


def test_arguments_may_name_the_environment_and_are_not_shown(monkeypatch):
    monkeypatch.setenv("MANY", "x")
    asked = ClusterClass.model_validate(
        {"class": "distributed.LocalCluster", "arguments": {"host": "$MANY", "token": "s3cret"}}
    )
    assert "s3cret" not in repr(asked)
    with pytest.raises(ClusterError) as caught, far_cluster(asked, None):
        pass
    assert "s3cret" not in caught.value.message


# The examples

OF_THE_CLUSTER = {"security", "shared_temp_directory", "log_directory", "scheduler_options"}


@pytest.mark.parametrize(
    "path", sorted((Path(flows.__file__).parent / "jobs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_example_is_a_job_and_its_cluster_could_be_called_so(path):
    job = load_job(path, {})
    if path.stem != "catalogue":  # whose scenes are its point
        assert (job.cluster if isinstance(job.cluster, str) else "far") in {"far", path.stem}
    if not isinstance(job.cluster, ClusterClass):
        return
    package, _, name = job.cluster.path.rpartition(".")
    kind = getattr(pytest.importorskip(package), name)
    inspect.signature(kind).bind(**job.cluster.arguments)
    if path.stem == "slurm":
        said = {name: job.cluster.arguments[name] for name in set(job.cluster.arguments) - OF_THE_CLUSTER}
        script = kind.job_cls(scheduler="tcp://127.0.0.1:1", name="one", **said).job_script()
        assert "--nthreads 1 " in script
        assert "--lifetime 225m" in script
