"""Mosaics: what is one scene shows its images' pixels and no others, the first on top, and stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine

from flows.listing import listed
from flows.sources.listed import LeftOut
from pipeline.document import load_job
from pipeline.errors import SceneError
from pipeline.raster.mosaic import mosaic_of
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from tests.images import noise, write_image
from tests.oracle import save_model, small_unet

CRS = "EPSG:32633"
SIDE = 10.0
NODATA = 7


def tile(path, row, col, pixels, mask=None, crs=CRS, shift=(0.0, 0.0), side=SIDE, **profile):
    """An image whose corner is a pixel of one grid."""
    place = Affine(side, 0, 500_000 + (col + shift[1]) * SIDE, 0, -side, 5_000_000 - (row + shift[0]) * SIDE)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, pixels, mask=mask, crs=crs, transform=place, **profile)


def seen(path):
    """(pixels, validity) of a whole image, as a worker reads it."""
    scene = open_scene(str(path), None)
    with Reader(scene) as reader:
        pixels, valid = reader.read(scene.rect)[:2]
    return scene, pixels, valid


PLACES = st.lists(
    st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=PLACES,
    bands=st.integers(1, 3),
    kind=st.sampled_from(["plain", "nodata", "mask", "alpha"]),
    seed=st.integers(0, 99),
)
def test_each_pixel_is_the_first_images_that_is_valid_there(tmp_path_factory, places, bands, kind, seed):
    folder = tmp_path_factory.mktemp("mosaic")
    bands = 3 if kind == "alpha" and bands == 2 else bands  # TIFF takes the second of three bands for alpha
    top, left = min(row for row, *_ in places), min(col for _, col, *_ in places)
    height = max(row + rows for row, _, rows, _ in places) - top
    width = max(col + cols for _, col, _, cols in places) - left
    expected = np.zeros((bands, height, width), np.uint8)
    valid = np.zeros((height, width), bool)
    images, draw = [], np.random.default_rng(seed)
    for at, (row, col, rows, cols) in enumerate(places):
        pixels, there = noise(bands, rows, cols, seed=at) + 10, draw.random((rows, cols)) < 0.7
        if kind == "nodata":
            pixels = np.where(there, pixels, NODATA).astype(np.uint8)
        path = folder / f"{at}.tif"
        if kind == "alpha":
            whole = np.concatenate([pixels, np.where(there, 255, 0)[None].astype(np.uint8)])
            tile(path, row, col, whole, photometric="RGB" if bands == 3 else "MINISBLACK", alpha="YES")
        else:
            mask = np.where(there, 255, 0).astype(np.uint8) if kind == "mask" else None
            tile(path, row, col, pixels, mask, nodata=NODATA if kind == "nodata" else None)
        images.append(path)
        there = np.ones_like(there) if kind == "plain" else there
        part = np.s_[row - top : row - top + rows, col - left : col - left + cols]
        fresh = there & ~valid[part]
        expected[:, *part] = np.where(fresh, pixels, expected[:, *part])
        valid[part] |= fresh
    target = folder / "whole.vrt"
    target.write_bytes(mosaic_of(images, target))
    scene, pixels, found = seen(target)
    assert (scene.height, scene.width, len(scene.bands)) == (height, width, bands)
    assert scene.transform == (SIDE, 0, 500_000 + left * SIDE, 0, -SIDE, 5_000_000 - top * SIDE)
    np.testing.assert_array_equal(found, valid)
    np.testing.assert_array_equal(pixels[:, valid], expected[:, valid])


def test_a_mosaic_of_pieces_is_the_image(tmp_path):
    """Values and not-a-number, names of bands, gain and colours come through."""
    pixels = noise(2, 40, 60, "float32")
    pixels[:, 5:9, 11:30] = np.nan
    for row, col in ((0, 0), (0, 33), (17, 0), (17, 33)):
        part = pixels[:, row : 17 if row == 0 else None, col : 33 if col == 0 else None]
        path = tile(tmp_path / f"{row}-{col}.tif", row, col, part, nodata=np.nan)
        with rasterio.open(path, "r+") as file:
            file.descriptions, file.scales, file.offsets = ("red", "nir"), (0.5, 2.0), (1.0, -3.0)
    target = tmp_path / "whole.vrt"
    target.write_bytes(mosaic_of(sorted(tmp_path.glob("*.tif")), target))
    scene, found, valid = seen(target)
    np.testing.assert_array_equal(valid, np.isfinite(pixels[0]))
    np.testing.assert_array_equal(found[:, valid], pixels[:, valid])
    with rasterio.open(target) as file:
        assert (file.descriptions, file.scales, file.offsets) == (("red", "nir"), (0.5, 2.0), (1.0, -3.0))
    assert "WGS 84 / UTM zone 33N" in scene.crs


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"crs": "EPSG:32632"}, "differ in their coordinate system"),
        ({"shift": (0.3, 0.0)}, "0.3 of a pixel beside each other"),
        ({"side": 10.01}, "sides of 10.01 and 10"),
        ({"pixels": noise(2, 20, 30)}, "differ in their bands"),
        ({"pixels": noise(1, 20, 30, "uint16")}, "differ in their type"),
        ({"nodata": 3}, "differ in their nodata value"),
    ],
)
def test_what_does_not_lie_on_one_grid_is_refused_with_what_would_help(tmp_path, more, said):
    more = {"pixels": noise(1, 20, 30), **more}
    one = tile(tmp_path / "a.tif", 0, 0, noise(1, 20, 30))
    other = tile(tmp_path / "b.tif", 5, 5, more.pop("pixels"), **more)
    with pytest.raises(SceneError, match=said):
        mosaic_of([one, other], tmp_path / "whole.vrt")


def job_of(folder, text):
    (folder / "job.yaml").write_text(text)
    return load_job(folder / "job.yaml", {})


@pytest.fixture
def folder(tmp_path):
    for at in range(2):
        tile(tmp_path / "tiles" / f"{at}.tif", 0, 25 * at, noise(3, 30, 30, seed=at))
    (tmp_path / "work").mkdir()
    save_model(tmp_path / "model.onnx", small_unet())
    return tmp_path


JOB = """
scenes: [{mosaic: work/north.vrt, of: tiles/*.tif, top: last}]
model: model.onnx
out: out
device: cpu
cluster: inline
settle: %s
"""


def test_a_job_names_a_mosaic_and_it_is_kept_up_to_date(folder):
    job = job_of(folder, JOB % 0)
    first = list(listed(job))
    assert [one.entry.name for one in first] == ["north"]
    target = folder / "work" / "north.vrt"
    _, pixels, _ = _seen_as(job, target)
    np.testing.assert_array_equal(pixels[0, :, 25:], noise(3, 30, 30, seed=1)[0])  # the last is on top
    before = target.stat().st_mtime_ns
    assert list(listed(job)) == first
    assert target.stat().st_mtime_ns == before  # what is right is left alone
    tile(folder / "tiles" / "2.tif", 30, 0, noise(3, 30, 30))
    assert list(listed(job)) != first
    assert _seen_as(job, target)[0].height == 60


def _seen_as(job, target):
    scene = open_scene(str(target), None, allow=[str(one) for one in job.allowed])
    with Reader(scene) as reader:
        return scene, *reader.read(scene.rect)[:2]


def test_a_mosaic_waits_for_the_last_of_its_images(folder):
    job, left = job_of(folder, JOB % 60), LeftOut()
    assert list(listed(job, left)) == []
    assert left.waiting == 1
    assert not (folder / "work" / "north.vrt").exists()
    assert "There is no scene" not in " ".join(left.notes())
    for path in (folder / "tiles").iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    assert len(list(listed(job))) == 1  # though its VRT is new


def test_a_file_that_was_not_made_here_is_not_written_over(folder):
    target = folder / "work" / "north.vrt"
    target.write_text("<VRTDataset>mine</VRTDataset>")
    with pytest.raises(SceneError, match="is not written over"):
        list(listed(job_of(folder, JOB % 0)))
    assert target.read_text() == "<VRTDataset>mine</VRTDataset>"


def maskmill(folder, *words):
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_mosaic_has_no_seam_where_its_images_meet(folder):
    """The mask of a mosaic is that of the whole image, and a mosaic of masks shows what was made of its tiles."""
    whole = noise(3, 200, 300)
    tile(folder / "whole.tif", 0, 0, whole)
    for path in (folder / "tiles").iterdir():
        path.unlink()
    for at, part in enumerate((np.s_[:, :90, :], np.s_[:, 90:, :130], np.s_[:, 90:, 130:])):
        tile(folder / "tiles" / f"{at}.tif", part[1].start or 0, part[2].start or 0, whole[part])
    job_of(folder, JOB % 0)
    assert maskmill(folder, "run", "--job", "job.yaml").returncode == 0
    done = maskmill(folder, "run", "whole.tif", "--model", "model.onnx", "--out", "out", "--cluster", "inline")
    assert done.returncode == 0, done.stderr
    one, other = (rasterio.open(folder / "out" / name / "mask.tif") for name in ("north", "whole"))
    with one, other:
        np.testing.assert_array_equal(one.read(), other.read())
        assert one.transform == other.transform
    again = maskmill(folder, "run", "--job", "job.yaml", "--dry-run", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["left_alone"] == {"done": 1}, again
    made = maskmill(folder, "mosaic", "masks.vrt", "out/whole/mask.tif", "out/north/mask.tif", "--json")
    assert json.loads(made.stdout.splitlines()[-1]) == {
        "mosaic": "masks.vrt", "images": 2, "written": True, "exit_code": 0,
    }  # fmt: skip
    with rasterio.open(folder / "masks.vrt") as file, rasterio.open(folder / "out" / "whole" / "mask.tif") as mask:
        np.testing.assert_array_equal(file.read(), mask.read())
        assert file.colormap(1) == mask.colormap(1)


def test_what_makes_no_mosaic_is_a_sentence(folder):
    for words, said in (
        (["mosaic", "x.vrt", "none.tif"], "none.tif"),
        (["mosaic", "x.vrt", "none/*.tif"], "does not exist"),
        (["mosaic", "x.vrt", "work"], "There is no image for the mosaic"),
    ):
        done = maskmill(folder, *words)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not (folder / "x.vrt").exists()
