"""Reading: for any rectangle what numpy says of the whole image, validity included, from any thread and process."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from pipeline.errors import BlockError, SceneError, portable
from pipeline.grid import Rect
from pipeline.raster.reader import Reader, tiles_touched
from pipeline.raster.source import open_scene
from tests.images import SHARED, mirrored, noise, quiet, stack_vrt, vrt_of, write_image

pytestmark = quiet

LAYOUTS = st.sampled_from(
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate", "interleave": "band"},
        {"blockysize": 7, "compress": "lzw", "interleave": "pixel"},
    ]
)
DTYPES = st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])


@st.composite
def rects(draw, height, width):
    top = draw(st.integers(-3 * height, 3 * height))
    left = draw(st.integers(-3 * width, 3 * width))
    return Rect(top, left, top + draw(st.integers(1, 2 * height + 3)), left + draw(st.integers(1, 2 * width + 3)))


def _validity(pixels, nodata, alpha, mask):
    """The rule, pixel by pixel as the design says it."""
    valid = np.ones(pixels.shape[1:], bool)
    for row, col in np.ndindex(valid.shape):
        values = [float(value) for value in pixels[:, row, col]]
        known = all(abs(value) <= 1e38 for value in values)  # not NaN, and float32 holds it
        if not known or (nodata is not None and all(value == nodata for value in values)):
            valid[row, col] = False
        if (alpha is not None and not alpha[row, col]) or (mask is not None and not mask[row, col]):
            valid[row, col] = False
    return valid


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_rectangle_is_that_of_the_reflected_image(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    bands, dtype = data.draw(st.integers(1, 4)), data.draw(DTYPES)
    pixels = noise(bands, height, width, dtype)
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    how = data.draw(st.sets(st.sampled_from(["nodata", "NaN", "infinity", "alpha", "mask", "sidecar"])))
    profile = dict(data.draw(LAYOUTS))
    if "nodata" in how:
        profile["nodata"] = 7
        pixels[:, random.random((height, width)) < 0.3] = 7
        pixels[0, random.random((height, width)) < 0.3] = 7  # in one band alone: valid
    if "NaN" in how and pixels.dtype.kind == "f":
        pixels[random.random(pixels.shape) < 0.1] = np.nan
    if "infinity" in how and pixels.dtype.kind == "f":
        huge = 1e39 if dtype == "float64" else np.inf  # what no float32 holds
        pixels[random.random(pixels.shape) < 0.1] = data.draw(st.sampled_from([np.inf, -np.inf, huge]))
    alpha = (random.random((height, width)) < 0.6).astype(dtype) if "alpha" in how else None
    mask = random.random((height, width)) < 0.6 if how & {"mask", "sidecar"} else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.tif")
        written = pixels if alpha is None else np.concatenate([pixels, alpha[None]])
        colours = [ColorInterp.undefined] * bands + [ColorInterp.alpha] * (alpha is not None)
        write_image(path, written, photometric="minisblack", internal_mask="sidecar" not in how, **profile)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="sidecar" not in how), rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = colours
            if mask is not None:
                dataset.write_mask(mask)
        assert Path(f"{path}.msk").exists() == (mask is not None and "sidecar" in how)
        chosen = data.draw(st.none() | st.lists(st.integers(1, bands), min_size=1, max_size=5))
        scene = open_scene(str(path), chosen)
        kept = pixels if chosen is None else pixels[[band - 1 for band in chosen]]
        valid = _validity(kept, profile.get("nodata"), alpha, mask)
        rect = data.draw(rects(height, width))
        with Reader(scene) as reader:
            got, told = reader.read(rect)
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    assert got.shape == (len(kept), *rect.shape)
    np.testing.assert_array_equal(told, mirrored(valid, rect, height, width))
    np.testing.assert_array_equal(got, mirrored(np.where(np.abs(kept) <= 1e38, kept, 0), rect, height, width))


def test_bands_of_several_types_are_promoted(tmp_path):
    write_image(tmp_path / "a.tif", noise(1, 20, 30, "uint8"))
    write_image(tmp_path / "b.tif", noise(1, 20, 30, "float32"))
    (tmp_path / "both.vrt").write_text(stack_vrt(("Byte", None, "a.tif"), ("Float32", None, "b.tif")))
    scene = open_scene(str(tmp_path / "both.vrt"), [2, 1])
    assert scene.dtype == "float32"
    pixels, _ = Reader(scene).read(scene.rect)
    np.testing.assert_array_equal(pixels[0], noise(1, 20, 30, "float32")[0])
    np.testing.assert_array_equal(pixels[1], noise(1, 20, 30, "uint8")[0])


@pytest.mark.parametrize("nodata", [float("nan"), -9999.0, -3.4028234663852886e38, float("-inf")])
def test_float_nodata_is_compared_in_the_bands_own_type(tmp_path, nodata):
    pixels = noise(2, 8, 9, "float32")
    pixels[:, 2, 3] = pixels[0, 4, 4] = nodata
    scene = open_scene(str(write_image(tmp_path / "a.tif", pixels, nodata=nodata)), None)
    _, valid = Reader(scene).read(scene.rect)
    assert not valid[2, 3]
    assert valid[4, 4] == np.isfinite(nodata)
    assert (~valid).sum() == 2 - np.isfinite(nodata)


def test_a_nodata_value_that_the_type_cannot_hold_marks_nothing(tmp_path):
    for kind, dtype, nodata in [("Byte", "uint8", -9999), ("Byte", "uint8", 0.5), ("Float32", "float32", -1.79e308)]:
        write_image(tmp_path / "a.tif", noise(1, 20, 30, dtype))
        (tmp_path / "a.vrt").write_text(stack_vrt((kind, nodata, "a.tif")))
        scene = open_scene(str(tmp_path / "a.vrt"), None)
        assert scene.nodata == (None,)
        assert Reader(scene).read(scene.rect)[1].all()


def test_each_band_has_its_own_nodata_in_a_vrt(tmp_path):
    pixels = noise(1, 20, 30)
    pixels[0, 5, 5] = 0
    write_image(tmp_path / "a.tif", pixels)
    (tmp_path / "a.vrt").write_text(stack_vrt(("Byte", 0, "a.tif"), ("Byte", 3, "a.tif"), ("Byte", None, "a.tif")))
    for chosen, nodata, invalid in [([1, 3], (0.0, None), 1), ([1, 2], (0.0, 3.0), 0), ([3], (None,), 0)]:
        scene = open_scene(str(tmp_path / "a.vrt"), chosen)
        assert scene.nodata == nodata
        _, valid = Reader(scene).read(scene.rect)
        assert (~valid).sum() == invalid


def test_an_image_without_any_mark_is_valid_without_looking(tmp_path):
    scene = open_scene(str(write_image(tmp_path / "a.tif", noise(3, 20, 30))), None)
    assert scene.always_valid
    assert Reader(scene).read(scene.rect.grown(9))[1].all()
    assert not open_scene(str(write_image(tmp_path / "b.tif", noise(3, 20, 30, "float32"))), None).always_valid


def test_an_empty_rectangle_is_a_mistake_of_the_caller(tmp_path):
    scene = open_scene(str(write_image(tmp_path / "a.tif", noise(1, 9, 9))), None)
    with pytest.raises(ValueError, match="no pixels"):
        Reader(scene).read(Rect(3, 3, 3, 9))


@pytest.mark.parametrize("driver", ["GTiff", "JPEG", "PNG", "WEBP", "BMP", "JP2OpenJPEG"])
def test_data_that_are_cut_short_are_found_on_reading_at_the_latest(tmp_path, driver):
    path = write_image(tmp_path / "a.tif", noise(3, 300, 400), driver=driver)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    kind, said = (SceneError, "its end is missing") if driver == "PNG" else (BlockError, "Rows 0 to 300 and columns 0")
    with pytest.raises(kind, match=r"a\.tif") as caught:
        Reader(open_scene(str(path), None)).read(Rect(0, 0, 300, 400))
    assert said in caught.value.message
    assert pickle.loads(pickle.dumps(portable(caught.value))).message == caught.value.message


def test_a_damaged_png_is_found(tmp_path):
    path = write_image(tmp_path / "a.png", noise(3, 300, 400), driver="PNG")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    scene = open_scene(str(path), None)
    with pytest.raises(BlockError, match="cannot be read"):
        Reader(scene).read(scene.rect)


def test_a_tile_that_is_cut_off_fails_alone(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 256, 256), tiled=True, blockxsize=64, blockysize=64)
    path.write_bytes(path.read_bytes()[:-100])
    scene = open_scene(str(path), None)
    with Reader(scene) as reader:
        with pytest.raises(BlockError):
            reader.read(Rect(192, 192, 256, 256))
        pixels, _ = reader.read(Rect(0, 0, 128, 128))  # the handle still serves
    np.testing.assert_array_equal(pixels, noise(1, 256, 256)[:, :128, :128])


def test_a_file_that_was_changed_or_removed_since_is_named(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 20, 30))
    scene = open_scene(str(path), None)
    write_image(path, noise(1, 20, 31))
    with pytest.raises(BlockError, match="plan anew"):
        Reader(scene).read(scene.rect)
    path.unlink()
    with pytest.raises(BlockError, match="does not exist"):
        Reader(scene).read(scene.rect)


def test_a_source_of_a_vrt_that_vanished_is_no_nodata(tmp_path):
    write_image(tmp_path / "a.tif", noise(1, 20, 30))
    (tmp_path / "a.vrt").write_text(vrt_of("a.tif"))
    scene = open_scene(str(tmp_path / "a.vrt"), None)
    reader = Reader(scene)
    (tmp_path / "a.tif").unlink()
    with pytest.raises(BlockError, match="no such file"):
        reader.read(scene.rect)


def test_threads_share_a_reader_and_a_pickled_one_opens_anew(tmp_path):
    pixels = noise(3, 500, 600, "uint16")
    path = write_image(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    reader = Reader(open_scene(str(path), None))
    random = np.random.default_rng(1)
    corners = [Rect(int(t), int(u), int(t) + 90, int(u) + 80) for t, u in random.integers(-50, 450, (200, 2))]

    def read(rect):
        before = reader.bytes_read
        return *reader.read(rect), reader.bytes_read - before

    with ThreadPoolExecutor(8) as pool:
        for rect, (got, valid, decoded) in zip(corners, pool.map(read, corners), strict=True):
            np.testing.assert_array_equal(got, mirrored(pixels, rect, 500, 600))
            assert valid.all()
            assert decoded == tiles_touched(reader.scene, rect)
    assert reader.bytes_read == 0
    again = pickle.loads(pickle.dumps(reader))
    assert again.scene == reader.scene
    assert again.bytes_read == 0
    np.testing.assert_array_equal(again.read(again.scene.rect)[0], pixels)
    reader.close()
    np.testing.assert_array_equal(reader.read(reader.scene.rect)[0], pixels)


def test_dead_threads_leave_no_handles_behind(tmp_path):
    reader = Reader(open_scene(str(write_image(tmp_path / "a.tif", noise(1, 9, 9))), None))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(40):
        thread = threading.Thread(target=reader.read, args=(reader.scene.rect,))
        thread.start()
        thread.join()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5
    reader.close()


def _mean(reader):
    return float(reader.read(reader.scene.rect)[0].mean())


def test_another_process_reads_with_a_handle_of_its_own(tmp_path):
    reader = Reader(open_scene(str(write_image(tmp_path / "a.tif", noise(1, 90, 90))), None))
    expected = _mean(reader)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_mean, (reader,)) == expected


def test_bytes_read_are_those_of_whole_tiles(tmp_path):
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 32}
    path = write_image(tmp_path / "a.tif", noise(3, 100, 100, "uint16"), interleave="pixel", **tiled)
    scene = open_scene(str(path), [2])
    assert scene.tile == (32, 16)
    assert scene.tile_bytes == 32 * 16 * 2 * 3  # one band of three: the others are decoded with it
    assert tiles_touched(scene, Rect(31, 15, 33, 17)) == 4 * scene.tile_bytes
    assert tiles_touched(scene, Rect(-8, -8, 8, 8)) == scene.tile_bytes
    path = write_image(tmp_path / "b.tif", noise(3, 100, 100, "uint16"), interleave="band", **tiled)
    assert open_scene(str(path), [2, 2, 1]).tile_bytes == 32 * 16 * 2 * 2


@pytest.mark.skipif(not SHARED.exists(), reason="the images of others are not here")
@pytest.mark.parametrize("path", sorted(SHARED.glob("fixtures/*.tif")) + sorted(SHARED.glob("scenes/*/*.tif")), ids=str)
def test_images_of_others_agree_with_gdal(path):
    scene = open_scene(str(path), None)
    with Reader(scene) as reader, rasterio.open(path) as dataset:
        whole, valid = reader.read(scene.rect)
        part, _ = reader.read(Rect(-7, -9, 20, 30))
        raw = dataset.read(list(scene.bands))
        masks = dataset.read_masks(list(scene.bands))
    np.testing.assert_array_equal(whole, np.nan_to_num(raw, nan=0, posinf=np.inf, neginf=-np.inf))
    np.testing.assert_array_equal(part, mirrored(whole, Rect(-7, -9, 20, 30), scene.height, scene.width))
    np.testing.assert_array_equal(valid, masks.any(axis=0) & ~np.isnan(raw).any(axis=0))
