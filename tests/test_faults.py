"""Whole runs on disks that are away or full: one sentence, no hole, and the next run goes on to the same bytes."""

from __future__ import annotations

import errno
import json

import pytest

from pipeline.settings import Job
from tests.faults import FOR_EVER, flaky, in_python, on_small_disk
from tests.mill import last_json, maskmill, world, write_job
from tests.oracle import noise, run_here, save_model, save_scene, small_unet, tree


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A job of nine blocks, and what comes of it on a good disk."""
    folder = tmp_path_factory.mktemp("place")
    write_job(folder, world(folder))
    done = maskmill("run", "--job", "job.yaml", "--out", "good", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def _run(place, out, **environment):
    return maskmill("run", "--job", "job.yaml", "--out", out, "--json", cwd=place, timeout=240, **environment)


def _assert_good(place, out):
    here, there = place / out / "scene0", place / "good" / "scene0"
    assert tree(here / "mask.zarr") == tree(there / "mask.zarr")
    assert (here / "mask.tif").read_bytes() == (there / "mask.tif").read_bytes()
    assert json.loads((here / "report.json").read_text())["blocks"]["failed"] == 0


SHARDS, JOURNAL = "/.stage/.stage/.1.", "/ledger/journal.jsonl"  # the shards of one column, half-written; the ledger


@pytest.mark.parametrize("part", [SHARDS, JOURNAL], ids=["shards", "ledger"])
def test_a_store_that_is_away_for_a_moment_costs_no_block(place, tmp_path, part):
    out, shaky = f"away{part.replace('/', '-')}", flaky(tmp_path)
    done = _run(place, out, **shaky.refuses(part, 5, errno.EIO))
    assert done.returncode == 0, done.stderr
    assert shaky.times_left == 0
    _assert_good(place, out)


@pytest.mark.parametrize("part", [SHARDS, JOURNAL], ids=["shards", "ledger"])
def test_a_store_that_refuses_ends_the_scene_in_a_sentence_and_is_gone_on_with(place, tmp_path, part):
    _refuse_and_go_on(place, tmp_path, part, errno.EROFS, "cannot be written (Read-only file system)")


@pytest.mark.slow  # as long as a store is waited for
@pytest.mark.parametrize("part", [SHARDS, JOURNAL], ids=["shards", "ledger"])
def test_a_store_that_stays_away_ends_the_scene_in_a_sentence(place, tmp_path, part):
    _refuse_and_go_on(place, tmp_path, part, errno.EIO, "times within")


def _refuse_and_go_on(place, tmp_path, part, number, said):
    out = f"refuses-{number}{part.replace('/', '-')}"
    first = _run(place, out, **flaky(tmp_path).refuses(part, FOR_EVER, number))
    assert first.returncode == 3, first.stderr
    assert "Traceback" not in first.stderr
    (problem,) = last_json(first)["problems"]
    assert said in problem
    assert problem.count("cannot be written") == 1
    assert "the same command goes on from there" in problem
    assert last_json(first)["scenes"][0]["failed"] == 0
    second = _run(place, out)
    assert second.returncode == 0, second.stderr
    _assert_good(place, out)


READ = """
import os, sys
from pathlib import Path
from pipeline.settings import Job
from tests.oracle import do_blocks, opened

source, left = Path(sys.argv[1]), Path(os.environ["FLAKY_LEFT"])
job = Job.model_validate_json((source / "job.json").read_text()).model_copy(update={"out": source / "holes"})
refusals = left.read_bytes()
for harmed in (True, True, False):
    left.write_bytes(b"")
    with opened(job) as run:
        print(*run.todo, sep=",")
        if harmed:
            kept = len(run.ledger.fold) - 2 if len(run.todo) > 2 else 0
            do_blocks(run, run.todo[:kept])
            left.write_bytes(refusals)
            do_blocks(run, run.todo[kept:])
        else:
            do_blocks(run, run.todo)
        left.write_bytes(b"")
        print(*(failure["reason"] for failure in run.finish(lambda *_: None)["failures"]), sep="|")
