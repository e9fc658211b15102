"""Two masks side by side against a count of every pixel; other grids and other tables are said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compare import CELL, WORST, compare, compare_scene
from models.compare_page import write_page
from pipeline.errors import SettingsError
from pipeline.settings import Job
from tests.oracle import noise, read_mask, run_here, save_model, save_scene, small_unet

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def put(folder, mask, classes, **profile):
    """A result with nothing but a mask."""
    folder.mkdir(parents=True)
    said = {"driver": "GTiff", "crs": "EPSG:32633", "transform": PLACE, "dtype": mask.dtype, **profile}
    rows, cols = mask.shape
    with rasterio.open(folder / "mask.tif", "w", count=1, height=rows, width=cols, nodata=255, **said) as file:
        file.write(mask, 1)
        told = [{"value": value, "name": name, "color_hint": "00FF00"} for value, name in classes.items()]
        file.update_tags(
            classification_classes=json.dumps([*told, {"value": 255, "name": "nodata", "color_hint": "000000"}])
        )
    return folder


def counted(one, other, a, b):
    """Pixels by the pair of their names."""
    pairs: dict[tuple[str, str], int] = {}
    for first, second in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
        pair = a.get(first, first), b.get(second, second)
        pairs[pair] = pairs.get(pair, 0) + 1
    return pairs


@given(st.integers(0, 99), st.sampled_from([(3, 5), (40, 30), (700, 40), (30, 4500)]), st.permutations(range(4)))
@settings(max_examples=15, deadline=None)
def test_pairs_are_those_of_every_pixel_whatever_the_values_are(tmp_path_factory, seed, shape, order):
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(seed)
    names = ["sea", "land", "ice", "town"]
    a, b = dict(enumerate(names)), dict(zip(order, names, strict=True))
    values = np.array([0, 1, 2, 3, 253, 254, 255], np.uint8)
    one, other = values[rng.integers(0, 7, shape)], values[rng.integers(0, 7, shape)]
    found = compare_scene("s", put(folder / "a", one, a), put(folder / "b", other, b))
    statuses = {253: "failed", 254: "outside", 255: "no data"}
    expected = counted(one, other, a | statuses, b | statuses)
    told = {
        (row, col): int(found.matrix[i, j])
        for i, row in enumerate(found.table.names)
        for j, col in enumerate(found.table.names)
        if found.matrix[i, j]
    }
    assert told == expected
    both = {pair: pixels for pair, pixels in expected.items() if set(pair) <= set(names)}
    same = sum(pixels for (first, second), pixels in both.items() if first == second)
    assert found.agreement == (same / sum(both.values()) if both else None)
    for each in found.as_dict()["classes"]:
        inside = sum(pixels for pair, pixels in both.items() if each["class"] in pair)
        if inside:
            assert each["iou"] == pytest.approx(both.get((each["class"],) * 2, 0) / inside)


def test_where_they_differ_most_is_named_in_pixels_and_on_the_map(tmp_path):
    one = np.zeros((CELL * 4, CELL * 5), np.uint8)
    other = one.copy()
    other[CELL : CELL + 20, 2 * CELL : 2 * CELL + 20] = 1
    other[3 * CELL, 4 * CELL : 4 * CELL + 7] = 1
    classes = {0: "land", 1: "sea"}
    found = compare_scene("s", put(tmp_path / "a", one, classes), put(tmp_path / "b", other, classes))
    first, second = found.as_dict()["differ_most"]
    assert (first["window"], first["differ"]) == ([CELL, 2 * CELL, 2 * CELL, 3 * CELL], 400)
    left, top = 500_000 + 10 * 2 * CELL, 5_000_000 - 10 * CELL
    assert first["bounds"] == [left, top - 10 * CELL, left + 10 * CELL, top]
    assert (second["window"][:2], second["differ"]) == ([3 * CELL, 4 * CELL], 7)
    assert found.differences.sum() * 2 * 2 == pytest.approx(407)


def test_only_the_worst_cells_are_kept_and_in_order(tmp_path):
    one = np.zeros((1100, 1300), np.uint8)
    other = (np.random.default_rng(0).random(one.shape) < np.linspace(0, 0.5, 1300)).astype(np.uint8)
    found = compare_scene("s", put(tmp_path / "a", one, {0: "x", 1: "y"}), put(tmp_path / "b", other, {0: "x", 1: "y"}))
    every = sorted(
        (-int((other[top : top + CELL, left : left + CELL]).sum()), top, left)
        for top in range(0, 1100, CELL)
        for left in range(0, 1300, CELL)
    )
    assert found.cells == [(-differ, top, left) for differ, top, left in every[:WORST]]


@pytest.mark.parametrize(
    ("profile", "shape", "numbers"),
    [
        ({}, (20, 31), ["20 × 30 px", "20 × 31 px"]),
        ({"crs": "EPSG:32634"}, (20, 30), ["EPSG:32633", "EPSG:32634"]),
        ({"transform": Affine(10, 0, 500_010, 0, -10, 5_000_000)}, (20, 30), ["500000", "500010"]),
    ],
)
def test_other_grids_are_refused_with_the_numbers(tmp_path, profile, shape, numbers):
    put(tmp_path / "a" / "s", np.zeros((20, 30), np.uint8), {0: "x"})
    put(tmp_path / "b" / "s", np.zeros(shape, np.uint8), {0: "x"}, **profile)
    with pytest.raises(SettingsError) as caught:
        compare(tmp_path / "a", tmp_path / "b")
    assert all(number in caught.value.message for number in numbers)
    for side in "ab":
        put(tmp_path / side / "fine", np.zeros((20, 30), np.uint8), {0: "x"})
    said = compare(tmp_path / "a", tmp_path / "b").as_dict()
    assert ([one["scene"] for one in said["scenes"]], said["exit_code"]) == (["fine"], 3)
    assert said["problems"][0].startswith("s is not compared: ")


def test_folders_without_a_scene_in_common_are_refused(tmp_path):
    put(tmp_path / "a" / "one", np.zeros((2, 2), np.uint8), {0: "x"})
    put(tmp_path / "b" / "other", np.zeros((2, 2), np.uint8), {0: "x"})
    with pytest.raises(SettingsError, match=r"1 published masks and .* has 1, and no scene is in both"):
        compare(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(SettingsError, match="no folder of results"):
        compare(tmp_path / "a", tmp_path / "nowhere")
    two = compare(tmp_path / "a" / "one", tmp_path / "b" / "other")
    assert [one.scene for one in two.scenes] == ["one"]


def test_two_real_models_are_held_against_each_other(tmp_path):
    scene = save_scene(tmp_path / "scene.tif", noise(150, 200))
    for seed, out in enumerate("ab"):
        save_model(tmp_path / f"{out}.onnx", small_unet(seed))
        job = Job(
            scenes=(str(scene),), model=str(tmp_path / f"{out}.onnx"), out=tmp_path / out, window=76, device="cpu"
        )
        assert run_here(job)["complete"]
    found = compare(tmp_path / "a", tmp_path / "b")
    said = found.as_dict()
    masks = [read_mask(tmp_path / out / "scene") for out in "ab"]
    assert said["agreement"] == pytest.approx(float((masks[0] == masks[1]).mean()))
    classes = said["scenes"][0]["classes"]
    assert sum(one["area_a"] for one in classes) == pytest.approx(150 * 200 * 100)
    write_page(found, tmp_path / "a", tmp_path / "b", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 1
    assert "http:" not in page
    assert "&lt;" not in page
    shutil.copytree(tmp_path / "a" / "scene", tmp_path / "a" / "alone")
    assert compare(tmp_path / "a", tmp_path / "b").as_dict()["only_in_a"] == ["alone"]
    itself = compare(tmp_path / "a", tmp_path / "a").as_dict()
    assert (itself["agreement"], itself["scenes"][0]["differ_most"]) == (1.0, [])
