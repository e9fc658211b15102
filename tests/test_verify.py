"""The proof of a finished result: what is right passes, and one wrong pixel does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BlockError, IdentityError, SettingsError
from pipeline.folder import Folder
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.settle import Settled, open_network, settle
from pipeline.store.sink import Sink
from pipeline.verify import Verdict, compare_blocks, compare_crop, judged, verify
from tests.mill import last_json, maskmill
from tests.oracle import TUNER, noise, opened, run_here, save_model, save_scene, small_unet

EVERYTHING = frozenset({"confidence", "probabilities"})
ALL = 99  # more blocks than there are


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("verify")
    save_model(place / "model.onnx", small_unet())
    save_model(place / "pooled.onnx", small_unet(pooled=True))
    pixels = noise(170, 230)
    pixels[:, 64:128, 64:128] = 0
    save_scene(place / "scene.tif", pixels, nodata=0)
    run_here(job(place, "exact", window=76, block=64, products=EVERYTHING))
    run_here(job(place, "blend", model="pooled.onnx", window=64, block=96))
    return place


def job(folder: Path, out: str, model: str = "model.onnx", **said: object) -> Job:
    return Job(scenes=(str(folder / "scene.tif"),), model=str(folder / model), out=folder / out, device="cpu", **said)


@pytest.fixture
def copied(folder, tmp_path):
    """A folder of one's own, with a finished result in it."""
    shutil.copytree(folder, tmp_path / "mine")
    return tmp_path / "mine"


def settled(folder: Path, out: str, **asked: object) -> Settled:
    """What `verify` starts from: the job and the choices that lie in the folder."""
    place = Folder(folder / out, "scene")
    wanted = Job.model_validate({**place.asked(), **asked})
    network = open_network(Path(wanted.model), wanted)
    scene = open_scene(wanted.scenes[0].uri, wanted.bands or network.card.file_bands, "scene")
    return settle(wanted, network, scene, TUNER, place.choices()[1], 1)


def verdict(folder: Path, out: str, sample: int = ALL, **asked: object) -> Verdict:
    return verify(settled(folder, out, **asked), Folder(folder / out, "scene"), sample, seed=0)


def tamper(folder: Path, out: str, product: str, row: int, col: int, pixels: int = 1) -> int:
    """Change pixels of a finished result, in whole and undamaged shards; returns the block."""
    grid = settled(folder, out).plan.grid
    sink = Sink(folder / out / "scene" / "mask.zarr")
    block = row // grid.block * grid.blocks[1] + col // grid.block
    owned = grid.owned(block)
    raster = sink.read(product, owned)
    raster[..., row - owned.top, col - owned.left : col - owned.left + pixels] ^= 1
    sink.put(product, owned, raster)
    return block


def here(folder: Path, out: str, same_class: bool = True) -> tuple[int, int]:
    """Compare all blocks of a result in this process."""
    made = settled(folder, out)
    plan = made.plan.on(str(folder / out / "scene" / "mask.zarr"))
    return compare_blocks(plan, tuple(range(len(plan.grid))), same_class)


def test_the_command_proves_a_good_result_from_its_folder_alone(folder, tmp_path):
    done = maskmill("verify", folder / "exact" / "scene", "--sample", ALL, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = last_json(done)
    assert (found["exit_code"], found["differing"], found["agreement"], found["same_class"]) == (0, 0, 1, True)
    assert (found["crop_difference"], found["crop_flips"]) == (0, 0)
    assert len(found["blocks"]) == 12 - 1  # one holds no data, and nothing was predicted there
    assert found["pixels"] == 170 * 230 - 64 * 64


def test_a_blended_result_is_proved_by_a_sample_of_its_blocks(folder):
    found = verdict(folder, "blend", 2)
    assert (found.exit_code, found.differing, found.crop, len(found.blocks)) == (0, 0, None, 2)
    assert "blend, so no crop" in found.sentence


@settings(max_examples=4)
@given(row=st.integers(130, 169), col=st.integers(0, 229), product=st.sampled_from(["mask", *sorted(EVERYTHING)]))
def test_one_pixel_that_was_changed_is_found_wherever_it_is(folder, tmp_path_factory, row, col, product):
    place = tmp_path_factory.mktemp("tampered") / "mine"
    shutil.copytree(folder, place)
    tamper(place, "exact", product, row, col)
    assert here(place, "exact") == (170 * 230, 1)


def test_a_tampered_result_is_told_so(copied):
    block = tamper(copied, "exact", "mask", 3, 200)
    found = verdict(copied, "exact")
    assert block in found.blocks
    assert (found.exit_code, found.differing) == (1, 1)
    assert "NOT what its inputs make" in found.sentence


def test_a_damaged_shard_is_told_and_not_taken_for_nodata(copied):
    shard = copied / "exact" / "scene" / "mask.zarr" / "mask" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(BlockError, match="damaged"):
        here(copied, "exact")


@pytest.mark.parametrize("part", ["source", "model"])
def test_what_changed_since_is_named(copied, part):
    asked = {}
    if part == "source":
        pixels = noise(170, 230)
        pixels[0, 0, 0] ^= 1
        save_scene(copied / "scene.tif", pixels, nodata=0)
        asked["scenes"] = [{"name": "scene", "uri": str(copied / "scene.tif")}]
    if part == "model":
        save_model(copied / "model.onnx", small_unet(seed=1))
        asked["model"] = str(copied / "model.onnx")
    with pytest.raises(IdentityError, match=f"differs in {part}: "):
        verdict(copied, "exact", **asked)


def test_of_another_numeric_class_agreement_is_asked_for_and_not_equality(copied):
    file = copied / "exact" / "scene" / "ledger" / "plan.json"
    said = json.loads(file.read_text())
    said["identity"]["numeric class"] = said["choices"]["numeric_class"] = "cuda fp32 of another machine"
    file.write_text(json.dumps(said))
    tamper(copied, "exact", "mask", 3, 200, pixels=10)
    found = verdict(copied, "exact")
    assert (found.same_class, found.exit_code, found.differing) == (False, 0, 10)
    assert found.agreement > 0.999
    assert "agreement of 99.9%" in found.sentence


def test_a_gpu_owes_agreement_and_not_equality(folder):
    plan = settled(folder, "exact").plan
    on_gpu = replace(plan, choices=replace(plan.choices, device="cuda"))
    assert judged(plan, True, (0,), (10_000, 1), None).exit_code == 1
    assert judged(on_gpu, True, (0,), (10_000, 10), None).exit_code == 0
    assert judged(on_gpu, True, (0,), (10_000, 11), None).exit_code == 1
    assert "as a GPU made it" in judged(on_gpu, True, (0,), (10_000, 10), None).sentence


def test_a_crop_shows_how_far_a_chosen_margin_is_from_one_pass(folder):
    run_here(job(folder, "chosen", margin=2, window=68, block=64))
    crop, difference, _ = compare_crop(settled(folder, "chosen").plan, 0)
    assert crop.shape == (128, 128)
    assert 0 < difference < 1


def test_what_is_no_result_is_refused(folder, tmp_path):
    with pytest.raises(SettingsError, match="holds no result"):
        verify(settled(folder, "exact"), Folder(tmp_path, "scene"), 1)
    with opened(job(folder, "begun", window=76, block=64)):
        pass
    with pytest.raises(SettingsError, match="nothing to verify yet"):
        verdict(folder, "begun")
