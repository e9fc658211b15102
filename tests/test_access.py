"""What is no image, or not one that may be opened, is told in one sentence that names it."""

from __future__ import annotations

import os

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config

from pipeline.errors import SceneError
from pipeline.raster.access import CACHE_BYTES, driver_of, environment
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from tests.images import noise, quiet, write_image

pytestmark = quiet


def _refused(uri):
    with pytest.raises(SceneError) as caught:
        open_scene(str(uri), None)
    said = caught.value.message
    assert "Traceback" not in said
    assert said.endswith(".")
    return said


@pytest.mark.parametrize("head", [4, 8, 60, 120])
def test_a_tiff_without_its_header_is_refused(tmp_path, head):
    path = write_image(tmp_path / "a.tif", noise(3, 300, 300), tiled=True, compress="deflate")
    path.write_bytes(path.read_bytes()[:head])
    assert str(path) in _refused(path)
    assert "cut short" in _refused(path)


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "WEBP", "BMP", "JP2OpenJPEG"])
def test_other_formats_without_their_header_are_refused(tmp_path, driver):
    path = write_image(tmp_path / "a.tif", noise(3, 60, 60), driver=driver)
    assert driver_of(path) == driver
    path.write_bytes(path.read_bytes()[:20])
    assert str(path) in _refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"not an image at all", "is not an image"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "cannot be opened as HDF5"),
        (b"CDF\x01" + bytes(99), "cannot be opened"),
        (b"PK\x03\x04" + bytes(99), "is a zip archive"),
        (b"<GDAL_WMS><Service name='TMS'/></GDAL_WMS>", "is not an image"),
        (b"\x00" * 4096, "is not an image"),
    ],
)
def test_files_that_are_no_images_are_refused(tmp_path, content, said):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert said in _refused(path)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.tif",
        "zip://a.zip!a.tif",
        "/vsicurl/file:///etc/passwd",
        "/vsicurl/ftp://127.0.0.1/a.tif",
        "/vsicurl?url=http://127.0.0.1:1/a.tif",
        "/vsimem/a.tif",
        "/vsistdin/",
        "/vsisubfile/0_9,/etc/passwd",
        "/vsizip//vsimem/a.zip/a.tif",
        "/vsigzip//vsisubfile/0_9,/etc/passwd",
    ],
)
def test_addresses_of_other_kinds_are_refused(uri):
    assert "of a kind that is not read" in _refused(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "nowhere.tif",
        "a\0b.tif",
        "x" * 5000,
        "DERIVED_SUBDATASET:LOGAMPLITUDE:a.tif",
        "GTIFF_DIR:1:a.tif",
        "<VRTDataset rasterXSize='1' rasterYSize='1'/>",
        'GTIFF_RAW:"a.tif"',
    ],
)
def test_names_that_only_gdal_understands_are_no_files(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.tif", noise(1, 9, 9))
    assert "does not exist" in _refused(uri)


def test_a_folder_and_a_pipe_are_no_images(tmp_path):
    assert "is not a file" in _refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in _refused(tmp_path / "pipe")


def test_odd_names_of_real_files_are_taken_literally(tmp_path):
    for name in ["a!b.tif", "a:b.tif", "GTIFF_DIR:1:a.tif", "ä ö.tif", "a%20b?x=1.tif"]:
        write_image(tmp_path / "plain.tif", noise(1, 9, 9)).rename(tmp_path / name)
        assert open_scene(str(tmp_path / name), None, "x").height == 9


def test_a_name_that_is_no_text_is_refused_in_letters_that_print(tmp_path):
    plain = write_image(tmp_path / "plain.tif", noise(1, 9, 9))
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.tif")
    os.link(plain, odd)
    said = _refused(odd)
    assert "not UTF-8" in said
    assert said.isascii()


def test_sidecars_count(tmp_path):
    pixels = noise(1, 20, 20)
    path = write_image(tmp_path / "a.tif", pixels, np.arange(400).reshape(20, 20) > 99, internal_mask=False)
    assert (tmp_path / "a.tif.msk").exists()
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:32633</SRS></PAMDataset>")
    scene = open_scene(str(path), None)
    assert scene.crs is not None
    assert Reader(scene).read(scene.rect)[1].sum() == 300


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
def test_a_sidecar_that_is_no_tiff_is_not_followed(tmp_path, suffix):
    path = write_image(tmp_path / "a.tif", noise(1, 20, 20))
    (tmp_path / f"a.tif{suffix}").write_text('<VRTDataset rasterXSize="20" rasterYSize="20"></VRTDataset>')
    assert f"a.tif{suffix}" in _refused(path)


def test_overviews_elsewhere_are_not_followed(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 20, 20))
    said = '<MDI key="OVERVIEW_FILE">/vsicurl/http://127.0.0.1:1/x.tif</MDI>'
    (tmp_path / "a.tif.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{said}</Metadata></PAMDataset>')
    assert "overviews elsewhere" in _refused(path)


def test_the_cache_is_the_one_that_the_plan_counts(tmp_path):
    with environment():
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
    with rasterio.Env(GDAL_NUM_THREADS=2):
        pass
    assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
