"""The fingerprint changes with everything that decides pixels, and with nothing else."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import rasterio

from pipeline.raster import fingerprint as module
from pipeline.raster.fingerprint import WHOLE, fingerprint
from pipeline.raster.source import open_scene
from tests.images import noise, quiet, stack_vrt, write_image

pytestmark = quiet


def _of(path):
    return open_scene(str(path), None).fingerprint


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / "a.tif", noise(1, 20, 30), np.ones((20, 30), bool), internal_mask=False)


def test_a_copy_elsewhere_under_another_name_and_time_is_the_same(image, tmp_path):
    (tmp_path / "other").mkdir()
    for file in tmp_path.glob("a.tif*"):
        copy = tmp_path / "other" / file.name.replace("a.tif", "b.tif")
        shutil.copyfile(file, copy)
        os.utime(copy, (1, 1))
    assert _of(tmp_path / "other" / "b.tif") == _of(image)
    assert len(_of(image)) == 32
    assert int(_of(image), 16) >= 0


def test_one_pixel_and_one_pixel_of_the_mask_change_it(image, tmp_path):
    before = _of(image)
    for name in ("a.tif", "a.tif.msk"):
        data = bytearray((tmp_path / name).read_bytes())
        data[-1] ^= 1
        (tmp_path / name).write_bytes(data)
        after = fingerprint(image, [image, tmp_path / "a.tif.msk"])
        assert after != before
        before = after
    (tmp_path / "a.tif.msk").unlink()
    assert _of(image) != before


def test_statistics_of_a_viewer_and_overviews_do_not_count(image):
    before = _of(image)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(image, "r+") as dataset:
        dataset.build_overviews([2])
    assert image.with_name("a.tif.ovr").exists()
    pam = image.with_name("a.tif.aux.xml")
    statistics = (
        '<PAMDataset>{}<PAMRasterBand band="1"><Histograms><HistItem/></Histograms><Metadata>'
        '<MDI key="STATISTICS_MAXIMUM">9</MDI></Metadata></PAMRasterBand></PAMDataset>'
    )
    pam.write_text(statistics.format(""))
    assert _of(image) == before
    pam.write_text(statistics.format("<SRS>EPSG:32633</SRS>"))
    placed = _of(image)
    assert placed != before
    pam.write_text("<PAMDataset>\n  <SRS>EPSG:32633</SRS>\n</PAMDataset>")
    assert _of(image) == placed


def test_sources_of_a_vrt_count_each_in_its_place(tmp_path):
    for seed, name in enumerate(["a.tif", "b.tif"]):
        write_image(tmp_path / name, noise(1, 20, 30, seed=seed))
    path = tmp_path / "x.vrt"
    path.write_text(stack_vrt(("Byte", None, "a.tif"), ("Byte", None, "b.tif")))
    before = _of(path)
    (tmp_path / "a.tif").rename(tmp_path / "c.tif")
    (tmp_path / "b.tif").rename(tmp_path / "a.tif")
    (tmp_path / "c.tif").rename(tmp_path / "b.tif")
    swapped = _of(path)
    assert swapped != before
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.write_mask(np.zeros((20, 30), bool))
    assert _of(path) != swapped


def test_a_large_file_is_sampled_with_its_head_its_tail_and_its_time(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(WHOLE + 1)  # sparse
    os.utime(path, ns=(5, 5))
    seen = {fingerprint(path, [path])}
    for at in (0, WHOLE):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"x")
        os.utime(path, ns=(5, 5))
        seen.add(fingerprint(path, [path]))
    os.utime(path, ns=(5, 6))
    seen.add(fingerprint(path, [path]))
    assert len(seen) == 4
    os.utime(path, ns=(5, 5))
    assert fingerprint(path, [path]) in seen


def test_a_small_file_is_read_whole_whatever_its_time(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(bytes(3 << 20))
    before = fingerprint(path, [path])
    os.utime(path, (9, 9))
    assert fingerprint(path, []) == before
    data = bytearray(path.read_bytes())
    data[1_234_567] = 1
    path.write_bytes(data)
    assert fingerprint(path, [path]) != before
    assert module.SAMPLES * module.SAMPLE < WHOLE
