"""The page models/ARTICLE.md is true: its five commands, one after the other, make a good mask of a large image."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

from tests.lakes import PLACE, lakes, put_pairs
from tests.mill import maskmill
from tests.oracle import save_scene

PAGE = (Path(__file__).parents[1] / "models" / "ARTICLE.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ maskmill (.*)$", PAGE, re.MULTILINE)]
QUICK = ("--epochs", "6", "--window", "48", "--rate", "0.0005")  # that a test can wait for


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_commands_from_a_folder_of_images_to_a_mask(tmp_path):
    put_pairs(tmp_path / "lakes", count=20)
    image, truth = lakes(300, 420, 77, 12)
    save_scene(tmp_path / "scene.tif", image, transform=PLACE, crs="EPSG:32633")
    save_scene(tmp_path / "scene-labels.tif", truth[None] * np.uint8(255), transform=PLACE, crs="EPSG:32633")
    assert [command[0] for command in COMMANDS] == ["train", "export", "run", "evaluate", "show"]
    for command in COMMANDS:
        more = QUICK if command[0] == "train" else ()
        done = maskmill(*command, *more, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "masks" / "scene" / "mask.tif") as mask:
        found = mask.read(1)
    assert ((found == truth)[(found < 250)]).mean() > 0.95
    assert (tmp_path / "scene.png").stat().st_size > 10_000
