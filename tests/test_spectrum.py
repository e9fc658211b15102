"""Which band is which: by the file's names where they tell, by place where nothing does, never against a name."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster.opening import Wanted, open_image
from pipeline.raster.reader import Reader
from pipeline.raster.spectrum import called, places_of
from tests.images import SHARED, noise, quiet, write_image

pytestmark = quiet
RGB = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Red", "red"),
        ("B04 (red)", "red"),
        ("Near Infrared", "nir"),
        ("NIR", "nir"),
        ("Red Edge 1", "rededge071"),
        ("red edge", "rededge"),
        ("SWIR1", "swir16"),
        ("coastal aerosol", "coastal"),
        ("Panchromatic", "pan"),
        ("band 4", "band4"),
        ("red and green", "redandgreen"),
        ("elevation", "elevation"),
    ],
)
def test_many_words_are_one_name(text, name):
    assert called(text) == name


def test_names_win_over_places_and_places_stand_where_nothing_is_named():
    assert places_of(RGB, ("blue", "green", "red", None), 4, "a.tif")[0] == (3, 2, 1)
    assert places_of(RGB, ("red", "green", "blue", "NIR"), None, "a.tif") == ((1, 2, 3), None)
    assert places_of(RGB, (None, None, None), None, "a.tif") == ((1, 2, 3), None)
    assert places_of(RGB, (None, None, None, None), 4, "a.tif") == ((1, 2, 3), None), "alpha is no band to miss"
    numbers, note = places_of(RGB, (None,) * 7, None, "a.tif")
    assert numbers == (1, 2, 3)
    assert "has 7 bands and the model eats 3" in note
    assert places_of(("red", "green", "blue", "nir"), (*RGB, None), None, "a.tif")[0] == (1, 2, 3, 4)


def test_a_name_that_is_another_at_its_place_is_refused():
    with pytest.raises(SceneError, match=r"eats nir, red.* a\.tif says that its band 1 is red, where nir would be"):
        places_of(("nir", "red"), RGB, None, "a.tif")


def test_a_file_in_another_order_is_read_by_its_colours_and_descriptions(tmp_path):
    pixels = noise(4, 9, 11)
    path = write_image(tmp_path / "a.tif", pixels, photometric="minisblack")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
        dataset.set_band_description(4, "Near infrared")
    for names, numbers in ((RGB, (3, 2, 1)), (("NIR", "Red", "Green"), (4, 3, 2))):
        scene = open_image(str(path), Wanted(names))
        assert scene.bands == numbers
        assert "taken by the names" in scene.notes[-1]
        np.testing.assert_array_equal(Reader(scene).read(scene.rect)[0], pixels[[band - 1 for band in numbers]])
    assert open_image(str(path), Wanted(RGB, numbers=(1, 2, 3))).bands == (1, 2, 3), "what the job says counts"
    assert open_image(str(path), Wanted(RGB, indices=(2, 2, 1))).bands == (2, 2, 1), "or what the card says"


@pytest.mark.skipif(not SHARED.exists(), reason="the images of others are not here")
def test_a_real_file_in_the_order_b_g_r_a_is_read_as_r_g_b():
    found = []
    for path in sorted(SHARED.glob("fixtures/*.tif")):
        with rasterio.open(path) as dataset:
            if [one.name for one in dataset.colorinterp][:3] == ["blue", "green", "red"]:
                found.append(path)
    for path in found:
        assert open_image(str(path), Wanted(RGB)).bands == (3, 2, 1)
    assert found


def test_numbers_of_a_palette_are_no_colours_unless_they_are_asked_for(tmp_path):
    pixels = noise(1, 9, 11)
    path = write_image(tmp_path / "a.tif", pixels, photometric="palette")
    greys = {number: (number, number, number, 255) for number in range(256)}
    for names in (RGB, ("grey",)):
        with rasterio.open(path, "r+") as dataset:
            dataset.write_colormap(1, greys | {7: (255, 0, 0, 255)})
        with pytest.raises(SceneError, match=r"numbers in a palette: .* -expand rgb\), or say --bands 1"):
            open_image(str(path), Wanted(names))
    assert open_image(str(path), Wanted(("class",), numbers=(1,))).bands == (1,)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, greys)
    np.testing.assert_array_equal(Reader(open_image(str(path), Wanted(("grey",)))).read(Rect(0, 0, 9, 11))[0], pixels)
