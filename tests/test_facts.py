"""What a file says of itself that decides no pixel: when it was taken."""

import pytest
import rasterio

from pipeline.raster.source import open_scene
from tests.images import noise, write_image


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
