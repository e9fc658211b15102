"""What is settled about a real scene and a real network; and that the plan's numbers are those of counting."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget import Budget
from pipeline.errors import ModelError, SceneError
from pipeline.grid import Stitch, reflected
from pipeline.network.field import Field
from pipeline.plan import Choices, Kind, Margin, Plan, identity_of, products_of, recipe_of
from pipeline.probe import Probe
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.settle import Settled, open_network, settle
from tests.oracle import TUNER, noise, save_model, save_scene, small_unet
from tests.test_grid import grids
from tests.test_plan import network, scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("settle")
    save_model(place / "model.onnx", small_unet())
    save_model(place / "pooled.onnx", small_unet(pooled=True))
    save_scene(place / "scene.tif", noise(300, 200))
    return place


def settled(folder: Path, frozen: Choices | None = None, cores: int = 2, **said: object) -> Settled:
    said = {"scenes": ("scene.tif",), "model": "model.onnx", "out": folder / "out", "device": "cpu", **said}
    job = Job(**said)
    found = open_network(folder / job.model, job)
    image = open_scene(str(folder / str(job.scenes[0])), job.bands or found.card.file_bands)
    return settle(job, found, image, TUNER, frozen, cores)


# The numbers


def told_of(grid, tile: tuple[int, int], workers: int = 1) -> dict:
    """What is told of a grid over an image that is cut into tiles, without running anything."""
    job = Job(scenes=("a",), model="m", out="out")
    image = scene(grid.height, grid.width, tile=tile, tile_bytes=3 * tile[0] * tile[1])
    margin = Margin(grid.margin, Kind.BLEND if grid.stitch is Stitch.BLEND else Kind.EXACT, "")
    choices = Choices(grid.core, grid.block, margin, (), (), "cpu", "cpu")
    of = network(Field(grid.stride, grid.margin))
    plan = Plan(
        scene=image,
        network=of,
        grid=grid,
        margin=margin,
        recipe=recipe_of(grid, image, job, 1),
        choices=choices,
        products=products_of(job, of.card),
        identity=identity_of(job, of, image, choices),
        store="",
    )
    probe = Probe("cpu", "cpu", "CPUExecutionProvider", None, None, batch=1, rest=1, peak=2, seconds=0.5)
    return Settled(plan, Budget(1, 1, workers, 1), probe, ()).as_dict()


@given(grids(), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 4))
def test_what_is_told_of_the_work_is_what_counting_gives(grid, tile, workers):
    def tiles(rect) -> int:
        count = 1
        for (start, stop), size, side in zip(
            ((rect.top, rect.bottom), (rect.left, rect.right)), (grid.height, grid.width), tile, strict=True
        ):
            seen = reflected(start, stop, size)
            count *= seen.max() // side - seen.min() // side + 1  # what lies between two pixels is decoded with them
        return int(count)

    told = told_of(grid, tile, workers)
    blocks = range(len(grid))
    windows = [window for block in blocks for window in grid.windows(block)]
    touched = sum(tiles(grid.hull(block)) for block in blocks)
    assert told["pixels"] == grid.height * grid.width
    assert told["blocks"] == len(blocks)
    assert told["windows"] == len(windows)
    assert told["computed_per_pixel"] == sum(window.area for window in windows) / told["pixels"]
    assert told["bytes_read"] == touched * 3 * tile[0] * tile[1]
    assert told["read_amplification"] == touched / tiles(grid.scene)
    assert told["seconds"] == pytest.approx(0.5 * len(windows) / workers)
    assert json.loads(json.dumps(told)) == told


def test_the_bytes_read_are_those_that_the_reader_counts(folder):
    plan = (made := settled(folder, window=76, block=64)).plan
    with Reader(plan.scene) as reader:
        for block in range(len(plan.grid)):
            reader.read(plan.grid.hull(block))
        assert reader.bytes_read == made.as_dict()["bytes_read"]


def test_a_scene_that_has_to_be_staged_is_planned_with_its_tiles_and_its_room(tmp_path):
    save_model(tmp_path / "model.onnx", small_unet())
    pixels = noise(2100, 2000)
    save_scene(tmp_path / "tiled.tif", pixels, blockxsize=512, blockysize=512)
    save_scene(tmp_path / "scene.png", pixels, driver="PNG", tiled=False)
    tiled, staged = (settled(tmp_path, scenes=(name,), window=76) for name in ("tiled.tif", "scene.png"))
    assert tiled.staged is None
    assert "from its beginning" in staged.as_dict()["staged"]
    assert staged.as_dict()["bytes_read"] == tiled.as_dict()["bytes_read"]
    assert staged.budget.disk == tiled.budget.disk + pixels[0].size * 4
    assert staged.budget.coordinator >= tiled.budget.coordinator


# Identity


def test_image_and_model_may_move_and_be_touched_without_becoming_another_result(folder, tmp_path):
    for name in ("model.onnx", "scene.tif"):
        shutil.copy(folder / name, tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "scene.tif").rename(tmp_path / "moved.tif")
    moved = settled(tmp_path, cores=7, scenes=("moved.tif",), window=76, block=256, workers=1)
    assert moved.plan.identity == settled(folder, window=76).plan.identity


def test_one_pixel_or_one_weight_makes_another_result(folder, tmp_path):
    pixels = noise(300, 200)
    pixels[2, 299, 199] ^= 1
    save_scene(tmp_path / "scene.tif", pixels)
    save_model(tmp_path / "model.onnx", small_unet(seed=1))
    one, other = (settled(place, window=76).plan.identity for place in (folder, tmp_path))
    assert {name for name in one if one[name] != other[name]} == {"source", "model"}


# What is frozen is obeyed


@pytest.mark.parametrize("asked", [{}, {"window": 140, "block": 256}, {"block": 64}, {"window": 5}])
def test_an_exact_result_keeps_the_sides_of_its_plan_and_says_so(folder, asked):
    first = settled(folder, window=76, block=128)
    again = settled(folder, first.plan.choices, **asked)
    assert again.plan.grid == first.plan.grid
    assert again.plan.identity == first.plan.identity
    for name, value in asked.items():
        assert any(f"The {name} is " in note and f"not {value}." in note for note in again.notes)


@pytest.mark.parametrize("wanted", [{"margin": 2}, {"model": "pooled.onnx"}])
@pytest.mark.parametrize("asked", [{"window": 64}, {"window": 64, "block": 240}])
def test_the_block_of_a_plan_is_kept_whatever_is_asked_for_later(folder, wanted, asked):
    side = 48 if wanted != {"margin": 2} else 60
    first = settled(folder, window=64, block=2 * side, **wanted)
    again = settled(folder, first.plan.choices, **asked, **wanted)
    assert again.plan.grid == first.plan.grid
    assert again.plan.identity == first.plan.identity


def test_another_window_is_another_result_where_it_decides_pixels(folder):
    first = settled(folder, model="pooled.onnx", window=64, block=96)
    again = settled(folder, first.plan.choices, model="pooled.onnx", window=128)
    assert first.plan.identity["settings"] != again.plan.identity["settings"]


def test_a_network_of_another_stride_is_told_by_its_digest_and_not_by_sides_that_do_not_fit(folder, tmp_path):
    shutil.copy(folder / "model.onnx", tmp_path)
    save_scene(tmp_path / "scene.tif", noise(40, 50))
    frozen = replace(
        settled(tmp_path).plan.choices, core=75, block=150
    )  # as a network with a stride of 3 would have it
    assert settled(tmp_path, frozen).plan.grid.core % 2 == 0


def test_a_margin_that_was_measured_is_not_measured_again(folder):
    margin = Margin(4, Kind.MEASURED, "found in another life", 5e-4)
    frozen = replace(settled(folder, window=76).plan.choices, margin=margin)
    assert settled(folder, frozen, margin=2).plan.margin == margin


# What is refused, what is noted


def test_bands_and_pixels_that_the_model_does_not_eat_are_refused(folder, tmp_path):
    with pytest.raises(SceneError, match=r"eats 3 bands \(red, green, blue\) and 2 are chosen \(1, 2\).*--bands"):
        settled(folder, bands=(1, 2))
    with pytest.raises(SceneError, match=r"pixels are uint8, and the model was made for uint16.*dtype: uint8"):
        settled(folder, card={"dtype": "uint16"})
    with pytest.raises(ModelError, match="squeeze"):
        settled(folder, model="pooled.onnx", margin="exact")


def test_another_ground_resolution_is_noted(folder):
    (note,) = settled(folder, window=76, card={"resolution": 30}).notes
    assert "sees 30 m per pixel; the scene has 10 m" in note
    assert settled(folder, window=76).notes == ()


def test_a_window_too_small_for_sums_in_one_order_is_noted(folder):
    (note,) = settled(folder, window=28).notes
    assert "smaller than 16 × 16" in note
    assert "Take 32 or more" in note
    assert settled(folder, window=76).notes == ()


def test_statistics_of_the_scene_are_the_affine_where_the_card_wants_them(tmp_path):
    save_model(tmp_path / "model.onnx", small_unet())
    pixels = noise(90, 120)
    save_scene(tmp_path / "scene.tif", pixels)
    choices = settled(tmp_path, window=76, card={"scaling": {"kind": "scene"}}).plan.choices
    assert choices.shift == pytest.approx(pixels.mean(axis=(1, 2)), rel=1e-5)
    assert choices.factor == pytest.approx(1 / pixels.std(axis=(1, 2)), rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "cores", "workers"), [({}, 3, 3), ({}, 64, 20), ({"workers": 5}, 2, 5), ({"workers": 50}, 2, 20)]
)
def test_there_are_as_many_workers_as_asked_for_or_cores_or_blocks(folder, asked, cores, workers):
    made = settled(folder, cores=cores, window=76, block=64, **asked)
    assert len(made.plan.grid) == 20
    assert made.budget.workers == workers
