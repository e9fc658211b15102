"""Landsat's and Sentinel-2's deliveries: which file is which band, and what its numbers mean."""

import json
import math
from xml.sax.saxutils import escape

import pytest

from pipeline.errors import SceneError
from pipeline.raster.layout import layout_of
from tests.images import SHARED

LEVEL_1 = {
    "IMAGE_ATTRIBUTES": {
        "SPACECRAFT_ID": "LANDSAT_8",
        "SUN_ELEVATION": "30.0",
        "DATE_ACQUIRED": "2024-05-06",
        "SCENE_CENTER_TIME": "10:11:12.1234560Z",
    },
    "LEVEL1_RADIOMETRIC_RESCALING": {
        "REFLECTANCE_MULT_BAND_4": "2.0E-05",
        "REFLECTANCE_ADD_BAND_4": "-0.1",
        "RADIANCE_MULT_BAND_10": "3.3E-04",
    },
}
LEVEL_2 = LEVEL_1 | {
    "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {"REFLECTANCE_MULT_BAND_4": "2.75e-05", "REFLECTANCE_ADD_BAND_4": "-0.2"}
}


def write_mtl(folder, groups, suffix="txt", name="LC08_L1TP_190026"):
    folder.mkdir(exist_ok=True)
    if suffix == "json":
        text = json.dumps({"LANDSAT_METADATA_FILE": groups})
    elif suffix == "xml":
        inner = "".join(
            f"<{group}>{''.join(f'<{k}>{escape(v)}</{k}>' for k, v in said.items())}</{group}>"
            for group, said in groups.items()
        )
        text = f"<?xml version='1.0'?><LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>"
    else:
        lines = ["GROUP = LANDSAT_METADATA_FILE"]
        for group, said in groups.items():
            lines += [f"  GROUP = {group}", *(f'    {k} = "{v}"' for k, v in said.items()), f"  END_GROUP = {group}"]
        text = "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])
    (folder / f"{name}_MTL.{suffix}").write_text(text)
    return name


@pytest.mark.parametrize("suffix", ["txt", "json", "xml"])
def test_landsats_level_1_is_reflectance_over_the_suns_sine(tmp_path, suffix):
    name = write_mtl(tmp_path / "scene", LEVEL_1, suffix)
    for band in ("B4", "B10", "B5"):
        (tmp_path / "scene" / f"{name}_{band}.TIF").touch()
    (tmp_path / "scene" / f"{name}_QA_PIXEL.TIF").touch()
    for place in (tmp_path / "scene", tmp_path / "scene" / f"{name}_MTL.{suffix}"):
        found = layout_of(place)
        assert (found.name, found.kind) == (name, "Landsat")
        assert found.taken == ("2024-05-06T10:11:12Z", "SCENE_CENTER_TIME")
        assert set(found.bands) == {"b4", "red", "b5", "nir", "nir08", "b10", "lwir11"}
        red = found.bands["red"]
        assert red.path.name == f"{name}_B4.TIF"
        assert (red.gain, red.offset) == (pytest.approx(2e-5 / 0.5), pytest.approx(-0.2))
        assert (found.bands["lwir11"].gain, found.bands["lwir11"].offset) == (None, None)


def test_landsats_level_2_is_surface_reflectance_without_the_sun(tmp_path):
    name = write_mtl(tmp_path / "scene", LEVEL_2)
    (tmp_path / "scene" / f"{name}_SR_B4.TIF").touch()
    red = layout_of(tmp_path / "scene").bands["red"]
    assert (red.gain, red.offset, red.nodata) == (2.75e-5, -0.2, 0)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"A": {"REFLECTANCE_MULT_BAND_4": "many"}}, "cannot be read: could not convert"),
        ({"A": {"REFLECTANCE_MULT_BAND_4": "1", "REFLECTANCE_ADD_BAND_4": "0"}}, "sun elevation of nan"),
        (LEVEL_1 | {"IMAGE_ATTRIBUTES": {"SUN_ELEVATION": "-3"}}, "sun elevation of -3"),
        ({}, "cannot be read: it holds no groups"),
        (LEVEL_1, "has metadata and no band beside it"),
    ],
)
def test_landsats_metadata_that_says_nothing_usable_is_refused(tmp_path, groups, said):
    name = write_mtl(tmp_path / "scene", groups, "json")
    if groups is not LEVEL_1:
        (tmp_path / "scene" / f"{name}_B4.TIF").touch()
    with pytest.raises(SceneError, match=said):
        layout_of(tmp_path / "scene")


