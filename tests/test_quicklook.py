"""The quicklook: three pictures and a legend, whatever the image's shape, type and holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.network.card import Card
from pipeline.quicklook import draw, image_of
from pipeline.raster.glimpse import PART_BYTES
from pipeline.raster.source import Scene, open_scene
from pipeline.settings import FAILED, NODATA
from pipeline.sheet import GAP, LINE, NARROWEST, SIDE, THINNEST, WIDE, picture_size
from tests.images import noise, stack_vrt, write_image

CLASSES = [{"value": 0, "name": "sea", "colour": "#0000ff"}, {"value": 9, "name": "land", "colour": "#00ff00"}]
SAID = {"name": "net", "scaling": "none", "layout": "NCHW", "says": "logits", "classes": CLASSES}
WIDEST = 3 * SIDE + 2 * GAP  # the side of a picture that has the sheet's width to itself
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def card_of(scene: Scene) -> Card:
    """A card that eats what a scene has."""
    return Card.of(
        {**SAID, "activation": "softmax", "bands": [f"band {n}" for n in range(len(scene.bands))]}, "the test"
    )


def looked(scene: Scene) -> np.ndarray:
    return image_of(scene, card_of(scene))


def scene_of(folder, pixels: np.ndarray, bands=None, **profile: object) -> Scene:
    return open_scene(str(write_image(folder / "scene.tif", pixels, **profile)), bands)


def sheet_of(folder, scene: Scene, mask: np.ndarray, counts: dict[int, int]) -> np.ndarray:
    """The quicklook's pixels, (row, col, RGB)."""
    with rasterio.open(folder / "mask.tif", "w", "GTiff", scene.width, scene.height, 1, dtype="uint8") as file:
        file.write(mask, 1)
    draw(looked(scene), scene, card_of(scene), counts, folder)
    with Image.open(folder / "quicklook.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        return np.asarray(picture)


def has(sheet: np.ndarray, *colour: int) -> bool:
    return bool((sheet == colour).all(axis=-1).any())


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (640, 640, (640, 640)),
        (300, 600, (320, 640)),
        (2000, 1000, (640, 320)),
        (10, 10, (640, 640)),
        (1, 3000, (THINNEST, WIDEST)),
        (300, 1500, (round(WIDEST / 5), WIDEST)),
        (3000, 1, (2 * SIDE, THINNEST)),
        (1, 1, (640, 640)),
    ],
)
def test_three_pictures_of_the_scenes_shape_stand_over_a_scale_bar_and_a_legend(tmp_path, height, width, size):
    scene = scene_of(tmp_path, noise(3, height, width))
    assert picture_size(height, width) == size == looked(scene).shape[:2]
    mask = np.where(np.arange(height * width).reshape(height, width) % 2, 0, 9).astype(np.uint8)
    sheet = sheet_of(tmp_path, scene, mask, {0: 1, 9: 1})
    rows, cols = size[0] + LINE + GAP, max(size[1], NARROWEST) + GAP
    below = size[1] >= WIDE * size[0]
    assert sheet.shape[1] == GAP + cols * (1 if below else 3)
    assert sheet.shape[0] >= GAP + rows * (3 if below else 1) + 2 * (LINE + GAP)
    assert has(sheet, 0, 0, 255)
    assert has(sheet, 0, 255, 0)


def test_the_middle_picture_is_the_mask_and_the_right_one_lies_over_the_image(tmp_path):
    pixels = noise(3, SIDE, SIDE)
    mask = np.full((SIDE, SIDE), 9, np.uint8)
    mask[:100], mask[100:200] = NODATA, FAILED
    scene = scene_of(tmp_path, pixels)
    sheet = sheet_of(tmp_path, scene, mask, {9: 1, NODATA: 1, FAILED: 1})
    left, middle, right = (sheet[LINE + GAP :, GAP + k * (SIDE + GAP) :][:SIDE, :SIDE].astype(float) for k in range(3))
    assert np.array_equal(left, looked(scene))
    assert (middle[:100] == (0, 0, 0)).all()
    assert (middle[100:200] == (255, 0, 255)).all()
    assert (middle[200:] == (0, 255, 0)).all()
    assert np.array_equal(right[:100], left[:100])  # where there is no data the image stands alone
    assert np.abs(right[200:] - (0.55 * left[200:] + 0.45 * middle[200:])).max() <= 1


