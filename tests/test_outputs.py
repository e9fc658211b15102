"""What a mask can be, end to end: a band for each class, 16 bits, and rasters of the numbers that a network says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from PIL import Image
from shapely.geometry import shape

from pipeline.errors import SettingsError
from pipeline.folder import Folder
from pipeline.network.card import Card
from pipeline.pyramid import mean_of_numbers, mode_by_band
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.settle import open_network, settle
from pipeline.store.record import Record, State
from pipeline.verify import compare_blocks, verify
from pipeline.work import close_bench, run_block
from tests.oracle import (
    HUGE,
    TUNER,
    brittle,
    do_blocks,
    noise,
    one_pass,
    opened,
    run_here,
    save_model,
    save_scene,
    small_card,
    small_unet,
    tree,
)

SIDES = (300, 620)
HOLE = (slice(64, 140), slice(64, 330))
FORMS = {
    "layers": {"classes": ["none", "roof", "road", "tree"], "activation": "sigmoid", "threshold": 0.6},
    "exclusive": {"classes": ["none", "roof", "road", "tree"], "activation": "sigmoid", "exclusive": True},
    "wide": {"classes": [{"name": f"code {value}", "value": value} for value in (111, 253, 65532)]},
    "values": {"classes": ["height", "slope", "age"], "activation": "none", "says": "values"},
    "value": {"classes": ["height"], "activation": "none", "says": "values"},
}


def card_of(form: str) -> Card:
    return Card.of({**small_card().model_dump(exclude={"classes"}), **FORMS[form]}, "the test")


def model_of(form: str, pooled: bool = False):
    return small_unet(classes=card_of(form).channels, pooled=pooled)


def pixels() -> np.ndarray:
    scene = noise(*SIDES)
    scene[:, *HOLE] = 0
    return scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every form, done, by exact margins and blended."""
    place = tmp_path_factory.mktemp("outputs")
    save_scene(place / "scene.tif", pixels(), nodata=0)
    for form in FORMS:
        for pooled in (False, True):
            save_model(place / f"{form}{'_pooled' * pooled}.onnx", model_of(form, pooled), card_of(form))
        run_here(job(place, form))
        run_here(job(place, f"{form}_pooled", **blending(form)))
    return place


def blending(form: str) -> dict[str, object]:
    extra = {"disagreement"} if form.startswith("value") else {"confidence", "probabilities", "disagreement"}
    return {"products": frozenset(extra), "block": 96, "window": 64}


def job(folder: Path, name: str, **said: object) -> Job:
    scene, model = str(folder / "scene.tif"), str(folder / f"{name}.onnx")
    return Job(**{"scenes": (scene,), "model": model, "out": folder / name, "window": 76, "block": 128} | said)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def said_of(form: str) -> tuple[np.ndarray, np.ndarray]:
    """What one pass over the whole image says, (channel, row, col), and where it counts."""
    scene = pixels()
    valid = ~(scene == 0).all(axis=0)
    filled = np.where(valid, scene, np.array([100.0, 110.0, 120.0])[:, None, None])  # the card's fill, scaled back
    return one_pass(model_of(form), filled), valid


def expected(form: str) -> dict[str, np.ndarray]:
    said, valid = said_of(form)
    if form.startswith("value"):
        mask, values = np.where(valid, 0, 255)[None], np.where(valid, said, np.nan)
        return {"mask": mask.astype(np.uint8), "values": values.astype(np.float32)}
    if form == "layers":
        return {"mask": np.where(valid, said >= np.float32(np.log(0.6 / 0.4)), 255).astype(np.uint8)}
    if form == "exclusive":
        chosen = np.where(said.max(axis=0) < 0, 0, said.argmax(axis=0) + 1)
        return {"mask": np.where(valid, chosen, 255).astype(np.uint8)[None]}
    chosen = np.array([111, 253, 65532])[said.argmax(axis=0)]
    return {"mask": np.where(valid, chosen, 65535).astype(np.uint16)[None]}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_one_pass_over_the_whole_image(folder, form):
    wanted = expected(form)
    done = folder / form / "scene"
    assert {path.stem for path in done.glob("*.tif")} == set(wanted)
    root = zarr.open_group(done / "mask.zarr", mode="r")
    for product, raster in wanted.items():
        found = read(done / f"{product}.tif")
        assert found.dtype == raster.dtype == root[product].dtype
        np.testing.assert_array_equal(found, raster)
        stored = root[product][:]
        np.testing.assert_array_equal(stored if stored.ndim == 3 else stored[None], raster)


