"""Staging: what is slow to read is written once as tiles, with the same pixels, validity, place and identity."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BlockError, SceneError
from pipeline.grid import Rect
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.raster.stage import reason_to_stage, stage
from tests.images import SHARED, noise, quiet, write_image

pytestmark = quiet


def _reason(path, height, width, **profile):
    return reason_to_stage(open_scene(str(write_image(path, np.zeros((1, height, width), np.uint8), **profile)), None))


def test_layouts_that_are_slow_are_named_with_their_numbers(tmp_path):
    path = tmp_path / "a.tif"
    assert "read from its beginning" in _reason(path, 2000, 2100, driver="PNG")
    assert "A JPEG " in _reason(path, 2000, 2100, driver="JPEG")
    assert "8 × 2000" in _reason(path, 3000, 2000, blockysize=8)
    assert "16 × 1040" in _reason(path, 4000, 2000, tiled=True, blockxsize=1040, blockysize=16)
    assert "1 × 5000" in _reason(path, 900, 5000, blockysize=1)
    assert "3000 × 3000" in _reason(path, 3000, 3000, blockysize=3000, compress="deflate")
    assert "3000 × 3000" in _reason(path, 3000, 3000, driver="JP2OpenJPEG", blockxsize=3000, blockysize=3000)


def test_layouts_that_are_fast_and_small_scenes_stay_where_they_are(tmp_path):
    path = tmp_path / "a.tif"
    assert _reason(path, 2000, 5000, tiled=True, blockxsize=512, blockysize=512) is None
    assert _reason(path, 5000, 1000, blockysize=8) is None
    assert _reason(path, 2500, 2500, tiled=True, blockxsize=1024, blockysize=1024) is None
    assert _reason(path, 3000, 3000, driver="JP2OpenJPEG", blockxsize=1024, blockysize=1024) is None
    assert _reason(path, 1000, 1000, driver="PNG") is None
    assert _reason(path, 100, 9000, blockysize=1) is None


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_staged_scene_reads_the_same(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("stage")
    height, width = data.draw(st.integers(1, 1100)), data.draw(st.integers(1, 40))
    bands = data.draw(st.integers(1, 5))
    pixels = noise(bands, height, width, data.draw(st.sampled_from(["uint8", "int16", "uint32", "float32"])))
    random = np.random.default_rng(3)
    profile = {"photometric": "minisblack", "transform": rasterio.Affine(2, 0, 5, 0, -2, 9), "crs": "EPSG:32633"}
    if data.draw(st.booleans()):
        pixels[:, random.random((height, width)) < 0.2] = 7
        profile["nodata"] = 7
    if pixels.dtype.kind == "f":
        pixels[random.random(pixels.shape) < 0.05] = np.nan
    mask = random.random((height, width)) < 0.7 if data.draw(st.booleans()) else None
    path = write_image(folder / "a.tif", pixels, mask, **profile)
    chosen = data.draw(st.none() | st.lists(st.integers(1, bands), min_size=1, max_size=6))
    scene = open_scene(str(path), chosen, "name")
    staged = stage(scene, folder / "s")
    assert (staged.name, staged.fingerprint, staged.dtype) == (scene.name, scene.fingerprint, scene.dtype)
    assert (staged.crs, staged.transform, staged.rect) == (scene.crs, scene.transform, scene.rect)
    assert (staged.bands, staged.tile) == (tuple(range(1, len(scene.bands) + 1)), (512, 512))
    rect = Rect(-5, -5, height + 9, width + 3)
    for one, other in zip(Reader(scene).read(rect), Reader(staged).read(rect), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [file.name for file in (folder / "s").iterdir()] == ["source.tif"]


def test_what_is_staged_is_taken_again_and_another_source_is_not(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(2, 60, 60))
    scene = open_scene(str(path), [1])
    staged = stage(scene, tmp_path / "s")
    target = tmp_path / "s" / "source.tif"
    before = target.stat().st_ino
    assert stage(scene, tmp_path / "s") == staged
    assert target.stat().st_ino == before
    other = stage(open_scene(str(path), [2]), tmp_path / "s")
    np.testing.assert_array_equal(Reader(other).read(other.rect)[0], noise(2, 60, 60)[1:])
    target.write_bytes(target.read_bytes()[:50])  # damaged behind our back
    (tmp_path / "s" / "source.tif.partial").write_bytes(b"of a run that was killed")
    again = stage(scene, tmp_path / "s")
    assert replace(again, seal=staged.seal) == staged != again  # another file, of the same source
    np.testing.assert_array_equal(Reader(staged).read(staged.rect)[0], noise(2, 60, 60)[:1])


@pytest.mark.parametrize(("driver", "exact"), [("PNG", True), ("JP2OpenJPEG", False), ("JPEG", False)])
def test_other_formats_are_staged_as_they_are_read(tmp_path, driver, exact):
    path = write_image(tmp_path / "a.tif", noise(3, 700, 300), driver=driver)
    scene = open_scene(str(path), None)
    staged = stage(scene, tmp_path)
    assert staged.driver == "GTiff"
    for one, other in zip(Reader(scene).read(scene.rect), Reader(staged).read(scene.rect), strict=True):
        np.testing.assert_array_equal(one, other)
    assert exact == bool((Reader(staged).read(scene.rect)[0] == noise(3, 700, 300)).all())


def test_four_bands_of_bytes_do_not_become_colours_and_alpha(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(4, 60, 60), photometric="minisblack")
    staged = stage(open_scene(str(path), None), tmp_path / "s")
    assert (staged.bands, staged.alpha) == ((1, 2, 3, 4), None)


def test_a_source_that_is_cut_short_leaves_nothing_staged(tmp_path):
    path = write_image(tmp_path / "a.jpg", noise(3, 600, 600), driver="JPEG")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(BlockError, match="cannot be read"):
        stage(open_scene(str(path), None), tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing_staged(tmp_path):
    path = write_image(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (1, 1500, 1500), np.uint8))
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from pipeline.errors import RoomError\n"
        "from pipeline.raster.source import open_scene\n"
        "from pipeline.raster.stage import stage\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        "    stage(open_scene(sys.argv[1], None), Path(sys.argv[2]))\n"
        "except RoomError as error:\n"
        "    print(error.message)\n"
    )
    root = str(Path(__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert "There is no room to stage" in run.stdout
    assert list((tmp_path / "s").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    scene = open_scene(str(write_image(tmp_path / "a.tif", noise(1, 9, 9))), None)
    with pytest.raises(SceneError, match=r"cannot be staged as .*source\.tif"):
        stage(scene, tmp_path / "a.tif" / "s")


@pytest.mark.skipif(not SHARED.exists(), reason="the images of others are not here")
@pytest.mark.parametrize("name", ["pix4d_alpha_nodata.tif", "float_nan.tif", "RGB.byte.tif", "rotated.tif"])
def test_images_of_others_are_staged_as_they_are_read(tmp_path, name):
    scene = open_scene(str(SHARED / "fixtures" / name), None)
    staged = stage(scene, tmp_path)
    assert (staged.crs, staged.transform) == (scene.crs, scene.transform)
    for one, other in zip(Reader(scene).read(scene.rect), Reader(staged).read(scene.rect), strict=True):
        np.testing.assert_array_equal(one, other)
