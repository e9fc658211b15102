"""`maskmill show`: any window of any image with its mask, read no more than it takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.grid import Rect
from pipeline.network.card import Card
from pipeline.raster.glimpse import glimpse
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.sheet import GAP, LINE
from tests.images import write_image
from tests.mill import maskmill
from tests.oracle import noise, save_model, save_scene, small_card, small_unet

SIDE = 640
CLASSES = ["Gewässer", "žito", "łąka"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image and the result of a run, whose classes have letters that not every font has."""
    place = tmp_path_factory.mktemp("show")
    save_scene(place / "scene.tif", noise(200, 300))
    said = small_card().model_dump(mode="json")
    for one, name in zip(said["classes"], CLASSES, strict=True):
        one["name"] = name
    save_model(place / "model.onnx", small_unet(), Card.of(said, "the test"))
    done = maskmill("run", "scene.tif", "--model", "./model.onnx", "--out", "out", "--device", "cpu", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def shown(warm, folder, *arguments):
    """What the command draws, (row, col, RGB), and what it says."""
    done = warm.run("show", *arguments, "--out", "shown.png", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "shown.png") as picture:
        return np.asarray(picture), json.loads(done.stdout)


def panels(sheet: np.ndarray, rows: int, cols: int) -> list[np.ndarray]:
    return [sheet[GAP + LINE :, GAP + number * (cols + GAP) :][:rows, :cols] for number in range(3)]


def test_a_window_shows_its_pixels_of_the_image_and_of_the_mask(warm, folder):
    sheet, said = shown(warm, folder, "scene.tif", "out", "--window", "0:,50:250", "--size", "200")
    assert (said["rows"], said["columns"], said["exit_code"]) == ([0, 200], [50, 250], 0)
    image, mask, overlay = panels(sheet, 200, 200)
    with rasterio.open(folder / "out/scene/mask.tif") as file:
        values = file.read(1)[:, 50:250]
        palette = np.array([file.colormap(1)[value][:3] for value in range(256)], np.uint8)
    assert np.array_equal(mask, palette[values])
    raw = rasterio.open(folder / "scene.tif").read()[:, :, 50:250].transpose(1, 2, 0).astype(float)
    ends = np.percentile(raw.reshape(-1, 3), [2, 98], axis=0)
    low, high = ends[0].min(), ends[1].max()
    assert np.abs(image - np.clip((raw - low) / (high - low), 0, 1) * 255).max() <= 1
    assert np.abs(overlay - (0.55 * image + 0.45 * mask)).max() <= 1


def test_coordinates_name_the_same_window_as_rows_and_columns(warm, folder):
    ours, said = shown(warm, folder, "scene.tif", "out/scene/mask.tif", "--window", "10:60,20:120")
    theirs, same = shown(warm, folder, "scene.tif", "out/scene", "--bounds", "500200,4999400,501200,4999900")
    assert (said["rows"], said["columns"]) == (same["rows"], same["columns"]) == ([10, 60], [20, 120])
    assert np.array_equal(ours, theirs)


def test_a_result_alone_names_its_image_and_the_quicklook_is_the_same_picture(warm, folder):
    alone, _ = shown(warm, folder, "out/scene")
    both, _ = shown(warm, folder, "scene.tif", "out")
    assert np.array_equal(alone, both)
    quicklook = np.asarray(Image.open(folder / "out/scene/quicklook.png"))
    for ours, theirs in zip(panels(alone, 427, SIDE), panels(quicklook, 427, SIDE), strict=True):
        assert np.array_equal(ours, theirs)


def test_without_a_screen_it_is_said_where_the_picture_is(folder):
    done = maskmill("show", "out/scene", cwd=folder, DISPLAY="", WAYLAND_DISPLAY="")
    assert (done.returncode, done.stdout.strip()) == (0, "scene-shown.png")
    assert (folder / "scene-shown.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.tif", "out"], "There is no mask.tif in out, nor in a folder nowhere there"),
        (["scene.tif"], "scene.tif is no folder of a result"),
        (["scene.tif", "out", "--window", "300:400,0:9"], "has no pixel of scene, which has 200 × 300"),
        (["scene.tif", "out", "--window", "all"], "`--window` cannot be 'all'"),
        (["scene.tif", "out", "--bounds", "1,2,3"], "`--bounds` cannot be '1,2,3'"),
        (["scene.tif", "out", "--bounds", "0,0,1,1"], "has no pixel of scene, which has 200 × 300; it reaches from"),
        (["scene.tif", "out", "--bands", "1,2"], "`--bands` names 2 bands"),
        (["scene.tif", "other.tif"], "lies elsewhere"),
        (["scene.tif", "text.tif"], "text.tif"),
        (["scene.tif", "out", "--out", "picture.jpg"], "is a PNG"),
        (["scene.tif", "out", "--out", "out"], "the picture is a PNG"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence_and_no_file(warm, folder, arguments, sentence):
    save_scene(folder / "other.tif", noise(90, 80, bands=1))
    (folder / "text.tif").write_text("hello")
    before = {path: path.stat().st_mtime for path in folder.iterdir() if path.name != "shown.png"}
    given = arguments if "--out" in arguments else [*arguments, "--out", "new.png"]
    done = warm.run("show", *given, cwd=folder)
    (said,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert sentence in said
    assert {path: path.stat().st_mtime for path in folder.iterdir() if path.name != "shown.png"} == before


@settings(max_examples=40, deadline=None)
@given(
    top=st.integers(0, 99),
    left=st.integers(0, 79),
    rows=st.integers(1, 60),
    cols=st.integers(1, 60),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_a_glimpse_at_its_own_size_is_what_is_read(tmp_path_factory, top, left, rows, cols, dtype):
    pixels = noise(100, 80).astype(dtype)
    pixels[:, 30:40] = 0
    path = write_image(tmp_path_factory.mktemp("glimpse") / "a.tif", pixels, nodata=0, tiled=True)
    scene = open_scene(str(path), None)
    view = Rect(top, left, top + rows, left + cols).intersect(scene.rect)
    seen, valid = glimpse(scene, (2, 0), view, view.shape)
    with Reader(scene) as reader:
        read, wanted = reader.read(view)
    assert np.array_equal(valid, wanted)
    assert np.array_equal(seen, read[[2, 0]])


def test_of_a_huge_image_no_more_is_held_than_the_picture(tmp_path):
    """A terapixel whose tiles are not there: whoever read them all would need a day and a terabyte."""
    vast = {"width": 10**6, "height": 10**6, "count": 1, "dtype": "uint8", "sparse_ok": True, "bigtiff": "yes"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    for name in ("image", "mask"):
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", **vast, **tiles) as file:
            file.write(np.arange(250_000, dtype=np.uint8).reshape(1, 500, 500), window=((600_000, 600_500), (7, 507)))
    command = ["show", "image.tif", "mask.tif", "--window", "599900:601000,0:1000", "--out", "a.png"]
    done = maskmill(*command, cwd=tmp_path)  # which is given two minutes
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "a.png").size[0] > 3 * 500
