"""An area of interest in a whole run: inside nothing differs, outside is 254 and neither read nor predicted."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import rasterio
import shapely
from rasterio import Affine

from pipeline.aoi import interest_of
from pipeline.document import load_job
from pipeline.errors import IdentityError, SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.quicklook import image_of
from pipeline.raster.layer import resized
from pipeline.raster.percentiles import percentiles
from pipeline.raster.source import open_scene
from pipeline.raster.statistics import statistics
from pipeline.settings import FAILED, NODATA, OUTSIDE, Job
from pipeline.store.record import Record, State
from tests.areas import burnt, on_map, write_area
from tests.mill import last_json, maskmill
from tests.oracle import (
    do_blocks,
    expected_mask,
    noise,
    opened,
    read_mask,
    run_here,
    save_model,
    save_scene,
    small_card,
    small_unet,
    tree,
)

MODEL, SHAPE = small_unet(), (300, 540)
FIELDS = [shapely.box(70, 30, 200, 150), shapely.Point(390, 200).buffer(60)]  # (col, row)
INSIDE = burnt(FIELDS, SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("aoi")
    save_model(place / "model.onnx", MODEL)
    save_scene(place / "scene.tif", noise(*SHAPE))
    write_area(place / "fields.gpkg", on_map(FIELDS))
    return place


def job(folder, out, **said):
    sides = {"window": 76, "block": 64, "device": "cpu"}
    asked = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "out": folder / out}
    return Job(**asked, **{**sides, "aoi": str(folder / "fields.gpkg"), **said})


@pytest.fixture(scope="module")
def report(folder):
    return run_here(job(folder, "whole"))


def test_inside_is_what_it_is_without_an_area_and_outside_is_254(folder, report):
    want = np.where(INSIDE, expected_mask(MODEL, noise(*SHAPE)), OUTSIDE)
    assert np.array_equal(read_mask(folder / "whole" / "scene"), want)


def test_blocks_outside_are_counted_and_cost_nothing(folder, report):
    blocks = [INSIDE[row : row + 64, col : col + 64].any() for row in range(0, 300, 64) for col in range(0, 540, 64)]
    assert report["blocks"]["outside"] == blocks.count(False)
    assert report["blocks"]["done"] == blocks.count(True)
    assert report["area"]["path"] == str(folder / "fields.gpkg")
    outside = next(one for one in report["classes"] if one["name"] == "outside")
    assert outside["pixels"] == np.count_nonzero(~INSIDE)
    assert report["predicted_pixels"] == np.count_nonzero(INSIDE)
    assert report["bytes_read"] < 0.6 * run_here(job(folder, "all", aoi=None))["bytes_read"]


def test_the_plan_counts_only_what_is_touched(folder):
    with opened(job(folder, "planned")) as run:
        said = run.settled.as_dict()
    with opened(job(folder, "planned-all", aoi=None)) as run:
        whole = run.settled.as_dict()
    assert whole["blocks_outside"] == 0
    assert 0 < said["blocks_outside"] < said["blocks"]
    for name in ("windows", "bytes_read", "seconds", "computed_per_pixel"):
        assert said[name] < 0.6 * whole[name]


def test_what_is_outside_is_never_read(tmp_path):
    """The tiles of every block outside are damaged, and nobody notices."""
    save_model(tmp_path / "model.onnx", MODEL)
    save_scene(tmp_path / "scene.tif", noise(*SHAPE), compress="deflate")
    write_area(tmp_path / "fields.gpkg", on_map([shapely.box(20, 20, 90, 90)]))
    with rasterio.open(tmp_path / "scene.tif") as file:
        places = [
            (int(file.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)), row, col)
            for row in range(5)
            for col in range(9)
            if row > 2 or col > 2
        ]
    with (tmp_path / "scene.tif").open("r+b") as file:
        for offset, _, _ in places:
            file.seek(offset)
            file.write(b"\xff" * 64)
    said = run_here(job(tmp_path, "out"))
    assert said["blocks"]["failed"] == 0
    seen = image_of(open_scene(str(tmp_path / "scene.tif"), None), small_card(), Rect(20, 20, 90, 90))
    assert seen[30:100, 30:100].any()
    assert not seen[:, 120:].any()
    want = np.where(burnt([shapely.box(20, 20, 90, 90)], SHAPE), expected_mask(MODEL, noise(*SHAPE)), OUTSIDE)
    assert np.array_equal(read_mask(tmp_path / "out" / "scene"), want)


@pytest.mark.parametrize("stitch", ["exact", "blend"])
def test_every_product_is_254_outside_and_as_it_was_inside(folder, stitch):
    products = {"products": ["confidence", "probabilities"], "margin": stitch, "block": 64 if stitch == "exact" else 56}
    run_here(job(folder, f"with-{stitch}", **products))
    run_here(job(folder, f"without-{stitch}", aoi=None, **products))
    for product in ("mask", "confidence", "probabilities"):
        with (
            rasterio.open(folder / f"with-{stitch}" / "scene" / f"{product}.tif") as fenced,
            rasterio.open(folder / f"without-{stitch}" / "scene" / f"{product}.tif") as free,
        ):
            assert np.array_equal(fenced.read(), np.where(INSIDE, free.read(), OUTSIDE))


def test_outside_wins_over_nodata_and_failed(tmp_path):
    save_model(tmp_path / "model.onnx", MODEL)
    pixels = noise(*SHAPE)
    pixels[:, 100:200, 100:300] = 0
    save_scene(tmp_path / "scene.tif", pixels, nodata=0)
    write_area(tmp_path / "fields.gpkg", on_map(FIELDS))
    with opened(job(tmp_path, "out")) as run:
        first, *rest = [block for block in run.todo if INSIDE[run.plan.grid.owned(block).slices()].any()]
        lost = run.plan.grid.owned(first)
        do_blocks(run, [block for block in run.todo if block != first])
        run.take(Record(block=first, state=State.FAILED, reason="lost"))
        assert rest
        run.finish(lambda *_: None)
    mask = read_mask(tmp_path / "out" / "scene")
    valid = (pixels != 0).any(axis=0)
    want = np.where(valid, 0, NODATA)
    want[lost.slices()] = FAILED
    assert np.array_equal(np.where(INSIDE, want, OUTSIDE), np.where(mask < 253, 0, mask))


def test_any_interruption_gives_the_same_bytes_and_another_area_is_refused_by_name(folder, report):
    here = job(folder, "interrupted")
    while True:
        with opened(here) as run:
            do_blocks(run, run.todo[:9])
            if run.complete:
                run.finish(lambda *_: None)
                break
    there = folder / "whole" / "scene" / "mask.zarr"
    assert tree(folder / "interrupted" / "scene" / "mask.zarr") == tree(there)
    write_area(folder / "other.gpkg", on_map([shapely.box(0, 0, 100, 100)]))
    for other in (str(folder / "other.gpkg"), None):
        with pytest.raises(IdentityError, match="differs in area"):
            opened(job(folder, "interrupted", aoi=other))


def test_an_area_that_changes_during_a_run_ends_it(tmp_path):
    save_model(tmp_path / "model.onnx", MODEL)
    save_scene(tmp_path / "scene.tif", noise(*SHAPE))
    write_area(tmp_path / "fields.gpkg", on_map(FIELDS))
    with opened(job(tmp_path, "out")) as run:
        write_area(tmp_path / "fields.gpkg", on_map([shapely.box(0, 0, 100, 100)]))
        with pytest.raises(SettingsError, match="has changed since the run was planned"):
            do_blocks(run, run.todo)


def test_an_area_elsewhere_is_the_scenes_error_with_both_extents(folder):
    write_area(folder / "elsewhere.gpkg", on_map([shapely.box(9000, 0, 9100, 100)]))
    with pytest.raises(SceneError) as caught:
        opened(job(folder, "elsewhere", aoi=str(folder / "elsewhere.gpkg")))
    assert "590000 to 591000" in caught.value.message
    assert "the image x 49" in caught.value.message
    assert not (folder / "elsewhere").exists()


def test_the_folder_remembers_the_area_by_its_absolute_path(folder, report, monkeypatch):
    monkeypatch.chdir(folder)
    run_here(job(folder, "relative", aoi="fields.gpkg"))
    asked = json.loads((folder / "relative" / "scene" / "ledger" / "plan.json").read_text())["asked"]
    assert asked["aoi"] == {"file": str(folder / "fields.gpkg"), "layer": "area"}
    assert load_job(None, asked).aoi.layer == "area"


def test_a_mask_does_what_its_polygons_do(folder, report):
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    save_scene(folder / "mask.tif", INSIDE[None].astype(np.uint8), transform=place)
    run_here(job(folder, "masked", aoi=str(folder / "mask.tif")))
    assert np.array_equal(read_mask(folder / "masked" / "scene"), read_mask(folder / "whole" / "scene"))


def test_what_is_measured_of_the_scene_is_measured_inside(folder):
    scene = open_scene(str(folder / "scene.tif"), None)
    interest = interest_of(job(folder, "measured"), scene)
    pixels = noise(*SHAPE)[:, INSIDE].astype(np.float64)
    mean, deviation = statistics(scene, fence=interest.fence)
    assert mean == pytest.approx(pixels.mean(axis=1))
    assert deviation == pytest.approx(pixels.std(axis=1))
    low, high = percentiles(scene, [(2, 98)] * 3, fence=interest.fence)
    assert np.array_equal([low, high], np.percentile(pixels, [2, 98], axis=1))
    assert statistics(scene)[0] != pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("zoom", [Fraction(1, 2), Fraction(2, 3), Fraction(2), Fraction(7, 5)])
def test_seen_at_another_resolution_a_pixel_is_inside_where_its_centre_is(folder, zoom):
    scene = open_scene(str(folder / "scene.tif"), None)
    view = resized(scene, zoom)
    seen = interest_of(job(folder, "measured"), scene).seen_at(zoom)
    rows, cols = (((np.arange(side) + 0.5) / float(zoom)).astype(int) for side in view.rect.shape)
    want = INSIDE[np.minimum(rows, SHAPE[0] - 1)][:, np.minimum(cols, SHAPE[1] - 1)]
    rect = Rect(10, 20, view.height - 5, view.width - 3)
    assert np.array_equal(seen.inside(rect), want[rect.slices()])
    assert statistics(view, fence=seen)[0].shape == (3,)


def test_a_striped_scene_is_staged_and_fenced(tmp_path):
    save_model(tmp_path / "model.onnx", MODEL)
    save_scene(tmp_path / "scene.tif", noise(*SHAPE), tiled=False, compress="deflate", blockysize=SHAPE[0])
    write_area(tmp_path / "fields.gpkg", on_map(FIELDS))
    run_here(job(tmp_path, "out"))
    want = np.where(INSIDE, expected_mask(MODEL, noise(*SHAPE)), OUTSIDE)
    assert np.array_equal(read_mask(tmp_path / "out" / "scene"), want)


def test_a_scene_that_the_area_does_not_meet_is_refused_and_the_others_are_done(folder, tmp_path):
    save_scene(tmp_path / "far.tif", noise(64, 64), transform=Affine(10, 0, 700_000, 0, -10, 5_000_000))
    said = ["--model", folder / "model.onnx", "--out", tmp_path / "out", "--aoi", folder / "fields.gpkg:area"]
    said += ["--window", "76", "--block", "64", "--device", "cpu", "--workers", "1", "--json"]
    done = maskmill("run", folder / "scene.tif", tmp_path / "far.tif", *said, cwd=tmp_path)
    assert done.returncode == 3
    assert "far is refused: No pixel of" in done.stderr
    assert [one["state"] for one in last_json(done)["scenes"]] == ["complete", "refused"]
    assert np.array_equal(read_mask(tmp_path / "out" / "scene") != OUTSIDE, INSIDE)
    status = last_json(maskmill("status", tmp_path / "out", "--json", cwd=tmp_path))["scenes"][0]
    assert status["outside"] > 0
    assert (status["pending"], status["percent"]) == (0, 100.0)
    plan = maskmill("plan", folder / "scene.tif", *said[:-1], cwd=tmp_path)
    assert "which are never read" in plan.stdout
    alone = maskmill("run", tmp_path / "far.tif", *said[:-1], cwd=tmp_path)
    assert alone.returncode == 2
    assert not (tmp_path / "out" / "far").exists()
    assert maskmill("verify", tmp_path / "out" / "scene", "--sample", "2", cwd=tmp_path).returncode == 0
