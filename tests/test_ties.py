"""What ties an image to the ground without a plain transform is kept in the result, and said once."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  # xarray then reads control points
import xarray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import Affine

from flows.tasks import run_job
from pipeline.document import load_job
from pipeline.raster.source import open_scene
from tests.images import SHARED, noise, quiet, write_image
from tests.oracle import save_model, small_card, small_unet

pytestmark = quiet
POINTS = [
    GroundControlPoint(row=row, col=col, x=10 + col / 7, y=50 - row / 3, z=row / 2)
    for row in (0, 40.5)
    for col in (0, 60)
]
RPCS = RPC(
    height_off=1.5, height_scale=500, lat_off=48, lat_scale=0.2, line_off=20, line_scale=40, long_off=11,
    long_scale=0.3, samp_off=30, samp_scale=60, line_num_coeff=[0.5] + [0.0] * 19, line_den_coeff=[1.0] + [0.0] * 19,
    samp_num_coeff=[0.25] + [0.0] * 19, samp_den_coeff=[1.0] + [0.0] * 19,
)  # fmt: skip


def _mask_of(folder, path):
    """Run a job on an image; returns the published folder."""
    save_model(folder / "model.onnx", small_unet())
    said = {"scenes": [{"name": "it", "uri": str(path)}], "model": str(folder / "model.onnx"), "out": folder / "out"}
    assert run_job(load_job(None, {**said, "device": "cpu", "bands": [1, 1, 1]})).exit_code == 0
    return folder / "out/it"


def _attributes(result):
    return xarray.open_zarr(result / "mask.zarr", consolidated=False)["spatial_ref"].attrs


def test_control_points_are_kept_and_said(tmp_path, caplog):
    path = write_image(tmp_path / "a.tif", noise(1, 50, 70), gcps=POINTS, crs="EPSG:4326")
    scene = open_scene(str(path), None)
    assert scene.transform is None
    assert "4 ground control points and no transform" in scene.notes[0]
    caplog.set_level(logging.WARNING)
    result = _mask_of(tmp_path, path)
    assert sum("ground control points" in line for line in caplog.messages) == 1
    with rasterio.open(path) as before, rasterio.open(result / "mask.tif") as after:
        _same_points(before.gcps, after.gcps)
        assert after.transform.is_identity
        assert not list(result.glob("*.aux.xml"))
    rio = xarray.open_zarr(result / "mask.zarr", consolidated=False)["mask"].rio
    assert [(point.row, point.x, point.z) for point in rio.get_gcps()] == [(at.row, at.x, at.z) for at in POINTS]


def _same_points(had, has):
    assert CRS.from_wkt(has[1].to_wkt()) == CRS.from_wkt(had[1].to_wkt())
    assert len(has[0]) == len(had[0]) > 0
    for one, other in zip(had[0], has[0], strict=True):
        assert (one.row, one.col, one.x, one.y, one.z) == (other.row, other.col, other.x, other.y, other.z)


def test_rational_polynomials_are_kept_and_said(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 50, 70), rpcs=RPCS)
    scene = open_scene(str(path), None)
    assert "rational polynomials" in scene.notes[0]
    result = _mask_of(tmp_path, path)
    with rasterio.open(result / "mask.tif") as after:
        said = after.rpcs.to_dict()
        assert {key: value for key, value in said.items() if "err" not in key} == {
            key: value for key, value in RPCS.to_dict().items() if "err" not in key
        }
    assert _attributes(result)["rpcs"] == dict(scene.ties.rpcs)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({}, "no georeference"),
        ({"crs": "EPSG:32633"}, "no transform"),
        ({"crs": "EPSG:32633", "transform": Affine(8, 3, 5e5, 2, -9, 5e6)}, "rotated"),
        ({"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}, None),
    ],
)
def test_where_an_image_lies_is_said_where_that_is_not_plain(tmp_path, place, said):
    scene = open_scene(str(write_image(tmp_path / "a.tif", noise(1, 9, 9), **place)), None)
    assert [said in note for note in scene.notes] == ([True] if said else [])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")
@pytest.mark.parametrize("name", ["cog_gcps", "rotated", "cog_nonearth", "cog_dateline"])
def test_real_images_keep_their_place(tmp_path, name):
    path = SHARED / f"fixtures/{name}.tif"
    with rasterio.open(path) as before:
        kind = before.dtypes[0]
        save_model(tmp_path / "model.onnx", small_unet(), small_card().model_copy(update={"dtype": kind}))
    said = {"scenes": [str(path)], "model": str(tmp_path / "model.onnx"), "out": tmp_path / "out", "device": "cpu"}
    assert run_job(load_job(None, {**said, "bands": [1, 1, 1], "card": {"dtype": kind}})).exit_code == 0
    with rasterio.open(path) as before, rasterio.open(tmp_path / f"out/{name}/mask.tif") as after:
        assert np.allclose(after.transform[:6], before.transform[:6])
        assert after.crs == before.crs
        if before.gcps[0]:
            _same_points(before.gcps, after.gcps)