"""


def test_what_a_disk_does_not_give_is_a_hole_and_a_later_run_tries_and_heals_that_alone(shop, tmp_path):
    done = in_python(READ, shop, **flaky(tmp_path).refuses("scene.tif", FOR_EVER, errno.EIO))
    assert done.returncode == 0, done.stderr
    everything, failed, last, again, left, healed = done.stdout.split("\n")[:6]
    assert everything == ",".join(map(str, range(16)))
    assert (last, left) == ("14,15", "14,15")
    assert failed.count("scene.tif cannot be read") == again.count("scene.tif cannot be read") == 2
    assert healed == ""
    assert tree(shop / "holes/scene/mask.zarr") == tree(shop / "out/scene/mask.zarr")


FILL = """
import os, shutil, sys
from pathlib import Path
from pipeline.errors import InputError, RoomError
from pipeline.settings import Job
from tests.oracle import do_blocks, opened, tree

disk, source, result = map(Path, sys.argv[1:4])
job = Job.model_validate_json((source / "job.json").read_text()).model_copy(update={"out": disk / "out"})

def fill(left):
    free = shutil.disk_usage(disk).free
    assert free < 1 << 28  # no other disk is filled
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - left))

done = False
for left in range(0, 4_000_000, int(sys.argv[4])):
    with opened(job) as run:
        fill(left)
        try:
            do_blocks(run, run.todo)
            run.finish(lambda *_: None)
            done = True
        except RoomError as error:
            print(run.folder.stage.exists(), len(run.ledger.fold.of(0)), error.message)
            assert not (run.folder.path / "report.json").exists()
        finally:
            (disk / "ballast").unlink()
    if done:
        break
shutil.copytree(disk / "out" / "scene", result)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    save_model(folder / "model.onnx", small_unet())
    save_scene(folder / "scene.tif", noise(400, 500))
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "device": "cpu"}
    products = frozenset({"confidence", "probabilities", "outlines"})
    job = Job(**said, out=folder / "out", window=76, block=128, products=products)
    (folder / "job.json").write_text(job.model_dump_json())
    run_here(job)
    return folder


@pytest.mark.slow
def test_a_disk_that_fills_at_any_place_ends_the_scene_and_a_later_run_completes_it(shop, tmp_path):
    (tmp_path / "disk").mkdir()
    done = on_small_disk("64M", tmp_path / "disk", FILL, tmp_path / "disk", shop, tmp_path / "result", 65_536)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert all("There is no room to write" in line for line in told)
    where = {line.split("There is no room to write ")[1].split(" (")[0].rsplit("/", 1)[-1] for line in told}
    assert len(where) > 3, where  # shards, then what is published
    for name in ("mask.zarr", "mask.tif", "confidence.tif", "probabilities.tif", "outlines.geojson"):
        here, there = tmp_path / "result" / name, shop / "out" / "scene" / name
        assert (tree(here) == tree(there)) if here.is_dir() else (here.read_bytes() == there.read_bytes()), name


STAGE = """
import os, shutil, sys
from pathlib import Path
from pipeline.errors import RoomError
from pipeline.raster.source import open_scene
from pipeline.raster.stage import stage

disk, scene = Path(sys.argv[1]), open_scene(sys.argv[2], None)
for left in (0, 4096, 100_000, 700_000, 1_400_000, 2_000_000, 8_000_000):
    free = shutil.disk_usage(disk).free
    assert free < 1 << 28  # no other disk is filled
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - left))
    try:
        stage(scene, disk / "stage")
        print("staged")
    except RoomError as error:
        print(error.message)
        assert not (disk / "stage").exists() or not list((disk / "stage").iterdir())
    (disk / "ballast").unlink()
shutil.copy(disk / "stage" / "source.tif", sys.argv[3])
"""


def test_a_disk_that_fills_while_an_image_is_staged_is_a_sentence_and_leaves_no_part(tmp_path):
    pixels = noise(700, 900, bands=3)
    save_scene(tmp_path / "scene.tif", pixels)
    (tmp_path / "disk").mkdir()
    asked = tmp_path / "disk", tmp_path / "scene.tif", tmp_path / "staged.tif"
    done = on_small_disk("16M", tmp_path / "disk", STAGE, *asked)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 7
    assert told[-1] == "staged"
    assert "There is no room to stage" in told[0]
    assert all("There is no room to stage" in line or line == "staged" for line in told)
