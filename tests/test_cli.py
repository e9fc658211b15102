import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from flows.ending import exit_code
from flows.masking import masked
from flows.options import FLAGS, job_of
from flows.screen import Lines, size, told
from pipeline.errors import BlockError, InputError, SettingsError
from tests.mill import COMMAND, last_json, maskmill, world, write_job

HEAVY = {"numpy", "rasterio", "zarr", "onnx", "onnxruntime", "dask", "distributed", "prefect", "pydantic", "yaml"}
COMMANDS = ("run", "plan", "status", "verify", "schedule", "deploy", "models", "doctor")


def test_help_names_every_command_and_imports_nothing_heavy(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No command"),
        (("frobnicate",), "frobnicate"),
        (("run", "--wokers", "3"), "--workers"),
        (("run", "--workers", "many"), "--workers"),
        (("run",), "`scenes`"),
        (("run", "a.tif", "--out", "out"), "`model` is missing"),
        (("run", "a.tif", "--model", "m", "--out", "out", "--workers", "0"), "`workers`"),
        (("run", "a.tif", "--model", "m", "--out", "out", "--bands", "4,x"), "such as 4,3,2"),
        (("run", "a.tif", "--model", "m", "--out", "out", "--memory", "much"), "such as 800M"),
        (("run", "a.tif", "--model", "m", "--out", "out", "--margin", "wide"), "`margin"),
        (("run", "a.tif", "--model", "m", "--out", "out", "--products", "beauty"), "`products"),
        (("run", "*.tif", "--model", "m", "--out", "out"), "No file matches *.tif"),
        (("plan", "a.tif", "--model", "no-such-model", "--out", "out"), "no-such-model"),
        (("run", "--job", "none.yaml"), "cannot be read"),
        (("status", "nowhere"), "nowhere"),
        (("schedule", "none.yaml", "--cron", "0 2 * * *"), "cannot be read"),
        (("models", "show", "no-such-model"), "no-such-model"),
    ],
)
def test_what_cannot_start_is_one_sentence_and_2_and_leaves_nothing(tmp_path, arguments, said):
    done = maskmill(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("maskmill: ")
    assert said in sentence
    assert not list(tmp_path.iterdir())


def test_an_unknown_key_is_named_with_the_nearest_right_one(tmp_path):
    write_job(tmp_path, {"scenes": ["a.tif"], "model": "m", "out": "out", "windwo": 3})
    done = maskmill("run", "--job", "job.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "`windwo`; did you mean `window`?" in done.stderr
    said = last_json(done)
    assert said["exit_code"] == 2
    assert said["error"] in done.stderr


@pytest.mark.parametrize(("cron", "zone"), [("61 * * * *", "UTC"), ("often", "UTC"), ("0 2 * * *", "Mars/Olympus")])
def test_a_time_that_never_comes_is_refused_before_anything_starts(tmp_path, cron, zone):
    write_job(tmp_path, {"scenes": ["a.tif"], "model": "m", "out": "out"})
    done = maskmill("schedule", "job.yaml", "--cron", cron, "--timezone", zone, cwd=tmp_path)
    assert done.returncode == 2
    assert (cron if zone == "UTC" else zone) in done.stderr
    assert not (tmp_path / "out").exists()


def _given(**flags):
    return dict.fromkeys(FLAGS) | flags


def test_flags_lie_over_the_file_and_only_those_that_were_given(tmp_path):
    path = write_job(tmp_path, {"scenes": ["a.tif"], "model": "m", "out": "out", "window": 64, "batch": 2})
    job = job_of(_given(window=128, margin="16", bands="4, 3,2", memory="1.5G", products="confidence"), path)
    assert (job.window, job.batch, job.margin, job.bands) == (128, 2, 16, (4, 3, 2))
    assert (job.memory, job.products) == (3 * 2**29, {"confidence"})
    assert job.scenes == (str(tmp_path / "a.tif"),)


@given(st.integers(1, 10**6), st.sampled_from(["", "k", "M", "Gi", "TB", "gib"]))
def test_a_size_is_a_number_and_a_binary_unit(number, unit):
    job = job_of(_given(scenes=["a"], model="m", out="o", memory=f"{number}{unit}"), None)
    assert job.memory == number * 2 ** (10 * " kmgt".index(unit[:1].lower() or " "))


def _command(body):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(body)
    return app


@pytest.mark.parametrize(("error", "code"), [(InputError, 2), (SettingsError, 2), (BlockError, 1)])
def test_an_error_of_ours_is_its_sentence(capsys, error, code):
    def body() -> None:
        raise error("The window is\n0.")

    assert exit_code(_command(body), []) == code
    assert capsys.readouterr().err == "maskmill: The window is 0.\n"


def test_an_error_that_nobody_foresaw_is_a_sentence_and_keeps_its_traceback(capsys, monkeypatch):
    def body() -> None:
        raise ZeroDivisionError("password=hush")

    monkeypatch.delenv("MASKMILL_DEBUG", raising=False)
    assert exit_code(_command(body), []) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in sentence
    assert "hush" not in sentence
    path = Path(re.search(r"traceback is in (\S+);", sentence)[1])
    trace = path.read_text()
    path.unlink()
    assert "Traceback" in trace
    assert "password=***" in trace
    monkeypatch.setenv("MASKMILL_DEBUG", "1")
    assert exit_code(_command(body), []) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_its_number_and_says_how_to_go_on(capsys, number, code):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def body() -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    try:
        assert exit_code(_command(body), []) == code
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert "the same command goes on" in capsys.readouterr().err


def test_secrets_are_masked_and_the_rest_is_not():
    said = "https://me:hush@host/a.tif AWS_SECRET_ACCESS_KEY=hush token: hush ?api_key=hush&x=1 s3://bucket/key.tif"
    shown = masked(said)
    assert "hush" not in shown
    for kept in ("https://me:***@host/a.tif", "&x=1", "s3://bucket/key.tif"):
        assert kept in shown


def _step(scene, done, stage="blocks", failed=0):
    return SimpleNamespace(scene=scene, done=done, total=10_000_000, failed=failed, stage=stage)


def test_plain_lines_come_at_the_ends_and_every_ten_seconds():
    said, now = [], [0.0]
    lines = Lines(said.append, lambda: now[0])
    for tenth in range(101):
        now[0] = tenth / 2
        lines(_step("a", tenth * 100_000))
    assert [float(line.split()[1]) for line in said] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert "0.20 megapixels/s, 40.0 s left" in said[1]
    lines(_step("a", 0, stage="pyramid"))
    lines(_step("b", 5_000_000, failed=2))
    assert said[-2].startswith("a, pyramid: ")
    assert said[-1].endswith("(50 %), 2 blocks failed")


@given(st.integers(0, 2**60))
def test_a_size_reads_as_less_than_a_thousand_and_24_of_its_unit(count):
    number, unit = size(count).split()
    assert float(number) <= 1024 or unit == "TiB"


def test_values_are_told_with_the_units_of_their_keys():
    assert told("peak_bytes", 3 * 2**20) == "3.0 MiB"
    assert told("seconds", 3725) == "1 h 02 min"
    assert told("pixels", 2_500_000) == "2.5 million"
    assert told("memory worker", 2**20) == "1.0 MiB"
    assert told("memory workers", 2) == "2"
    assert told("classes", [{"index": 0, "name": "sea"}, {"index": 1, "name": None}]) == "0 sea, 1"
    assert told("margin", None) == "–"
    assert told("blocks", list(range(10))) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_run_does_what_was_planned_and_the_other_commands_say_so(tmp_path):
    job = world(tmp_path)
    write_job(tmp_path, job)
    planned = maskmill("plan", "--job", "job.yaml", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert [plan["scene"] for plan in last_json(planned)["plans"]] == ["scene0"]
    assert not (tmp_path / "out").exists()

    write_job(tmp_path, job | {"scenes": ["scene0.tif", "nowhere.tif"]})
    done = maskmill("run", "--job", "job.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    report = last_json(done)
    assert [scene["scene"] for scene in report["scenes"]] == ["scene0", "nowhere"]
    assert report["exit_code"] == 3
    assert "nowhere is refused" in done.stderr
    assert "megapixels (100 %)" in done.stderr
    assert (tmp_path / "out/scene0/mask.tif").is_file()

    found = last_json(maskmill("status", "out", "--json", cwd=tmp_path))
    assert [scene["pending"] for scene in found["scenes"]] == [0]
    assert "scene0" in maskmill("status", "out", cwd=tmp_path).stdout
    proof = maskmill("verify", "out/scene0", "--json", cwd=tmp_path)
    assert proof.returncode == 0, proof.stderr
    assert last_json(proof)["differing"] == 0


@pytest.mark.slow
def test_sigterm_ends_a_run_and_the_same_command_completes_it(tmp_path):
    job = world(tmp_path, side=768)
    write_job(tmp_path, job)
    process = subprocess.Popen(
        [*COMMAND, "run", "--job", "job.yaml"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    said = process.stderr.readline()  # its first line of progress
    process.send_signal(signal.SIGTERM)
    said += process.stderr.read()
    assert process.wait(60) == 143, said
    assert "the same command goes on" in said
    done = maskmill("run", "--job", "job.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_model_is_shown(tmp_path):
    world(tmp_path)
    found = last_json(maskmill("models", "show", "net.onnx", "--json", cwd=tmp_path))
    assert (found["stride"], found["reach"], found["bounded"]) == (1, 0, True)
    assert found["card"]["name"] == "colder"


def test_the_zoo_is_listed(tmp_path):
    done = maskmill("models", "list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "earth-water" in [model["name"] for model in json.loads(done.stdout.splitlines()[-1])["models"]]
