"""Areas of others over a real scene: 206 buildings, drawn and burnt to a raster by others, on a drone's ortho.

The labels are ODbL and the imagery is CC BY 4.0; neither is part of this project, and without them this is skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.warp import transform

from pipeline.raster.area import find_area, open_area
from pipeline.raster.source import open_scene
from pipeline.settings import OUTSIDE
from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from tests.areas import write_area
from tests.images import SHARED
from tests.mill import COMMAND, last_json, maskmill, surroundings
from tests.oracle import read_mask, save_model, small_unet, tree

HERE = SHARED / "labelled" / "fair-buildings"
SCENE, LABELS, BURNT = HERE / "ortho_z21.tif", HERE / "labels.geojson", HERE / "buildings_z21.tif"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not HERE.exists(), reason="the scenes of others are not here")]


@pytest.fixture(scope="module")
def scene():
    return open_scene(str(SCENE), [1, 2, 3])


@pytest.fixture(scope="module")
def burnt():
    with rasterio.open(BURNT) as file:
        return file.read(1) != 0


@pytest.mark.parametrize(
    ("suffix", "crs"),
    [
        (".geojson", "EPSG:4326"),
        (".kml", "EPSG:4326"),
        (".gpkg", "EPSG:4326"),
        (".gpkg", "EPSG:3857"),
        (".shp", "EPSG:32636"),
        (".fgb", "EPSG:32636"),
        (".gml", "EPSG:3857"),
    ],
)
def test_buildings_are_where_others_burnt_them(tmp_path, scene, burnt, suffix, crs):
    _, _, wkb, _ = pyogrio.raw.read(str(LABELS), columns=[])
    polygons = shapely.from_wkb(wkb)
    if crs != "EPSG:4326":
        polygons = shapely.transform(polygons, lambda points: np.array(transform("EPSG:4326", crs, *points.T)).T)
    fence = open_area(find_area(str(write_area(tmp_path / f"area{suffix}", polygons, crs))), scene)
    differs = fence.inside(scene.rect) != burnt
    assert np.count_nonzero(differs) < 500  # of 2.3 million inside, along 30 thousand pixels of edges


def test_a_raster_of_others_is_looked_up_pixel_by_pixel(scene, burnt):
    assert np.array_equal(open_area(find_area(str(BURNT)), scene).inside(scene.rect), burnt)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("buildings")
    save_model(place / "model.onnx", small_unet())
    return place


def command(folder, out, area):
    said = [
        "run",
        SCENE,
        "--model",
        folder / "model.onnx",
        "--out",
        folder / out,
        "--bands",
        "1,2,3",
        "--device",
        "cpu",
    ]
    return [str(word) for word in [*said, *(["--aoi", area] if area else []), "--window", "268", "--block", "256"]]


def done(folder, out):
    try:
        _, fold = read_ledger(folder / out / "ortho_z21" / "ledger")
    except Exception:  # noqa: BLE001  # there is none yet
        return 0
    return len(fold) - len(fold.of(State.PENDING))


def test_a_run_over_the_buildings_alone_is_the_whole_run_there_even_after_a_kill(folder, burnt):
    whole = last_json(maskmill(*command(folder, "whole", None), "--json", cwd=folder, timeout=280))
    assert whole["exit_code"] == 0
    run = subprocess.Popen([*COMMAND, *command(folder, "killed", LABELS)], env=surroundings(), cwd=folder)
    try:
        while done(folder, "killed") < 200:
            assert run.poll() is None
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
    assert 200 <= done(folder, "killed") < 720
    for out in ("killed", "steady"):
        said = maskmill(*command(folder, out, LABELS), "--json", cwd=folder, timeout=280)
        assert said.returncode == 0, said.stderr
    killed, steady = folder / "killed" / "ortho_z21", folder / "steady" / "ortho_z21"
    assert tree(killed / "mask.zarr") == tree(steady / "mask.zarr")
    mask = read_mask(steady)
    inside = mask != OUTSIDE
    assert np.count_nonzero(inside != burnt) < 500
    assert np.array_equal(mask[inside], read_mask(folder / "whole" / "ortho_z21")[inside])
    report = json.loads((steady / "report.json").read_text())
    assert report["blocks"]["outside"] > 200
    assert report["bytes_read"] < json.loads((folder / "whole" / "ortho_z21" / "report.json").read_text())["bytes_read"]
    row = last_json(maskmill("status", folder / "steady", "--json", cwd=folder))["scenes"][0]
    assert (row["outside"], row["percent"]) == (report["blocks"]["outside"], 100.0)
    other = maskmill(*command(folder, "steady", BURNT), cwd=folder)
    assert other.returncode == 2
    assert "differs in area" in other.stderr
    proof = maskmill("verify", steady, "--sample", 3, cwd=folder)
    assert proof.returncode == 0, proof.stderr
