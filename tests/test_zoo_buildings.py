"""The networks of buildings score on land that they never saw what models/zoo/README.md says."""

import re
import shutil
from pathlib import Path

import pytest
import rasterio
from rasterio.windows import Window

from models import zoo
from tests.images import SHARED
from tests.mill import last_json, maskmill

DATA = SHARED / "labelled" / "fair-buildings"
PAGE = (Path(zoo.__file__).parent / "README.md").read_text(encoding="utf-8")
WEST = Window(0, 4096, 1024, 1024)  # the other piece of the orthophoto, 0.4 km from what trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason="the material of others is not here"),
]


@pytest.fixture(scope="module")
def west(tmp_path_factory):
    folder = tmp_path_factory.mktemp("west")
    with rasterio.open(DATA / "ortho_z21.tif") as file:
        profile = file.profile | {"width": 1024, "height": 1024, "transform": file.window_transform(WEST)}
        with rasterio.open(folder / "west.tif", "w", **profile) as piece:
            piece.write(file.read(window=WEST))
            piece.colorinterp = file.colorinterp
    shutil.copy(DATA / "labels.geojson", folder)
    return folder


@pytest.mark.parametrize("name", ["buildings", "unet-buildings"])
def test_its_score_is_what_the_page_says(west, name):
    told = re.search(rf"^\| `{name}` \|.*\| (0\.\d+), (0\.\d+) \|$", PAGE, re.MULTILINE)
    done = maskmill("evaluate", name, "--images", "west.tif", "--labels", "labels.geojson", "--json", cwd=west)
    assert done.returncode == 0, done.stderr
    found = {each["class"]: each["iou"] for each in last_json(done)["classes"]}
    assert found["ground"] == pytest.approx(float(told[1]), abs=0.01)
    assert found["building"] == pytest.approx(float(told[2]), abs=0.01)
