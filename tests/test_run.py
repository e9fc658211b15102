"""The laws of a whole run, on real files: exact, the same in any order and after any interruption, every pixel told."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import IdentityError, LeaseError, ModelError, RoomError, SettingsError
from pipeline.grid import Rect
from pipeline.settings import FAILED, NODATA, Job
from pipeline.store.record import Record, State
from pipeline.store.sink import Sink
from pipeline.work import close_bench, run_block
from tests.oracle import (
    HUGE,
    brittle,
    do_blocks,
    expected_mask,
    noise,
    opened,
    read_mask,
    run_here,
    save_model,
    save_scene,
    small_unet,
    tree,
)

MODEL = small_unet()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    save_model(place / "model.onnx", MODEL)
    save_scene(place / "scene.tif", noise(300, 540))
    return place


def job(folder: Path, out: str, **said: object) -> Job:
    return Job(scenes=(str(folder / "scene.tif"),), model=str(folder / "model.onnx"), out=folder / out, **said)


@pytest.fixture(scope="module")
def undisturbed(folder):
    report = run_here(job(folder, "undisturbed", window=76, block=128))
    assert report["complete"]
    return folder / "undisturbed" / "scene"


def test_the_mask_is_one_pass_over_the_whole_image(undisturbed):
    assert np.array_equal(read_mask(undisturbed), expected_mask(MODEL, noise(300, 540)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 150),
    cols=st.integers(1, 150),
    core=st.sampled_from([32, 48, 64]),
    margin=st.sampled_from(["exact", 12, 20]),
    cores=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_no_tiling_changes_a_pixel(tmp_path, rows, cols, core, margin, cores, seed):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    save_model(tmp_path / "model.onnx", MODEL)
    pixels = noise(rows, cols, seed)
    save_scene(tmp_path / "scene.tif", pixels)
    pixels_around = 6 if margin == "exact" else margin
    run_here(job(tmp_path, "out", margin=margin, window=core + 2 * pixels_around, block=core * cores))
    assert np.array_equal(read_mask(tmp_path / "out" / "scene"), expected_mask(MODEL, pixels))


@pytest.mark.parametrize("seed", range(3))
def test_any_order_and_any_interruption_give_the_same_bytes(folder, undisturbed, seed):
    here = job(folder, f"interrupted-{seed}", window=76, block=128)
    shuffled = random.Random(seed)
    while True:
        with opened(here) as run:
            todo = shuffled.sample(run.todo, len(run.todo))
            do_blocks(run, todo[: shuffled.randint(1, 4)])
            if run.complete:
                run.finish(lambda *_: None)
                break
    result = folder / f"interrupted-{seed}" / "scene"
    assert tree(result / "mask.zarr") == tree(undisturbed / "mask.zarr")
    assert (result / "mask.tif").read_bytes() == (undisturbed / "mask.tif").read_bytes()
    assert not (result / ".stage").exists()


@pytest.mark.parametrize("file", ["plan.json", "journal.jsonl"])
def test_what_a_killed_run_was_writing_does_not_stay(folder, file):
    """Killed before it had a plan, or a journal: the name is one that `put_whole` and `put_if_absent` give."""
    ledger = folder / f"torn-{file}" / "scene" / "ledger"
    ledger.mkdir(parents=True)
    (ledger / f".{file}.{'0' * 32}.partial").write_bytes(b"{")
    assert run_here(job(folder, f"torn-{file}", window=76, block=128))["complete"]
    assert not list((folder / f"torn-{file}").rglob("*.partial"))


def test_other_windows_and_blocks_give_the_same_pixels(folder, undisturbed):
    run_here(job(folder, "otherwise", window=132, block=120))
    assert np.array_equal(read_mask(folder / "otherwise" / "scene"), read_mask(undisturbed))


@pytest.mark.parametrize("harm", ["truncated", "emptied", "deleted", "flipped"])
@pytest.mark.parametrize("published", [True, False])
def test_a_damaged_shard_is_found_and_redone(folder, undisturbed, harm, published):
    here = job(folder, f"harmed-{harm}-{published}", window=76, block=128)
    with opened(here) as run:
        do_blocks(run, run.todo if published else run.todo[:5])
        run.finish(lambda *_: None)
        store = run.folder.store
    shard = store / "mask" / "c" / "0" / "1"
    whole = shard.read_bytes()
    damaged = {"truncated": whole[: len(whole) // 2], "emptied": b"", "flipped": bytes([whole[0] ^ 1]) + whole[1:]}
    shard.unlink() if harm == "deleted" else shard.write_bytes(damaged[harm])
    with opened(here) as run:
        assert 1 in run.todo
        assert len(run.todo) == (1 if published else len(run.plan.grid) - 4)
        do_blocks(run, run.todo)
        run.finish(lambda *_: None)
    result = here.out / "scene"
    assert tree(result / "mask.zarr") == tree(undisturbed / "mask.zarr")
    assert (result / "mask.tif").read_bytes() == (undisturbed / "mask.tif").read_bytes()


@pytest.mark.parametrize("file", ["mask.tif", "quicklook.png", "mask.zarr/1/mask/c/0/0"])
def test_damage_outside_the_blocks_is_mended_without_redoing_one(folder, undisturbed, file):
    here = job(folder, f"mended-{Path(file).name}", window=76, block=128)
    run_here(here)
    whole = (here.out / "scene" / file).read_bytes()
    (here.out / "scene" / file).write_bytes(whole[:-3])
    with opened(here) as run:
        assert run.todo == []
        run.finish(lambda *_: None)
    assert (here.out / "scene" / file).read_bytes() == whole


def test_a_finished_scene_is_left_alone(folder, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if ".lease" not in str(path)}
    report = run_here(job(folder, "undisturbed", window=76, block=128))
    assert report["complete"]
    after = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if ".lease" not in str(path)}
    assert {path for path in before if before[path] != after.get(path)} == set()


def test_every_pixel_is_told(tmp_path):
    pixels = noise(200, 200)
    pixels[:, :70, :70] = 0
    pixels[:, 100, 100] = 0
    save_scene(tmp_path / "scene.tif", pixels, nodata=0)
    save_model(tmp_path / "model.onnx", MODEL)
    report = run_here(job(tmp_path, "out", block=64, window=76))
    mask = read_mask(tmp_path / "out" / "scene")
    valid = ~(pixels == 0).all(axis=0)
    assert np.array_equal(mask == NODATA, ~valid)
    assert report["blocks"]["nodata"] == 1
    counts = {entry["value"]: entry["pixels"] for entry in report["classes"]}
    assert counts == {int(value): int((mask == value).sum()) for value in (0, 10, 20, NODATA)}
    assert sum(counts.values()) == mask.size


def test_what_is_not_finite_is_a_hole_and_never_a_class(tmp_path):
    pixels = noise(256, 256).astype(np.float32)
    pixels[0, 150, 150] = HUGE
    save_scene(tmp_path / "scene.tif", pixels)
    save_model(tmp_path / "model.onnx", brittle(MODEL))
    here = job(tmp_path, "out", block=64, window=76)
    report = run_here(here)
    assert report["blocks"]["failed"] == 1
    assert "NaN or infinity" in report["failures"][0]["reason"]
    mask = read_mask(tmp_path / "out" / "scene")
    assert (mask[128:192, 128:192] == FAILED).all()
    assert (mask == FAILED).sum() == 64 * 64
    with opened(here) as run:
        assert run.todo == [10]  # a later run tries only the hole


def test_a_hole_that_heals_is_closed(folder, undisturbed):
    here = job(folder, "healed", window=76, block=128)
    with opened(here) as run:
        do_blocks(run, run.todo[1:])
        run.take(Record(block=run.todo[0], state=State.FAILED, reason="the disk was away"))
        report = run.finish(lambda *_: None)
    assert report["failures"][0]["rows"] == [0, 128]
    assert (read_mask(here.out / "scene")[:128, :128] == FAILED).all()
    assert run_here(here)["blocks"]["failed"] == 0
    assert tree(here.out / "scene" / "mask.zarr") == tree(undisturbed / "mask.zarr")


def test_another_identity_is_refused_with_what_differs(folder, undisturbed):
    before = tree(undisturbed)
    with pytest.raises(IdentityError, match=r"card: .*threshold|card: "):
        run_here(job(folder, "undisturbed", card={"fill": 1.0}))
    with pytest.raises(IdentityError, match="settings"):
        run_here(job(folder, "undisturbed", products=frozenset({"confidence"})))
    save_model(folder / "other.onnx", small_unet(seed=1))
    with pytest.raises(IdentityError, match="model"):
        run_here(job(folder, "undisturbed").model_copy(update={"model": str(folder / "other.onnx")}))
    assert tree(undisturbed) == before


def test_overwriting_builds_beside_and_takes_the_place_when_complete(folder):
    old = job(folder, "replaced", window=76, block=128)
    run_here(old)
    before = tree(old.out / "scene")
    new = old.model_copy(update={"overwrite": True, "card": {"fill": 1.0}})
    with opened(new) as run:
        do_blocks(run, run.todo[:3])
    assert tree(old.out / "scene") == before
    with opened(new) as run:
        assert len(run.todo) == len(run.plan.grid) - 3
        do_blocks(run, run.todo)
        run.finish(lambda *_: None)
    said = json.loads((old.out / "scene" / "report.json").read_text())
    assert said["identity"]["card"]["fill"] == 1.0
    assert sorted(entry.name for entry in old.out.iterdir()) == [".leases", "scene"]


def test_a_second_run_is_kept_out(folder):
    here = job(folder, "held", window=76, block=128)
    with opened(here) as run:
        with pytest.raises(LeaseError, match="scene"):
            opened(here)
        do_blocks(run, run.todo)
        run.finish(lambda *_: None)


def test_exact_is_refused_of_a_network_that_mixes_all_its_pixels(tmp_path):
    save_scene(tmp_path / "scene.tif", noise(100, 100))
    save_model(tmp_path / "model.onnx", small_unet(pooled=True))
    with pytest.raises(ModelError, match="squeeze"):
        opened(job(tmp_path, "out", margin="exact"))
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused_before_anything_is_written(folder):
    with pytest.raises(RoomError, match="would hold"):
        opened(job(folder, "nothing", memory=10 * 2**20))
    with pytest.raises(SettingsError, match="whole number of cores"):
        opened(job(folder, "nothing", window=76, block=100))
    assert not (folder / "nothing").exists()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block=st.sampled_from([48, 96, 192]), seed=st.integers(0, 99))
def test_blending_gives_the_same_bytes_whatever_the_block(tmp_path, block, seed):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    pixels = noise(150, 170, seed)
    pixels[:, 40:70, 50:90] = 0
    save_scene(tmp_path / "scene.tif", pixels, nodata=0)
    save_model(tmp_path / "model.onnx", small_unet(pooled=True))
    everything = frozenset({"confidence", "probabilities", "disagreement"})
    results = []
    for side, out in ((block, "one"), (240, "other")):
        here = job(tmp_path, out, block=side, products=everything)
        report = run_here(here)
        assert report["margin"]["kind"] == "blend"
        assert report["disagreement"]["greatest"] > 0
        store = Sink(here.out / "scene" / "mask.zarr")
        results.append([store.read(name, Rect(0, 0, 150, 170)) for name in ("mask", *sorted(everything))])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(results[0][0] == NODATA, (pixels == 0).all(axis=0))


def test_a_chosen_margin_is_called_so_and_measured(folder):
    report = run_here(job(folder, "chosen", margin=2, window=68))
    assert report["margin"]["kind"] == "chosen"
    assert report["margin"]["difference"] > 0


def test_all_products_are_published_in_one_store_and_as_cogs(folder, undisturbed):
    report = run_here(job(folder, "all", window=76, block=128, products=frozenset({"confidence", "probabilities"})))
    assert report["complete"]
    result = folder / "all" / "scene"
    assert np.array_equal(read_mask(result), read_mask(undisturbed))
    with rasterio.open(result / "probabilities.tif") as file, rasterio.open(result / "confidence.tif") as other:
        probabilities, confidence = file.read(), other.read(1)
        assert file.descriptions == ("class 0", "class 1", "class 2")
    assert np.array_equal(probabilities.max(axis=0), confidence)
    assert np.array_equal(10 * probabilities.argmax(axis=0)[confidence > 200], read_mask(result)[confidence > 200])


def test_a_shard_that_cannot_be_written_ends_the_run_and_a_later_one_goes_on(folder, undisturbed):
    here = job(folder, "unwritable", window=76, block=128)
    with opened(here) as run:
        do_blocks(run, run.todo[:2])
        shards = run.folder.store / "mask" / "c"
        shards.rename(run.folder.stage / "kept")
        shards.write_bytes(b"")  # a file where the shards' folder should be: no hole can be written there either
        with pytest.raises(SettingsError, match="cannot be written"):
            run_block(run.plan, 2)
        shards.unlink()
        (run.folder.stage / "kept").rename(shards)
        close_bench()
    run_here(here)
    assert tree(here.out / "scene" / "mask.zarr") == tree(undisturbed / "mask.zarr")