def test_coarser_levels_are_halves_of_the_finer(folder):
    for form, product, halve in (("layers", "mask", mode_by_band), ("values", "values", mean_of_numbers)):
        done = folder / form / "scene"
        with rasterio.open(done / f"{product}.tif", overview_level=0) as file:
            coarse = file.read()
        np.testing.assert_array_equal(coarse, halve(read(done / f"{product}.tif")))
        stored = zarr.open_group(done / "mask.zarr", mode="r")[f"1/{product}"][:]
        np.testing.assert_array_equal(stored, coarse)


@pytest.mark.parametrize("form", FORMS)
def test_order_workers_and_interruptions_leave_no_trace(folder, form, tmp_path):
    (tmp_path / "scene.tif").symlink_to(folder / "scene.tif")
    for name in (form, f"{form}_pooled"):
        (tmp_path / f"{name}.onnx").symlink_to(folder / f"{name}.onnx")
        asked = job(folder, name)
        if name != form:
            asked = asked.model_copy(update=blending(form))
        asked = asked.model_copy(update={"out": tmp_path / name})
        with opened(asked) as run:
            order = random.Random(0).sample(run.todo, len(run.todo))
            do_blocks(run, order[: len(order) // 2])
        with opened(asked) as run:
            assert sorted(run.todo) == sorted(order[len(order) // 2 :])
            do_blocks(run, run.todo[::-1])
            run.finish(lambda *_: None)
        there, here = (tree(place / name / "scene") for place in (folder, tmp_path))
        same = [key for key in there if key.startswith("mask.zarr") or key.endswith((".tif", ".png"))]
        assert len(same) > 6
        assert {key: there[key] for key in same} == {key: here.get(key) for key in same}


@pytest.mark.parametrize("form", FORMS)
def test_a_good_result_is_proved_and_a_changed_one_is_not(folder, form):
    for name in (form, f"{form}_pooled"):
        place = Folder(folder / name, "scene")
        wanted = Job.model_validate(place.asked())
        network = open_network(Path(wanted.model), wanted)
        scene = open_scene(wanted.scenes[0].uri, network.card.file_bands, "scene")
        settled = settle(wanted, network, scene, TUNER, place.choices()[1], 1)
        found = verify(settled, place, 3, seed=1)
        assert (found.exit_code, found.differing) == (0, 0), found.sentence
        if name == form:
            assert (found.crop_difference, found.crop_flips) == (0, 0)
        plan = settled.plan.on(str(place.store))
        assert compare_blocks(plan, (0, 1), exact=False)[1] == 0


def test_a_block_that_is_given_up_is_failed_in_every_band(folder, tmp_path):
    failed = {"layers": [253] * 3, "wide": [65533], "values": [253]}
    for form, wanted in failed.items():
        (tmp_path / f"{form}.onnx").symlink_to(folder / f"{form}.onnx")
        (tmp_path / "scene.tif").exists() or (tmp_path / "scene.tif").symlink_to(folder / "scene.tif")
        with opened(job(tmp_path, form)) as run:
            hole = run.todo[-1]
            run.take(Record(hole, State.FAILED, reason="for the test"))
            do_blocks(run, run.todo[:-1])
            report = run.finish(lambda *_: None)
        done, owned = tmp_path / form / "scene", run.plan.grid.owned(hole)
        told = read(done / "mask.tif")[:, *owned.slices()].reshape(len(wanted), -1)
        assert [set(band) for band in told.tolist()] == [{value} for value in wanted]
        valid = said_of(form)[1]
        assert report["predicted_pixels"] == valid.sum() - owned.area
        entry = next(one for one in report["classes"] if one["name"] == "failed")
        assert (entry["value"], entry["pixels"]) == (wanted[0], owned.area)
        if form == "values":
            assert np.isnan(read(done / "values.tif")[:, *owned.slices()]).all()


def test_numbers_that_are_none_fail_the_block(tmp_path):
    scene = noise(*SIDES).astype(np.float32)
    scene[1, 200, 500] = HUGE
    save_scene(tmp_path / "scene.tif", scene)
    save_model(tmp_path / "values.onnx", brittle(model_of("values", pooled=False)), card_of("values"))
    with opened(job(tmp_path, "values")) as run:
        records = [run_block(run.plan, block) for block in run.todo]
    close_bench()
    reasons = {record.block: record.reason for record in records if record.state is State.FAILED}
    assert len(reasons) in (1, 2)  # that of the pixel, and its neighbour where the pixel lies near the rim
    assert all("NaN or infinity" in reason for reason in reasons.values())


def test_the_report_counts_bands_and_their_area(folder):
    report = json.loads((folder / "layers" / "scene" / "report.json").read_text())
    mask = expected("layers")["mask"]
    told = {entry["name"]: (entry["pixels"], entry["area"]) for entry in report["classes"]}
    wanted = {name: int((band == 1).sum()) for name, band in zip(("roof", "road", "tree"), mask, strict=True)}
    wanted |= {"none": int((mask == 0).all(axis=0).sum()), "nodata": int((mask[0] == 255).sum())}
    assert told == {name: (pixels, pixels * 100.0) for name, pixels in wanted.items()}
    assert report["predicted_pixels"] == (mask[0] != 255).sum()


def test_pixels_and_area_of_bands_in_degrees(folder, tmp_path):
    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.001, 0, 11, 0, -0.001, 60)}
    save_scene(tmp_path / "scene.tif", pixels(), nodata=0, **place)
    for form in ("layers", "wide"):
        (tmp_path / f"{form}.onnx").symlink_to(folder / f"{form}.onnx")
        here = run_here(job(tmp_path, form))
        there = json.loads((folder / form / "scene" / "report.json").read_text())
        assert [one["pixels"] for one in here["classes"]] == [one["pixels"] for one in there["classes"]]
        for one in here["classes"]:  # a pixel at 60° is about 111 × 55.8 m
            assert one["area"] == pytest.approx(one["pixels"] * 111_412 * 55_800 / 1e6, rel=0.02)


def test_disagreement_is_in_the_units_of_the_values(folder):
    done = folder / "value_pooled" / "scene"
    told = json.loads((done / "report.json").read_text())["disagreement"]
    spread = read(done / "disagreement.tif")
    assert spread.dtype == np.float32
    assert told["greatest"] == pytest.approx(np.nanmax(spread))
    assert told["mean"] == pytest.approx(np.nanmean(spread), rel=1e-4)
    assert np.array_equal(np.isnan(spread), read(done / "mask.tif") == 255)


def test_files_say_what_they_hold(folder):
    with rasterio.open(folder / "layers" / "scene" / "mask.tif") as file:
        assert (file.count, file.descriptions, file.nodata) == (3, ("roof", "road", "tree"), 255)
        assert not any(file.colorinterp[number] == rasterio.enums.ColorInterp.palette for number in range(3))
        assert set(json.loads(file.tags()["MASKMILL_COLOURS"])) == {"roof", "road", "tree"}
        assert "a band for each class" in file.tags()["MASKMILL_UNIT"]
    with rasterio.open(folder / "values" / "scene" / "values.tif") as file:
        assert (file.count, file.descriptions, file.dtypes[0]) == (3, ("height", "slope", "age"), "float32")
        assert np.isnan(file.nodata)
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    with rasterio.open(folder / "wide" / "scene" / "mask.tif") as file:
        assert (file.dtypes[0], file.nodata) == ("uint16", 65535)
        assert [one["value"] for one in json.loads(file.tags()["classification_classes"])] == [
            *(111, 253, 65532, 65533, 65534, 65535),
        ]
        assert "a palette of 65536 colours is left out" in file.tags()["MASKMILL_COLOURS"]
    root = zarr.open_group(folder / "layers" / "scene" / "mask.zarr", mode="r")
    assert root["mask"].attrs["labels"] == ["roof", "road", "tree"]
    assert root["mask"].attrs["flag_values"] == [0, 1, 253, 254, 255]


@pytest.mark.parametrize("form", FORMS)
def test_the_quicklook_shows_every_form(folder, form):
    with Image.open(folder / form / "scene" / "quicklook.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    seen = {colour for _, colour in colours}
    if form.startswith("value"):
        assert len({colour for colour in seen if len(set(colour)) == 1}) > 100
    else:
        for one in card_of(form).classes[1:]:
            assert tuple(bytes.fromhex(one.colour[1:])) in seen


def test_values_have_no_confidence(folder):
    with pytest.raises(SettingsError, match="There is no confidence to write: small-unet says values"):
        opened(job(folder, "values", out=folder / "refused", products={"confidence"}))
    assert not (folder / "refused").exists()


def test_one_band_each_and_one_of_all_are_different_results(folder):
    identities = [card_of(form).identity() for form in ("layers", "exclusive")]
    assert identities[0] != identities[1]


def test_outlines_of_bands_hold_each_class_by_itself(folder, tmp_path):
    report = run_here(job(folder, "layers", out=tmp_path / "out", products=frozenset({"outlines"})))
    said = json.loads((tmp_path / "out" / "scene" / "outlines.geojson").read_text())
    area = dict.fromkeys(("roof", "road", "tree"), 0.0)
    for feature in said["features"]:
        area[feature["properties"]["classification"]["name"]] += shape(feature["geometry"]).area
    assert area == {one["name"]: one["area"] for one in report["classes"] if one["name"] in area}
