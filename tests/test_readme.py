"""The README is true: its commands run, its job files are jobs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
import yaml
from affine import Affine

from pipeline.document import load_job
from pipeline.settings import Job
from tests.oracle import noise, save_scene, small_unet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (maskmill .*)$", README, re.MULTILINE)
JOBS = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    save_scene(folder / "scene.tif", noise(300, 400))
    (folder / "archive").mkdir()
    save_scene(folder / "archive" / "one.tif", noise(90, 80))
    hours_ago = time.time() - 7200
    os.utime(folder / "archive" / "one.tif", (hours_ago, hours_ago))
    (folder / "north").mkdir()
    at = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    for name, side in (("red", 100), ("green", 100), ("blue", 50)):
        place = {"transform": at @ Affine.scale(100 / side)}
        save_scene(folder / "north" / f"north_{name}.tif", noise(side, side, bands=1), **place)
    corners = [[500_100, 4_999_900], [500_800, 4_999_900], [500_400, 4_999_100], [500_100, 4_999_900]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    shape = {"type": "Polygon", "coordinates": [corners]}
    features = [{"type": "Feature", "properties": {}, "geometry": shape}]
    (folder / "fields.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}), encoding="utf-8"
    )
    onnx.save(small_unet(classes=2), folder / "my-network.onnx")  # without a card: the job file has it
    run = [sys.executable, "-m", "flows.cli", "run", "scene.tif", "--model", "earth-water", "--out"]
    for more in (["masks-of-another-model", "--margin", "8"], ["trusted"]):
        subprocess.run([*run, *more], cwd=folder, capture_output=True, check=True)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_works(place, command):
    words = shlex.split(command)
    assert words[0] == "maskmill"
    done = subprocess.run([sys.executable, "-m", "flows.cli", *words[1:]], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_are_commands_and_jobs_to_try():
    assert len(COMMANDS) >= 8
    assert len(JOBS) >= 2


@pytest.mark.parametrize("number", range(len(JOBS)))
def test_each_job_file_runs(place, number):
    path = place / f"job-{number}.yaml"
    path.write_text(JOBS[number], encoding="utf-8")
    assert isinstance(load_job(path, {}), Job)
    assert set(yaml.safe_load(JOBS[number])) <= set(Job.model_fields)
    command = [sys.executable, "-m", "flows.cli", "run", "--job", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
