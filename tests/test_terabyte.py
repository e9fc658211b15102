"""A raster of a terabyte, made of one real image again and again: planned, begun and looked at, in flat memory."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest
import yaml
from rasterio import Affine

from models.earth_water import blue_marble
from tests.images import write_image
from tests.mill import COMMAND, last_json, maskmill, surroundings

SIDE = 8192  # of the image; a VRT holds memory for each time that it names one, not for its pixels
CORNER, PIXEL = (0.0, 9_000_000.0), 10.0  # metres
AREA = 30_000.0  # metres: the side of what is of interest, in the first corner
BLOCKS = 300  # that a slice of the work does, by far most of them outside


SOURCE = (
    '<SimpleSource><SourceFilename relativeToVRT="1">tile.tif</SourceFilename><SourceBand>{band}</SourceBand>'
    f'<SourceProperties RasterXSize="{SIDE}" RasterYSize="{SIDE}" DataType="Byte" BlockXSize="512" BlockYSize="512"/>'
    f'<SrcRect xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"/>'
    f'<DstRect xOff="{{left}}" yOff="{{top}}" xSize="{SIDE}" ySize="{SIDE}"/></SimpleSource>'
)


def repeat(folder, name, times):
    """Write a VRT that shows the image so many times down and across; returns its bytes."""
    places = [(row * SIDE, col * SIDE) for row in range(times) for col in range(times)]
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp>'
        + "".join(SOURCE.format(band=band, top=top, left=left) for top, left in places)
        + "</VRTRasterBand>"
        for band, colour in enumerate(("Red", "Green", "Blue"), start=1)
    )
    place = f"<GeoTransform>{CORNER[0]}, {PIXEL}, 0, {CORNER[1]}, 0, {-PIXEL}</GeoTransform>"
    size = f'rasterXSize="{times * SIDE}" rasterYSize="{times * SIDE}"'
    (folder / f"{name}.vrt").write_text(f"<VRTDataset {size}><SRS>EPSG:32633</SRS>{place}{bands}</VRTDataset>")
    return 3 * (times * SIDE) ** 2


def slice_of(folder, name):
    """Begin the work, stop it after some blocks; returns the most bytes that its process was seen to hold."""
    command = [*COMMAND, "run", "--job", f"{name}.yaml", "--cluster", "inline"]
    journal, peak, done = folder / "out" / name / "ledger" / "journal.jsonl", 0, 0
    with subprocess.Popen(command, cwd=folder, env=surroundings(), stderr=subprocess.PIPE, text=True) as process:
        while done < BLOCKS:
            assert process.poll() is None, process.stderr.read()
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            done = journal.read_bytes().count(b"\n") if journal.exists() else 0
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 143, said
    return peak


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_terabyte_is_planned_and_begun_in_the_memory_of_a_hundredth_of_it(tmp_path):
    whole = np.pad(blue_marble(), ((0, 0), (0, SIDE - 2700), (0, SIDE - 5400)), mode="symmetric")
    place = Affine(PIXEL, 0, CORNER[0], 0, -PIXEL, CORNER[1])
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    write_image(tmp_path / "tile.tif", whole, crs="EPSG:32633", transform=place, **tiled)
    left, top = CORNER
    ring = [[left, top], [left + AREA, top], [left + AREA, top - AREA], [left, top - AREA], [left, top]]
    area = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    named = {"type": "name", "properties": {"name": "EPSG:32633"}}
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": [area]}))
    peaks, plans = {}, {}
    for name, times in (("small", 7), ("terabyte", 71)):
        assert (repeat(tmp_path, name, times) > 1e12) == (name == "terabyte")
        job = {"scenes": [f"{name}.vrt"], "model": "earth-water", "out": "out", "aoi": "area.geojson", "device": "cpu"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(job | {"workers": 1}))
        planned = maskmill("plan", "--job", f"{name}.yaml", "--json", cwd=tmp_path, timeout=300)
        assert planned.returncode == 0, planned.stderr
        [plans[name]] = last_json(planned)["plans"]
        assert plans[name]["refused"] is None
        peaks[name] = slice_of(tmp_path, name)
    small, large = plans["small"], plans["terabyte"]
    assert large["pixels"] > 100 * small["pixels"]
    assert large["bytes_read"] == small["bytes_read"]  # of what is outside nothing is read
    assert large["memory"]["coordinator"] < 1.1 * small["memory"]["coordinator"]
    assert peaks["terabyte"] < 1.15 * peaks["small"]
    status = maskmill("status", "out", "--json", cwd=tmp_path)
    found = {one["scene"]: one for one in last_json(status)["scenes"]}
    assert found["terabyte"]["done"] + found["terabyte"]["outside"] >= BLOCKS - 10
    assert found["terabyte"]["done"] == found["small"]["done"] > 0
    assert found["terabyte"]["pending"] > 75_000
