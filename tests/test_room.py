"""Whether what is due fits on the disk of the results: told before the night, on a disk that is really small."""

import json

import pytest

from flows.room import LEAST, Past, Room
from flows.tasks import run_job
from pipeline.document import load_job
from tests.faults import on_small_disk
from tests.mill import last_json, maskmill, world, write_job


def room(**said):
    known = {"scenes": 10, "sources": 0, "free": 1000, "least": 0.0, "likely": None, "past": 9, "ends": False}
    return Room("out", **known | said)


@pytest.mark.parametrize(
    ("least", "likely", "sources", "ends", "fits"),
    [
        (100, 900, 0, False, "most likely"),
        (100, 1001, 0, False, "perhaps"),
        (1000, 5000, 0, False, "perhaps"),
        (1001, 5000, 0, False, "no"),
        (1001, 5000, 0, True, "perhaps"),  # it may end by the clock before the disk is full
        (100, None, 900, False, "unknown"),
        (100, None, 1001, False, "perhaps"),
        (1001, None, 0, False, "no"),
    ],
)
def test_only_what_does_not_fit_by_the_lower_end_is_refused(least, likely, sources, ends, fits):
    found = room(least=least, likely=likely, sources=sources, ends=ends)
    assert found.as_dict()["fits"] == fits
    assert (found.refusal is None) == (fits != "no")
    assert (found.warning is None) == (fits != "perhaps")
    assert (found.sentence or "").count("\n") == 0


def test_it_is_told_with_its_numbers_and_what_to_do():
    said = room(least=2000.0, likely=4000.0).refusal
    assert "10 scenes need 2.0 KiB even at the lower end of the estimate (from 9 results there" in said
    assert "1000 B is free" in said
    assert said.endswith("let a run begin fewer scenes: max_scenes: 5.")
    assert "`max_scenes: 2` may fit" in room(least=900.0, likely=4000.0).warning


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Four results in `out`, a fifth job that has a hundred new scenes."""
    folder = tmp_path_factory.mktemp("shop")
    job = world(folder, scenes=4) | {"scenes": [{"folder": "archive"}], "settle": 0, "cluster": "inline"}
    (folder / "archive").mkdir()
    for index in range(4):
        (folder / f"scene{index}.tif").rename(folder / "archive" / f"scene{index}.tif")
    write_job(folder, job)
    return folder


def test_what_results_took_is_known_from_the_results(shop):
    assert Past.of(shop / "out") is None
    assert run_job(load_job(shop / "job.yaml", {})).exit_code == 0
    past = Past.of(shop / "out")
    assert past.results == 4
    took = [
        sum(file.lstat().st_blocks * 512 for file in [one, *one.rglob("*")])
        for one in shop.glob("out/scene*")
        if one.is_dir()
    ]
    assert past.each[1] == pytest.approx(sum(took) / 4)
    assert min(took) <= past.each[0] <= past.each[1]
    sources = sum(file.stat().st_size for file in shop.glob("archive/*.tif"))
    assert past.per_byte[1] == pytest.approx(sum(took) / sources)
    assert past.per_megapixel[1] == pytest.approx(sum(took) / (4 * 96 * 96 / 1e6))
    assert min(took) > LEAST


NIGHT = """
import json, os, shutil, sys
from pathlib import Path
from flows.archive import select
from flows.room import room_for
from flows.sources.listed import LeftOut
from flows.tasks import plan_job, run_job
from pipeline.document import load_job
from pipeline.errors import RoomError

disk, shop = Path(sys.argv[1]), Path(sys.argv[2])
shutil.copytree(shop, disk / "shop")
archive, out = disk / "shop" / "archive", disk / "shop" / "out"
for index in range(100):
    os.link(archive / "scene0.tif", archive / f"new{index:02}.tif")
free = shutil.disk_usage(disk).free
assert free < 1 << 28  # no other disk is filled
with (disk / "ballast").open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, free - (20 << 20))

def told(**said):
    job = load_job(disk / "shop" / "job.yaml", said)
    room = room_for(job, select(job, LeftOut()))
    return room and room.as_dict()

before = sorted(path.name for path in out.iterdir())
try:
    run_job(load_job(disk / "shop" / "job.yaml", {}))
except RoomError as error:
    print(json.dumps({"refused": error.message, "same": sorted(path.name for path in out.iterdir()) == before}))
more = [told(), told(max_scenes=50), told(max_megapixels=0.5), told(max_hours=1.0), told(max_scenes=1)]
more += [told(reprocess="all", max_scenes=4, priority="oldest")]
print(json.dumps(more))
report = run_job(load_job(disk / "shop" / "job.yaml", {"max_scenes": 2}))
print(json.dumps([report.exit_code, report.carried_over]))
"""


def test_a_night_that_does_not_fit_is_refused_before_it_begins_and_a_smaller_one_is_done(shop, tmp_path):
    if not (shop / "out").exists():
        run_job(load_job(shop / "job.yaml", {}))
    (tmp_path / "disk").mkdir()
    done = on_small_disk("64M", tmp_path / "disk", NIGHT, tmp_path / "disk", shop)
    assert done.returncode == 0, done.stderr
    refused, rooms, last = map(json.loads, done.stdout.splitlines()[-3:])
    assert "100 scenes need " in refused["refused"]
    assert "Nothing is begun" in refused["refused"]
    assert refused["same"]
    every, half, megapixels, timed, one, again = rooms
    assert every["fits"] == "no"
    assert every["from_results"] == 4
    assert every["least_bytes"] > every["free_bytes"] <= 20 << 20
    assert half["likely_bytes"] == pytest.approx(every["likely_bytes"] / 2)
    assert half["fits"] == "most likely"
    assert megapixels["likely_bytes"] < half["likely_bytes"] * 2
    assert timed["fits"] == "perhaps"
    assert one is None  # its own plan says it
    assert again["scenes"] == 4
    assert last == [0, 98]


def test_a_dry_run_and_a_plan_tell_it(shop):
    if not (shop / "out").exists():
        run_job(load_job(shop / "job.yaml", {}))
    for command in (("run", "--dry-run"), ("plan",)):
        done = maskmill(*command, "--job", "job.yaml", "--out", "elsewhere", "--json", cwd=shop)
        assert done.returncode == 0, done.stderr
        assert last_json(done)["room"]["scenes"] == 4
        assert last_json(done)["room"]["fits"] == "unknown"
    assert not (shop / "elsewhere").exists()


@pytest.mark.slow
def test_a_flow_run_is_refused_as_well(shop, tmp_path):
    (tmp_path / "disk").mkdir()
    script = NIGHT.split("before = ", maxsplit=1)[0] + (
        "from flows.environment import run_through_prefect\n"
        "try:\n"
        '    run_through_prefect(load_job(disk / "shop" / "job.yaml", {}), lambda _: None)\n'
        "except RoomError as error:\n"
        "    print(error.message)\n"
        'print(len(list(out.glob("*/ledger"))))\n'
    )
    if not (shop / "out").exists():
        run_job(load_job(shop / "job.yaml", {}))
    done = on_small_disk("64M", tmp_path / "disk", script, tmp_path / "disk", shop)
    assert done.returncode == 0, done.stderr
    refused, count = done.stdout.splitlines()[-2:]
    assert "Nothing is begun" in refused
    assert int(count) == 4
