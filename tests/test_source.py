"""Opening: what a scene says of itself, and one sentence for everything that is no scene."""

from __future__ import annotations

import math
import os
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster.naming import scene_name
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene, row_areas
from tests.images import SHARED, noise, quiet, write_image

pytestmark = quiet


def test_a_scene_says_what_the_file_is(tmp_path):
    place = {"crs": "EPSG:32632", "transform": Affine(30, 0, 500_000, 0, -30, 5_000_000)}
    path = write_image(tmp_path / "Wald, Nord.tif", noise(4, 40, 50, "uint16"), photometric="minisblack", **place)
    scene = open_scene(str(path), [4, 3, 2])
    assert (scene.name, scene.uri) == ("Wald__Nord", str(path))
    assert (scene.height, scene.width, scene.rect) == (40, 50, Rect(0, 0, 40, 50))
    assert (scene.bands, scene.dtype, scene.nodata, scene.alpha) == ((4, 3, 2), "uint16", (None,) * 3, None)
    assert CRS.from_wkt(scene.crs) == CRS.from_epsg(32632)
    assert scene.crs.startswith("PROJCRS")
    assert scene.transform == (30, 0, 500_000, 0, -30, 5_000_000)
    assert (scene.geographic, scene.resolution_m, scene.pixel_area()) == (False, 30, 900)
    assert row_areas(scene, 0, 40) is None
    assert pickle.loads(pickle.dumps(scene)) == scene
    assert len(pickle.dumps(scene)) < 4096
    with pytest.raises(FrozenInstanceError):
        scene.height = 3


def test_alpha_is_left_out_unless_it_is_asked_for(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(4, 9, 9), photometric="rgb", alpha="yes")
    assert (open_scene(str(path), None).bands, open_scene(str(path), None).alpha) == ((1, 2, 3), 4)
    scene = open_scene(str(path), [4, 1])
    assert scene.bands == (4, 1)
    np.testing.assert_array_equal(Reader(scene).read(scene.rect)[0], noise(4, 9, 9)[[3, 0]])


def test_an_alpha_band_that_is_asked_for_is_data_and_makes_no_pixel_invalid(tmp_path):
    pixels = noise(4, 9, 9)
    pixels[3, 2] = 0  # near infrared over water, in a file of four bands that GDAL takes for colours and alpha
    path = str(write_image(tmp_path / "a.tif", pixels))
    assert not Reader(open_scene(path, [1, 2, 3])).read(open_scene(path, None).rect)[1][2].any()
    scene = open_scene(path, [1, 2, 3, 4])
    found, valid = Reader(scene).read(scene.rect)
    np.testing.assert_array_equal(found, pixels)
    assert valid.all()


def test_an_image_without_georeference_is_an_image(tmp_path, recwarn):
    scene = open_scene(str(write_image(tmp_path / "a.png", noise(3, 9, 9), driver="PNG")), None)
    facts = (scene.crs, scene.transform, scene.geographic, scene.resolution_m, scene.pixel_area())
    assert facts == (None, None, False, None, None)
    assert row_areas(scene, 0, 9) is None


def test_gcps_and_rotation_are_kept_as_they_are(tmp_path):
    points = [GroundControlPoint(row, col, 10 + col, 50 - row) for row, col in [(0, 0), (0, 8), (8, 0)]]
    path = write_image(tmp_path / "gcps.tif", noise(1, 9, 9))
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, CRS.from_epsg(4326)
    assert open_scene(str(path), None).transform is None
    turned = Affine(1.7, 1.5, 7, 1, -2.6, 9)
    path = write_image(tmp_path / "turned.tif", noise(1, 9, 9), crs="EPSG:4326", transform=turned)
    scene = open_scene(str(path), None)
    assert scene.transform == pytest.approx(tuple(turned)[:6])
    assert row_areas(scene, 0, 9) is None
    path = write_image(tmp_path / "metres.tif", noise(1, 9, 9), crs="EPSG:32633", transform=turned)
    assert open_scene(str(path), None).pixel_area() == pytest.approx(1.7 * 2.6 + 1.5)


