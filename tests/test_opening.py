"""Scenes whose bands lie in files of their own: put on one grid, by the job's patterns or by a delivery's metadata."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster.opening import Wanted, open_image
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.raster.stage import reason_to_stage, stage
from pipeline.settings import BandSource
from tests.images import SHARED, mirrored, noise, quiet, write_image

pytestmark = quiet
UTM = "EPSG:32633"


def put(folder, name, pixels, metres=10, left=500_000, top=5_000_000, **profile):
    """Write a band at a place on the ground."""
    folder.mkdir(exist_ok=True, parents=True)
    profile = {"crs": UTM, "transform": Affine(metres, 0, left, 0, -metres, top), **profile}
    return write_image(folder / name, pixels, **profile)


def wanted(grid="finest", **files):
    return Wanted(tuple(files), files={name: BandSource(file=file) for name, file in files.items()}, grid=grid)


def read(scene):
    with Reader(scene) as reader:
        return reader.read(scene.rect)


def test_a_coarser_band_comes_onto_the_finest_grid_and_a_finer_one_onto_the_coarsest(tmp_path):
    fine, coarse = noise(1, 40, 60, "uint16"), noise(1, 20, 30, "uint16", seed=1)
    put(tmp_path, "x_red.tif", fine)
    put(tmp_path, "x_nir.tif", coarse, 20)
    scene = open_image(str(tmp_path), wanted(nir="*nir.tif", red="*red.tif"))
    assert (scene.height, scene.width, scene.bands, scene.dtype) == (40, 60, (1, 2), "uint16")
    assert scene.transform == (10, 0, 500_000, 0, -10, 5_000_000)
    assert scene.resolution_m == 10
    pixels, valid = read(scene)
    np.testing.assert_array_equal(pixels[1], fine[0])
    weights = {Fraction(3, 4): coarse[0, 5, 7], Fraction(1, 4): coarse[0, 4, 7]}
    expected = sum(float(weight) * (0.75 * float(value)) for weight, value in weights.items())
    beside = 0.25 * (0.75 * float(coarse[0, 5, 6]) + 0.25 * float(coarse[0, 4, 6]))
    assert pixels[0, 10, 14] == np.floor(expected + beside + 0.5)
    assert valid.all()
    for grid in ("coarsest", "nir"):
        small = open_image(str(tmp_path), wanted(grid, nir="*nir.tif", red="*red.tif"))
        assert small.rect == Rect(0, 0, 20, 30)
        mean = np.floor(fine[0].reshape(20, 2, 30, 2).mean(axis=(1, 3)) + 0.5)
        np.testing.assert_array_equal(read(small)[0], np.stack([coarse[0], mean]))
    assert scene.fingerprint != small.fingerprint
    assert len(pickle.dumps(scene)) < 8192
    assert pickle.loads(pickle.dumps(scene)) == scene


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_rectangle_of_a_stack_is_that_of_the_whole_staged_or_not(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("stack")
    shift = data.draw(st.sampled_from([0, 5, 20, -15]))
    one, other = noise(1, 21, 17, "uint8"), noise(2, 13, 15, "int16")
    other[:, data.draw(st.integers(0, 12)), 3] = -1
    put(folder, "a.tif", one)
    put(folder, "b.tif", other, data.draw(st.sampled_from([5, 10, 20])), 500_000 + shift, nodata=-1)
    scene = open_image(str(folder), wanted(data.draw(st.sampled_from(["finest", "coarsest", "p"])), p="a.tif", q="b.*"))
    pixels, valid = read(scene)
    top, left = data.draw(st.integers(-30, 30)), data.draw(st.integers(-30, 30))
    rect = Rect(top, left, top + data.draw(st.integers(1, 40)), left + data.draw(st.integers(1, 40)))
    with Reader(scene) as reader:
        part, told = reader.read(rect)
    np.testing.assert_array_equal(part, mirrored(pixels, rect, scene.height, scene.width))
    np.testing.assert_array_equal(told, mirrored(valid, rect, scene.height, scene.width))


def test_where_a_layer_has_no_pixel_the_scene_has_none(tmp_path):
    put(tmp_path, "a.tif", noise(1, 40, 40))
    put(tmp_path, "b.tif", noise(1, 10, 10), 20, 500_100, 4_999_900)
    _, valid = read(open_image(str(tmp_path), wanted(p="a.tif", q="b.tif")))
    expected = np.zeros((40, 40), bool)
    expected[10:30, 10:30] = True
    np.testing.assert_array_equal(valid, expected)


def test_a_slow_layer_is_staged_alone(tmp_path):
    put(tmp_path / "s", "a.tif", noise(1, 2050, 2050), blockysize=1)
    put(tmp_path / "s", "b.tif", noise(1, 1025, 1025), 20, tiled=True, blockxsize=256, blockysize=256)
    scene = open_image(str(tmp_path / "s"), wanted(p="a.tif", q="b.tif"))
    assert "1 × 2050" in reason_to_stage(scene)
    staged = stage(scene, tmp_path / "stage")
    assert [layer.part.tile for layer in staged.layers] == [(512, 512), (256, 256)]
    assert staged.fingerprint == scene.fingerprint
    rect = Rect(100, -7, 180, 90)
    for one, other in zip(Reader(scene).read(rect), Reader(staged).read(rect), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["layer-0"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"crs": "EPSG:32632"}, "different CRS"),
        ({"metres": 7.777}, "do not lie on each other: a pixel of the second is 1.28584"),
        ({"transform": Affine(10, 3, 500_000, 3, -10, 5_000_000)}, "do not lie on each other"),
        ({"transform": Affine(10, 0, 500_000, 0, 10, 5_000_000)}, "do not lie on each other"),
    ],
)
def test_grids_that_do_not_fit_are_refused_with_the_numbers(tmp_path, second, said):
    put(tmp_path, "a.tif", noise(1, 400, 400))
    put(tmp_path, "b.tif", noise(1, 40, 40), **second)
    with pytest.raises(SceneError, match=said):
        open_image(str(tmp_path), wanted("p", p="a.tif", q="b.tif"))


def test_files_without_a_place_must_have_one_size(tmp_path):
    for name, side in (("a.tif", 9), ("b.tif", 9), ("c.tif", 8)):
        write_image(tmp_path / name, noise(1, side, side))
    assert open_image(str(tmp_path), wanted(p="a.tif", q="b.tif")).rect == Rect(0, 0, 9, 9)
    with pytest.raises(SceneError, match=r"8 × 8 pixels and .* no transform"):
        open_image(str(tmp_path), wanted(p="a.tif", q="c.tif"))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*.tif", r"2 files of .* match '\*.tif' for the band p: a.tif, b.tif"),
        ("c*", r"No file of .* matches 'c\*' for the band p; there are a.tif, b.tif"),
        ("../*.tif", "must lie in the scene's folder"),
        ("/etc/passwd", "must lie in the scene's folder"),
    ],
)
def test_a_pattern_must_match_one_file_of_the_folder(tmp_path, pattern, said):
    for name in ("a.tif", "b.tif"):
        put(tmp_path / "s", name, noise(1, 9, 9))
    with pytest.raises(SceneError, match=said):
        open_image(str(tmp_path / "s"), wanted(p=pattern))


def test_what_is_named_must_be_what_is_eaten(tmp_path):
    put(tmp_path, "a.tif", noise(1, 9, 9))
    files = {"red": BandSource(file="a.tif")}
    with pytest.raises(SceneError, match="names red and the model eats red, nir"):
        open_image(str(tmp_path), Wanted(("red", "nir"), files=files))
    with pytest.raises(SceneError, match="no folder"):
        open_image(str(tmp_path / "a.tif"), Wanted(("red",), files=files))
    with pytest.raises(SceneError, match="`grid` cannot be 'best'"):
        open_image(str(tmp_path), Wanted(("red",), files=files, grid="best"))
    with pytest.raises(SceneError, match="is not a file, and as a folder it is no delivery"):
        open_image(str(tmp_path), Wanted(("red",)))
    both = {"red": BandSource(file="a.tif", gain=2, offset=1), "nir": BandSource(file="a.tif", gain=3)}
    scene = open_image(str(tmp_path), Wanted(("nir", "red"), files=both))
    assert (scene.gain, scene.offset, len(scene.layers)) == ((3, 2), (0, 1), 1)
    both["nir"] = BandSource(file="a.tif")
    assert open_image(str(tmp_path), Wanted(("nir", "red"), files=both)).gain is None


SAFE = """<n1:Level-1C_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-1C.xsd">
<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>
<RADIO_ADD_OFFSET band_id="3">-1000</RADIO_ADD_OFFSET><RADIO_ADD_OFFSET band_id="11">-1000</RADIO_ADD_OFFSET>
</n1:Level-1C_User_Product>"""


def test_a_sentinel_2_product_is_a_scene_of_jpeg_2000s_at_two_resolutions(tmp_path):
    safe = tmp_path / "S2B_MSIL1C_20240511T102559.SAFE"
    images = safe / "GRANULE" / "L1C_T32" / "IMG_DATA"
    red, swir = noise(1, 120, 120, "uint16"), noise(1, 60, 60, "uint16", seed=3)
    red[0, :10] = 0
    lossless = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    put(images, "T32_20240511T102559_B04.jp2", red, **lossless)
    put(images, "T32_20240511T102559_B11.jp2", swir, 20, **lossless)
    (safe / "MTD_MSIL1C.xml").write_text(SAFE)
    for uri in (safe, safe / "MTD_MSIL1C.xml"):
        scene = open_image(str(uri), Wanted(("swir16", "red")))
        assert scene.name == "S2B_MSIL1C_20240511T102559"
        assert (scene.gain, scene.offset) == ((1e-4, 1e-4), (-0.1, -0.1))
        pixels, valid = read(scene)
        assert (pixels[1] == red[0]).all()
        assert not valid[:10].any(), "nought is nodata there"
        assert valid[10:].all()
    assert open_image(str(safe), Wanted(("a", "b"), numbers=(4, 11))).layers[0].places == (0,)
    with pytest.raises(SceneError, match="has no band nir; it has b04, b11, b4, red, swir16"):
        open_image(str(safe), Wanted(("nir",)))


@pytest.mark.skipif(not SHARED.exists(), reason="the images of others are not here")
def test_a_real_landsat_scene_comes_with_its_panchromatic_band_at_twice_the_grid():
    folder = SHARED / "scenes/landsat8-LC80200392015216"
    scene = open_image(str(folder), Wanted(("pan", "nir", "red")))
    nir = open_scene(str(folder / "test_B5.tif"), None)
    assert scene.rect.height in range(2 * nir.height - 1, 2 * nir.height + 2)
    assert scene.gain == pytest.approx((2.2114e-5,) * 3, rel=1e-4)
    coarse = open_image(str(folder), Wanted(("pan", "nir", "red"), grid="nir"))
    assert (coarse.rect, coarse.transform, coarse.crs) == (nir.rect, nir.transform, nir.crs)
    rect = Rect(100, 100, 300, 300)
    np.testing.assert_array_equal(Reader(coarse).read(rect)[0][1], Reader(nir).read(rect)[0][0])
    same = open_image(str(folder / "test_MTL.txt"), Wanted(("red",)))
    assert same.name == "test"