def test_statuses_stand_in_the_legend_only_where_they_occur(tmp_path):
    scene = scene_of(tmp_path, noise(1, 50, 50))
    mask = np.full((50, 50), 9, np.uint8)
    without = sheet_of(tmp_path, scene, mask, {9: 2500})
    with_some = sheet_of(tmp_path, scene, mask, {9: 2499, FAILED: 1})
    assert has(with_some, 255, 0, 255)
    assert not has(without, 255, 0, 255)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_any_type_and_number_of_bands_is_stretched_to_what_eyes_see(tmp_path, dtype, bands):
    picture = looked(scene_of(tmp_path, noise(bands, 700, 90, dtype)))
    assert picture.dtype == np.uint8
    for channel in picture.reshape(-1, 3).T:
        assert (channel.min(), channel.max()) == (0, 255)
        assert 80 < channel.mean() < 175
    assert (bands >= 3) == bool((picture[..., 0] != picture[..., 1]).any())


def test_bands_are_those_that_the_scene_chose_in_its_order(tmp_path):
    pixels = np.zeros((4, 640, 640), np.uint8)
    pixels[3, :, 320:] = 200
    picture = looked(scene_of(tmp_path, pixels, (4, 2, 1), photometric="minisblack", alpha="no"))
    assert (picture[:, 320:] == (255, 0, 0)).all()
    assert (picture[:, :320] == 0).all()


def test_bands_of_several_types_make_a_picture(tmp_path):
    for name, dtype in (("a", "uint8"), ("b", "uint16"), ("c", "float32")):
        write_image(tmp_path / f"{name}.tif", noise(1, 20, 30, dtype))
    bands = [("Byte", None, "a.tif"), ("UInt16", None, "b.tif"), ("Float32", None, "c.tif")]
    (tmp_path / "scene.vrt").write_text(stack_vrt(*bands))
    picture = looked(open_scene(str(tmp_path / "scene.vrt"), None))
    assert (picture.max(axis=(0, 1)) == 255).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_is_invalid_is_black_and_moves_no_colour(tmp_path, dtype):
    pixels = noise(3, 640, 640, dtype)
    whole = looked(scene_of(tmp_path, pixels))
    pixels[:, :5] = np.nan if dtype == "float32" else 255
    if dtype == "float32":
        pixels[0, 5, :10] = np.inf
    picture = looked(scene_of(tmp_path, pixels, **({} if dtype == "float32" else {"nodata": 255})))
    assert (picture[:5] == 0).all()
    assert np.abs(picture[6:].astype(int) - whole[6:]).max() <= 3


@settings(max_examples=30)
@given(st.integers(1, 2000), st.integers(1, 60), st.integers(1, 200))
def test_a_wide_image_is_read_in_parts_that_make_the_same_picture(tmp_path_factory, width, height, parts):
    scene = scene_of(tmp_path_factory.mktemp("wide"), noise(3, height, width))
    whole = looked(replace(scene, tile_bytes=1))
    tiles = {"tile": (height, 10), "tile_bytes": PART_BYTES * parts // -(-width // 10)}
    assert np.array_equal(looked(replace(scene, **tiles)), whole)


def test_a_scene_without_a_valid_pixel_is_black_and_has_a_legend_all_the_same(tmp_path):
    scene = scene_of(tmp_path, np.full((3, 90, 120), np.nan, np.float32))
    assert not looked(scene).any()
    sheet = sheet_of(tmp_path, scene, np.full((90, 120), NODATA, np.uint8), {NODATA: 90 * 120})
    assert has(sheet, 0, 255, 0)


def test_a_scene_of_one_colour_makes_no_trouble(tmp_path):
    assert np.unique(looked(scene_of(tmp_path, np.full((3, 90, 120), 7, np.uint16)))).tolist() == [0]