def test_a_scene_on_the_globe_knows_the_area_of_its_rows(tmp_path):
    globe = {"crs": "EPSG:4326", "transform": Affine(2, 0, -180, 0, -2, 90)}
    scene = open_scene(str(write_image(tmp_path / "a.tif", noise(1, 90, 180), **globe)), None)
    areas = row_areas(scene, 0, 90)
    assert scene.geographic
    assert scene.pixel_area() is None
    assert 180 * areas.sum() == pytest.approx(510_065_621_724_089, rel=1e-12)  # the surface of WGS 84
    assert scene.resolution_m == pytest.approx(math.sqrt(areas[45]))


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/a/b.tif", "b"),
        ("S2A_T32.B04.jp2", "S2A_T32.B04"),
        ("x/Wald & Wiese.tif", "Wald___Wiese"),
        ("çedilla.tif", "_edilla"),
    ],
)
def test_a_name_comes_from_the_file(uri, name):
    assert scene_name(uri) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../b", "a b", "a\n", "a\0", "x" * 201, "ä"])
def test_names_that_are_no_folders_are_refused(tmp_path, name):
    path = write_image(tmp_path / "a.tif", noise(1, 9, 9))
    with pytest.raises(SceneError, match="cannot be called"):
        open_scene(str(path), None, name)
    assert open_scene(str(path), None, "x" * 200).name == "x" * 200


@given(st.text())
def test_whatever_the_file_is_called_the_name_has_safe_characters(stem):
    assert set(scene_name(f"/folder/{stem}.tif")) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
    )


@pytest.mark.parametrize("bands", [[0], [4], [1, 9], [-1]])
def test_a_band_that_is_not_there_is_named_with_how_many_there_are(tmp_path, bands):
    path = write_image(tmp_path / "a.tif", noise(3, 9, 9))
    with pytest.raises(SceneError, match=rf"no band {bands[-1]} .* it has 3"):
        open_scene(str(path), bands)
    with pytest.raises(SceneError, match="No band"):
        open_scene(str(path), [])


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "int64", "uint64"])
def test_types_that_no_network_takes_are_refused(tmp_path, dtype):
    path = write_image(tmp_path / "a.tif", np.ones((1, 9, 9), dtype))
    with pytest.raises(SceneError, match="complex numbers" if "complex" in dtype else dtype):
        open_scene(str(path), None)


def test_a_law_of_the_value_holds_without_a_file(tmp_path):
    scene = open_scene(str(write_image(tmp_path / "a.tif", noise(1, 9, 9))), None)
    with pytest.raises(SceneError, match="0 × 9"):
        replace(scene, height=0)
    with pytest.raises(ValueError, match="nodata"):
        replace(scene, nodata=())


def test_a_relative_path_becomes_absolute_for_workers_elsewhere(tmp_path, monkeypatch):
    write_image(tmp_path / "a.tif", noise(1, 9, 9))
    monkeypatch.chdir(tmp_path)
    scene = open_scene("a.tif", None)
    assert scene.uri == str(tmp_path / "a.tif")


def test_links_are_followed(tmp_path):
    (tmp_path / "far").mkdir()
    path = write_image(tmp_path / "far" / "a.tif", noise(1, 9, 9))
    (tmp_path / "near.tif").symlink_to(path)
    scene = open_scene(str(tmp_path / "near.tif"), None)
    assert (scene.name, scene.fingerprint) == ("near", open_scene(str(path), None).fingerprint)


def test_opening_leaves_no_file_open_and_none_behind(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 9, 9))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        open_scene(str(path), None)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.skipif(not SHARED.exists(), reason="the images of others are not here")
@pytest.mark.parametrize("path", sorted(SHARED.glob("fixtures/*.tif")), ids=lambda path: path.name)
def test_images_of_others_open(path):
    scene = open_scene(str(path), None)
    with rasterio.open(path) as dataset:
        assert scene.rect.shape == dataset.shape
        assert (scene.crs is None) == (dataset.crs is None)
        assert scene.transform is None or Affine(*scene.transform) == dataset.transform
    assert pickle.loads(pickle.dumps(scene)) == scene
