"""What a file says of itself: when it was taken, what its numbers mean, and what else lies in it."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from pipeline.raster.opening import Wanted, open_image
from pipeline.raster.source import open_scene
from pipeline.raster.stage import stage
from pipeline.settings import BandSource
from tests.images import noise, quiet, write_image

pytestmark = quiet


@pytest.mark.parametrize(
    ("entries", "taken"),
    [
        ({}, None),
        ({"TIFFTAG_DATETIME": "2021:06:07 08:09:10"}, ("2021-06-07T08:09:10Z", "TIFFTAG_DATETIME")),
        ({"TIFFTAG_DATETIME": "yesterday"}, None),
        ({"TIFFTAG_DATETIME": "0000:00:00 00:00:00"}, None),
        ({"ACQUISITIONDATETIME": "2021-06-07T08:09Z"}, ("2021-06-07T08:09:00Z", "ACQUISITIONDATETIME")),
        (
            {"TIFFTAG_DATETIME": "2021:06:07 08:09:10", "ACQUISITIONDATETIME": "2020-01-02"},
            ("2020-01-02T00:00:00Z", "ACQUISITIONDATETIME"),
        ),
    ],
)
def test_when_an_image_was_taken_is_what_its_best_entry_says(tmp_path, entries, taken):
    path = write_image(tmp_path / "image.tif", noise(1, 8, 8))
    with rasterio.open(path, "r+") as file:
        file.update_tags(**entries)
    assert open_scene(str(path), None).taken == taken


def scaled(path, scales, offsets=None):
    write_image(path, noise(len(scales), 8, 8, "uint16"))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = scales, offsets or (0.0,) * len(scales)
    return path


def test_scale_and_offset_of_a_file_are_the_scenes(tmp_path):
    path = scaled(tmp_path / "a.tif", (1e-4, 2e-4, 1), (-0.1, 0, 3))
    scene = open_scene(str(path), [2, 1])
    assert (scene.gain, scene.offset) == ((2e-4, 1e-4), (0, -0.1))
    kept = stage(scene, tmp_path / "staged")
    assert (kept.gain, kept.offset) == (scene.gain, scene.offset)
    for said in [(1, 1), (0, 1), (np.inf, 1)]:  # nothing, or nothing that could be meant
        scene = open_scene(str(scaled(tmp_path / "b.tif", said)), None)
        assert (scene.gain, scene.offset) == (None, None)
    rasterio.shutil.copy(path, tmp_path / "a.nc", driver="netCDF")
    assert open_scene(f"{tmp_path}/a.nc:Band1", None).gain == (1e-4,)


def test_bands_in_files_have_the_jobs_scale_or_else_their_files(tmp_path):
    scaled(tmp_path / "red.tif", (1e-4,), (-0.1,))
    scaled(tmp_path / "nir.tif", (1e-4,), (-0.1,))
    scaled(tmp_path / "none.tif", (1,))
    told = {"red": BandSource(file="red.tif"), "nir": BandSource(file="nir.tif", gain=2.0)}
    scene = open_image(str(tmp_path), Wanted(tuple(told), files=told))
    assert (scene.gain, scene.offset) == ((1e-4, 2.0), (-0.1, 0.0))
    told["blue"] = BandSource(file="none.tif")
    scene = open_image(str(tmp_path), Wanted(tuple(told), files=told))
    assert (scene.gain, scene.offset) == (None, None)


def test_pages_beside_the_first_are_told(tmp_path):
    for page in (1, 2):
        more = {"APPEND_SUBDATASET": "YES"} if page > 1 else {}
        write_image(tmp_path / "page.tif", noise(1, 8, 8, seed=page))
        rasterio.shutil.copy(tmp_path / "page.tif", tmp_path / "pages.tif", driver="GTiff", **more)
    assert any("2 pages, and the first is" in note for note in open_scene(str(tmp_path / "pages.tif"), None).notes)
    assert not any("pages" in note for note in open_scene(str(tmp_path / "page.tif"), None).notes)


def test_a_camera_that_was_turned_is_told(tmp_path):
    path = tmp_path / "a.jpg"
    rasterio.shutil.copy(write_image(tmp_path / "a.tif", noise(3, 8, 8)), path, driver="JPEG")
    assert not any("orientation" in note for note in open_scene(str(path), None).notes)
    entry = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # one tag: orientation 6
    block = b"Exif\0\0" + entry
    plain = path.read_bytes()
    path.write_bytes(plain[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + plain[2:])
    assert any("orientation 6" in note for note in open_scene(str(path), None).notes)
