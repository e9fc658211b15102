from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.grid import Rect
from pipeline.raster.overview import overview
from pipeline.raster.source import open_scene
from pipeline.raster.tissue import HIGHEST, LOWEST, otsu, saturation_of, tissue_of
from tests.images import SHARED, noise, quiet, write_image
from tests.slides import halved, write_slide

pytestmark = quiet
REAL = SHARED / "scenes/wsi/CMU-1-Small-Region.svs"


@given(st.lists(st.integers(0, 40), min_size=2, max_size=30))
def test_otsu_leaves_the_least_variance_within_the_parts(values):
    values = np.array(values)
    found = otsu(np.bincount(values, minlength=256))

    def within(threshold):
        parts = [values[values <= threshold], values[values > threshold]]
        return sum(
            Fraction(int(len(part) * (part**2).sum() - part.sum() ** 2), len(part)) for part in parts if len(part)
        )

    assert within(found) == min(within(threshold) for threshold in range(256))


def test_saturation_is_that_of_the_hexcone():
    from colorsys import rgb_to_hsv

    colours = np.random.default_rng(0).integers(0, 256, (3, 20, 20)).astype(np.uint8)
    colours[:, 0, 0] = 0
    expected = [[int(255 * rgb_to_hsv(*pixel)[1] + 1e-9) for pixel in row] for row in colours.transpose(1, 2, 0) / 255]
    assert np.abs(saturation_of(colours).astype(int) - expected).max() <= 1
    assert saturation_of(colours)[0, 0] == 0


def stained(rows, cols, boxes):
    """Glass that is not quite white, and tissue in the boxes."""
    random = np.random.default_rng(0)
    pixels = random.integers(236, 244, (3, rows, cols)).astype(np.uint8)
    for box in boxes:
        pixels[:, *box.slices()] = random.integers(-20, 20, (3, *box.shape)) + np.array([180, 90, 150])[:, None, None]
    return pixels


@pytest.mark.parametrize("kind", ["slide", "flat", "tiff"])
def test_tissue_is_found_and_little_else(tmp_path, kind):
    box = Rect(160, 320, 480, 992)
    pixels = stained(800, 1203, [box])
    if kind == "tiff":
        path = write_image(tmp_path / "he.tif", pixels, tiled=True, blockxsize=256, blockysize=256)
    else:
        pytest.importorskip("openslide")
        levels = [pixels] if kind == "flat" else [pixels, halved(pixels, 4), halved(pixels, 16)]
        path = write_slide(tmp_path / "he.svs", levels)
    found = tissue_of(open_scene(str(path), None))
    assert found.cell == 16
    assert LOWEST <= found.threshold <= HIGHEST
    assert found.inside(box) is True
    assert found.inside(Rect(0, 0, 800, 1203)).sum() == box.grown(16).area
    assert found.extent == box.grown(16)
    assert found.touches(Rect(470, 980, 500, 1010))
    assert not found.touches(Rect(496, 0, 800, 1203))
    assert tissue_of(open_scene(str(path), None)).digest == found.digest


def test_a_slide_of_tissue_alone_is_all_tissue(tmp_path):
    pixels = stained(320, 320, [Rect(0, 0, 320, 320)])
    pixels[:, :160] = pixels[:, :160] // 2  # dark and pale stain, which Otsu alone would part
    path = write_image(tmp_path / "all.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    assert tissue_of(open_scene(str(path), None)).cells.all()


def test_glass_alone_has_none(tmp_path):
    path = write_image(tmp_path / "glass.tif", stained(320, 320, []), tiled=True, blockxsize=64, blockysize=64)
    found = tissue_of(open_scene(str(path), None))
    assert not found.cells.any()
    assert found.inside(Rect(0, 0, 320, 320)) is False
    assert found.extent.area == 0


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99), st.integers(1, 99))
@settings(max_examples=20)
def test_a_pixel_is_inside_whatever_rectangle_asks(top, left, height, width):
    from pipeline.raster.tissue import Tissue

    cells = np.random.default_rng(1).random((13, 13)) < 0.3
    found = Tissue(Rect(0, 0, 208, 208), 16, 20, cells)
    rect = Rect(top, left, top + height, left + width)
    whole = np.kron(cells, np.ones((16, 16), bool))
    inside = found.inside(rect)
    assert np.array_equal(np.broadcast_to(inside, rect.shape), whole[rect.slices()])
    assert isinstance(inside, bool) == (whole[rect.slices()].all() or not whole[rect.slices()].any())
    assert found.touches(rect) == whole[rect.slices()].any()


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "uint16")])
def test_what_has_no_colour_has_no_tissue(tmp_path, bands, dtype):
    path = write_image(tmp_path / "grey.tif", noise(bands, 64, 64, dtype), photometric="minisblack")
    with pytest.raises(SettingsError, match="tissue"):
        tissue_of(open_scene(str(path), None))


def test_an_overview_is_the_mean_of_what_is_valid(tmp_path, monkeypatch):
    from pipeline.raster import overview as module

    pixels = noise(3, 100, 130)
    mask = np.full((100, 130), 255, np.uint8)
    mask[:20] = 0
    scene = open_scene(str(write_image(tmp_path / "a.tif", pixels, mask)), None)
    found, valid = overview(scene, Fraction(1, 10))
    assert not valid[:2].any()
    assert valid[2:].all()
    means = pixels.reshape(3, 10, 10, 13, 10).mean(axis=(2, 4))
    assert np.array_equal(found[:, 2:], np.floor(means + 0.5)[:, 2:])
    monkeypatch.setattr(module, "PIECE", 35)
    assert np.array_equal(overview(scene, Fraction(1, 10))[0], found)


@pytest.mark.skipif(not REAL.exists(), reason="the material of others is not here")
def test_the_tissue_of_a_real_slide():
    pytest.importorskip("openslide")
    found = tissue_of(open_scene(str(REAL), None))
    assert 0.35 < found.cells.mean() < 0.50
    assert found.inside(Rect(1900, 1100, 2100, 1200)) is True  # within the tissue
    assert not found.touches(Rect(1500, 0, 2900, 400))  # glass