def test_a_folder_of_two_landsat_scenes_is_none(tmp_path):
    for name in ("LC08_A", "LC08_B"):
        write_mtl(tmp_path / "scene", LEVEL_1, name=name)
    with pytest.raises(SceneError, match="2 Landsat scenes, LC08_A, LC08_B"):
        layout_of(tmp_path / "scene")


@pytest.mark.skipif(not SHARED.exists(), reason="the images of others are not here")
def test_a_real_landsat_scene_is_recognised():
    found = layout_of(SHARED / "scenes/landsat8-LC80200392015216")
    assert {"blue", "green", "red", "nir", "swir16", "swir22", "pan"} < set(found.bands)
    sine = math.sin(math.radians(64.74360932))
    assert found.bands["swir22"].gain == pytest.approx(2e-5 / sine)
    assert found.bands["pan"].path.name == "test_B8.tif"


def write_safe(folder, level="1C", offsets="", names=("T33_B02.jp2", "T33_B04.jp2", "T33_B8A.jp2"), granules=1):
    scale = "<QUANTIFICATION_VALUE unit='none'>10000</QUANTIFICATION_VALUE>"
    if level == "2A":
        scale = "<BOA_QUANTIFICATION_VALUE unit='none'>10000</BOA_QUANTIFICATION_VALUE>"
    for granule in range(granules):
        for name in names:
            path = folder / "GRANULE" / f"L1C_{granule}" / "IMG_DATA" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (folder / f"MTD_MSIL{level}.xml").write_text(f"<n1:L xmlns:n1='https://psd'><a>{scale}{offsets}</a></n1:L>")


@pytest.mark.parametrize("tag", ["RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"])
def test_sentinel_2s_offset_is_that_of_its_processing_baseline(tmp_path, tag):
    folder = tmp_path / "S2A_MSIL1C_20240101.SAFE"
    start = "<PRODUCT_START_TIME>2024-01-01T10:11:12.345Z</PRODUCT_START_TIME>"
    write_safe(folder, offsets=f"<{tag} band_id='3'>-1000</{tag}>{start}")
    found = layout_of(folder)
    assert found.taken == ("2024-01-01T10:11:12Z", "PRODUCT_START_TIME")
    assert found.name == "S2A_MSIL1C_20240101"
    assert set(found.bands) == {"b02", "b2", "blue", "b04", "b4", "red", "b8a", "nir08"}
    assert (found.bands["red"].gain, found.bands["red"].offset) == (1e-4, -0.1)
    assert (found.bands["blue"].gain, found.bands["blue"].offset) == (1e-4, 0)
    assert layout_of(folder / "MTD_MSIL1C.xml") == found


def test_of_a_band_at_several_resolutions_the_finest_is_taken(tmp_path):
    folder = tmp_path / "S2A_MSIL2A.SAFE"
    write_safe(folder, "2A", names=("R60m/T_B02_60m.jp2", "R10m/T_B02_10m.jp2", "R20m/T_B02_20m.jp2"))
    assert layout_of(folder).bands["blue"].path.name == "T_B02_10m.jp2"


def test_a_sentinel_2_product_of_several_tiles_or_of_bad_numbers_is_refused(tmp_path):
    write_safe(tmp_path / "a.SAFE", granules=2)
    with pytest.raises(SceneError, match="holds 2 tiles"):
        layout_of(tmp_path / "a.SAFE")
    write_safe(tmp_path / "b.SAFE", offsets="<RADIO_ADD_OFFSET band_id='3'>much</RADIO_ADD_OFFSET>")
    with pytest.raises(SceneError, match="cannot be read: could not convert"):
        layout_of(tmp_path / "b.SAFE")
    (tmp_path / "b.SAFE" / "MTD_MSIL1C.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
    with pytest.raises(SceneError, match="declares a document type"):
        layout_of(tmp_path / "b.SAFE")


def test_what_is_no_delivery_is_not_recognised(tmp_path):
    (tmp_path / "image.tif").touch()
    assert layout_of(tmp_path) is None
    assert layout_of(tmp_path / "image.tif") is None
    assert layout_of(tmp_path / "nowhere") is None
