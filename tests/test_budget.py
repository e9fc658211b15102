"""What is planned is enough, and not by chance: real runs, measured; and what is refused says what would do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget import MIB, Budget, block_bytes, demand_disk, demand_memory, disk_bytes, publish_bytes
from pipeline.errors import RoomError
from pipeline.grid import Grid, Stitch
from pipeline.lay import lay_grid, stated_margin
from pipeline.network.card import Card
from pipeline.network.field import Field
from pipeline.plan import products_of
from pipeline.settings import Job
from tests.mill import maskmill
from tests.oracle import noise, opened, save_model, save_scene, small_card, small_unet
from tests.test_plan import job as any_job
from tests.test_plan import network, scene

EVERYTHING = "confidence,probabilities,disagreement"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("budget")
    save_model(place / "exact.onnx", small_unet())
    save_model(place / "blend.onnx", small_unet(pooled=True))
    said = small_card().model_dump()
    values = Card.of({**said, "says": "values", "activation": "none"}, "the test")
    save_model(place / "values.onnx", small_unet(), values)
    save_model(place / "values_blend.onnx", small_unet(pooled=True), values)
    layers = Card.of({**said, "activation": "sigmoid", "classes": ["none", "a", "b", "c"]}, "the test")
    save_model(place / "layers.onnx", small_unet(), layers)
    wide = [{**entry, "value": 300 * entry["index"]} for entry in said["classes"]]
    save_model(place / "wide.onnx", small_unet(), Card.of({**said, "classes": wide}, "the test"))
    return place


def memory_of(folder: Path, rows: int, cols: int, model: str, *flags: str, driver: str = "GTiff") -> dict:
    """What a run by the command planned to hold and held, as its report says it."""
    tiled = {"blockxsize": 256, "blockysize": 256} if driver == "GTiff" else {"tiled": False, "driver": driver}
    uri, out = folder / f"scene.{driver}", folder / "out"
    save_scene(uri, noise(rows, cols), **tiled)
    shutil.rmtree(out, ignore_errors=True)
    said = ["--model", folder / f"{model}.onnx", "--out", out, "--workers", 1, "--device", "cpu", "--json"]
    done = maskmill("run", uri, *said, *flags, cwd=folder, timeout=280)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "scene" / "report.json").read_text())["memory"]
    held = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return report | {"disk": held}


def assert_enough(memory: dict) -> None:
    planned = memory["planned"]
    assert 0 < memory["worker_peak"] <= planned["worker"]
    assert 0 < memory["coordinator_peak"] <= planned["coordinator"]
    assert memory["disk"] <= planned["disk"]
    # A plan that is enough because it asks for everything would refuse what works.
    assert memory["worker_peak"] > 0.5 * planned["worker"]
    assert memory["coordinator_peak"] > 0.3 * planned["coordinator"]


def test_a_run_holds_no_more_than_was_planned_publishing_included(folder):
    memory = memory_of(folder, 700, 900, "exact", "--products", "confidence,probabilities")
    assert_enough(memory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("exact", ()),
        ("exact", ("--window", "140", "--block", "256")),
        ("exact", ("--window", "1036", "--block", "1024", "--batch", "2")),
        ("exact", ("--block", "2048", "--products", "confidence,probabilities")),
        ("blend", ("--window", "256", "--products", EVERYTHING)),
        ("blend", ("--window", "512", "--block", "1536")),
        ("blend", ("--window", "256", "--overlap", "0.8", "--block", "520")),
        ("values", ()),
        ("values", ("--block", "1024")),
        ("values_blend", ("--window", "256", "--products", "disagreement")),
        ("layers", ("--block", "1024", "--products", "confidence,probabilities")),
        ("wide", ("--block", "1024")),
    ],
)
def test_no_window_block_or_product_takes_more_than_was_planned(folder, model, flags):
    assert_enough(memory_of(folder, 2100, 1600, model, *flags))


@pytest.mark.slow
def test_staging_takes_no_more_than_was_planned(folder):
    assert_enough(memory_of(folder, 2000, 6000, "exact", "--window", "140", "--block", "1024", driver="PNG"))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--block", "512"), ("--block", "512", "--products", "confidence,probabilities")])
def test_six_times_the_image_takes_no_more_memory(folder, flags):
    small, large = (memory_of(folder, rows, cols, "exact", *flags) for rows, cols in ((1600, 1500), (4000, 3600)))
    assert_enough(large)
    for name in ("worker_peak", "coordinator_peak"):
        assert large[name] == pytest.approx(small[name], rel=0.2)  # GDAL's cache, which is planned, fills


# What is refused


@given(
    worker=st.integers(1, 2**36),
    coordinator=st.integers(1, 2**36),
    workers=st.integers(1, 64),
    free=st.integers(1, 2**40),
)
def test_the_number_of_workers_that_a_refusal_names_fits_and_one_more_does_not(worker, coordinator, workers, free):
    budget = Budget(worker, coordinator, workers, disk=0)
    if workers * worker + coordinator <= free:
        demand_memory(budget, free)
        return
    with pytest.raises(RoomError, match=r"Take --workers \d+\.|smaller --block or --window") as caught:
        demand_memory(budget, free)
    named = re.search(r"Take --workers (\d+)\.", caught.value.message)
    fits = int(named[1]) if named else 0
    assert fits < workers
    if fits:
        demand_memory(replace(budget, workers=fits), free)
    with pytest.raises(RoomError):
        demand_memory(replace(budget, workers=fits + 1), free)


def planned(job: Job, folder: Path, **said: object) -> Budget:
    """What a run holds by its own plan, in a process that has grown as large as this one has."""
    with opened(job.model_copy(update={"out": folder, **said})) as run:
        return run.settled.budget


def test_a_refused_run_runs_with_the_workers_that_the_refusal_names(folder, tmp_path):
    uri = save_scene(tmp_path / "scene.tif", noise(300, 300))
    job = any_job(scenes=(str(uri),), model=str(folder / "exact.onnx"), out=tmp_path / "out", device="cpu")
    job = job.model_copy(update={"window": 76, "block": 64})
    budget = planned(job, tmp_path / "before", workers=9)
    room = (budget.memory - 4 * budget.worker) // MIB
    job = job.model_copy(update={"workers": 9, "memory": room * MIB})
    with pytest.raises(
        RoomError, match=rf"9 workers of .* MiB and a coordinator of .* MiB; {room:,} MiB may be taken"
    ) as caught:
        opened(job)
    assert not (tmp_path / "out").exists()
    named = int(re.search(r"Take --workers (\d+)\.", caught.value.message)[1])
    with opened(job.model_copy(update={"workers": named})) as run:
        assert run.settled.budget.workers == named


def test_a_smaller_block_is_named_where_not_one_worker_fits_and_then_fits(folder, tmp_path):
    uri = save_scene(tmp_path / "scene.tif", noise(300, 300))
    job = any_job(scenes=(str(uri),), model=str(folder / "exact.onnx"), out=tmp_path / "out", device="cpu")
    job = job.model_copy(update={"window": 76})
    least, most = (planned(job, tmp_path / str(block), block=block, workers=1).memory for block in (256, 4096))
    assert most > least + 64 * MIB
    job = job.model_copy(update={"memory": (least + most) // 2})
    with pytest.raises(RoomError, match=r"1 workers.*Take a smaller --block or --window"):
        opened(job.model_copy(update={"block": 4096}))
    with opened(job.model_copy(update={"block": 256})) as run:
        assert run.settled.budget.workers == 1


def test_a_disk_without_room_is_told_with_both_numbers(tmp_path):
    with pytest.raises(RoomError, match=r"may grow to 1,\d{3},\d{3},\d{3} MiB, and its disk has .* MiB left"):
        demand_disk(Budget(1, 1, 1, disk=10**15 + 10**14), tmp_path / "not" / "yet")
    demand_disk(Budget(1, 1, 1, disk=1), tmp_path / "not" / "yet")
    assert not (tmp_path / "not").exists()


# The arithmetic


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_a_blocks_memory_does_not_depend_on_the_image(height, width):
    margin = stated_margin(any_job(), network(Field(2, 23)))
    wanted = any_job(window=304, block=1024, products=["probabilities"])
    products = products_of(wanted, small_card())

    def held(image) -> tuple[int, int]:
        grid = lay_grid(wanted, network(Field(2, 23)), image, margin)
        return block_bytes(grid, image, products, small_card()), publish_bytes(grid, products)

    assert held(scene(height, width)) == held(scene(100, 100))


def test_more_of_anything_takes_more():
    products = products_of(any_job(), small_card())

    def held(image=None, stitch=Stitch.EXACT, **sides: int) -> int:
        said = {"height": 9000, "width": 9000, "stride": 2, "core": 256, "margin": 24, "block": 1024} | sides
        return block_bytes(Grid(**said, stitch=stitch), image or scene(), products, small_card())

    assert held() < held(block=2048)
    assert held() < held(margin=64)
    assert held() < held(scene(dtype="uint16"))
    assert held() < held(stitch=Stitch.BLEND)
    everything = products_of(any_job(products=EVERYTHING.split(",")), small_card())
    grid = Grid(9000, 9000, 2, 256, 24, 1024)
    assert disk_bytes(grid, products, [], inside=0) < disk_bytes(grid, products, [], inside=10**6)
    assert disk_bytes(grid, products, [], inside=grid.scene.area) == disk_bytes(grid, products, [])
    assert disk_bytes(grid, products, []) < disk_bytes(grid, everything, []) < disk_bytes(grid, everything, [scene()])


def test_the_peak_of_a_process_is_the_most_that_it_has_held():
    said = "from pipeline.budget import peak_memory as peak; a = peak(); b = b'x' * (1 << 27); del b; print(a, peak())"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before + 2**26 < after < before + 2**28
