"""One result as an item: addresses as others write them and without secrets, classes in every form of mask, names."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.assets import mlm_name
from pipeline.errors import SceneError
from pipeline.item import item_of, model_item
from pipeline.raster.naming import demand_name
from pipeline.result import Result, Standing, read_result
from tests import stac
from tests.results import make_one


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return read_result(make_one(tmp_path_factory.mktemp("item")), "scene")


def like(result, **changes):
    """The same result with parts of what is noted of it replaced, such as scene={...}."""
    about = copy.deepcopy(result.about)
    for part, said in changes.items():
        about[part] = about[part] | said if isinstance(said, dict) else said
    return Result(**{name: getattr(result, name) for name in Result.__slots__} | {"about": about})


def said_of(result):
    item = item_of(result, "../../..", "../..")
    stac.validate(item, "/out/catalogue/2026/2026-11-23/scene.item.json")
    json.dumps(item, allow_nan=False)
    return item


@pytest.mark.parametrize(
    ("uri", "href"),
    [
        ("/data/a b.tif", "file:///data/a%20b.tif"),
        ("https://example.org/a.tif?***", "https://example.org/a.tif"),
        ("/vsis3/bucket/a.tif", "s3://bucket/a.tif"),
        ("/vsizip/{/data/a.zip}/b.tif", "/vsizip/%7B/data/a.zip%7D/b.tif"),
    ],
)
def test_the_image_is_linked_by_its_address(result, uri, href):
    item = said_of(like(result, scene={"uri": uri}))
    assert [link["href"] for link in item["links"] if link.get("title") == "The image"] == [href]
    assert "***" not in json.dumps(item)


@pytest.mark.parametrize(
    ("address", "version", "said"),
    [
        ("/data/a.tif", "1577836800000000001", "2020-01-01T00:00:00Z"),
        ("https://example.org/a.tif", "Wed,_01_Jan_2020_00:00:00_GMT", "2020-01-01T00:00:00Z"),
        ("https://example.org/a.tif", '"33a64df551425fcc55e4d42a148795d9"', None),
        ("/data/a.zarr", "0123456789abcdef", None),
    ],
)
def test_without_a_date_of_its_own_the_file_s_counts_else_the_result_s(result, address, version, said):
    files = [{"address": address, "size": 1, "version": version}]
    properties = said_of(like(result, scene={"files": files}))["properties"]
    assert properties["datetime"] == (said or result.made)
    assert properties["maskmill:datetime_from"] == ("the source's time of change" if said else "the result's making")


def test_a_mask_of_layers_has_classes_for_each_band(result):
    products = [{"name": "mask", "labels": ["class 1", "class 2"], "dtype": "uint16"}]
    mask = said_of(like(result, model={"layered": True}, products=products))["assets"]["mask"]
    assert [band["name"] for band in mask["bands"]] == ["class 1", "class 2"]
    for band in mask["bands"]:
        assert [one["value"] for one in band["classification:classes"]] == [0, 1, 65533, 65534, 65535]


def test_numbers_have_nan_for_nodata(result):
    products = [*result.about["products"], {"name": "values", "labels": [], "dtype": "float32"}]
    assets = said_of(like(result, products=products))["assets"]
    assert (assets["values"]["nodata"], assets["mask"]["nodata"]) == ("nan", 255)


def test_a_crs_without_a_code_is_told_by_its_wkt(result):
    properties = said_of(like(result, scene={"code": None}))["properties"]
    assert "proj:code" not in properties
    assert properties["proj:wkt2"] == result.about["scene"]["crs"]


@given(st.text(max_size=12))
def test_any_name_is_made_one_that_mlm_takes(name):
    assert re.fullmatch(stac.MLM_FIELDS["mlm:name"]["pattern"], mlm_name(name))


def test_a_model_s_item_is_valid_whatever_it_is_called(result):
    about = copy.deepcopy(result.about)
    about["model"]["mlm"]["mlm:name"] = "8 ürban?"
    item = model_item(about)
    stac.validate(item, "/out/catalogue/models/a.json")
    assert item["properties"]["title"] == "8 ürban?"


@pytest.mark.parametrize("name", ["catalogue", "scenes.parquet"])
def test_no_scene_is_called_as_what_lies_beside_the_results(name):
    with pytest.raises(SceneError, match="beside the results"):
        demand_name(name)


def test_what_is_not_begun_is_no_item_of_anything():
    item = item_of(Result("a", Standing.REFUSED, "It is damaged.", 1), ".", ".")
    assert (item["assets"], item["links"], item["geometry"]) == ({}, [], None)
