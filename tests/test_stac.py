"""Scenes of a STAC catalogue: a static one that pystac wrote, an API that answers page by page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from rasterio import Affine

from flows.listing import listed
from flows.sources.listed import LeftOut
from flows.tasks import run_job, verify_scene
from pipeline.document import load_job
from pipeline.errors import SceneError, SettingsError
from pipeline.raster.opening import Wanted, open_image
from pipeline.settings import BandSource, Job
from tests.images import noise, write_image
from tests.mill import world
from tests.oracle import read_mask
from tests.searched import api
from tests.served import served

RGB = ("red", "green", "blue")
PROFILE = {
    "tiled": True,
    "blockxsize": 64,
    "blockysize": 64,
    "crs": "EPSG:32633",
    "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000),
}


def catalogue_of(folder, days=(1, 2, 3), form="1.1"):
    """Write a catalogue of items with an asset for each band; returns its file."""
    root = pystac.Catalog("root", "of the tests")
    below = pystac.Collection(
        "fields", "x", pystac.Extent(pystac.SpatialExtent([[0, 0, 9, 9]]), pystac.TemporalExtent([[None, None]]))
    )
    root.add_child(below)
    for day in days:
        west = float(day)
        box = [west, 45.0, west + 0.5, 46.0]
        item = pystac.Item(
            f"scene-{day}", None, box, datetime(2026, 5, day, 10, tzinfo=UTC), {"eo:cloud_cover": 10 * day}
        )
        item.geometry = {"type": "Point", "coordinates": [west, 45.5]}
        for number, band in enumerate(RGB):
            path = folder / f"{day}-B0{4 - number}.tif"
            write_image(path, noise(1, 96, 96, "uint16", seed=10 * day + number) % 4000, **PROFILE)
            more = {"eo:common_name": band, "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}
            fields = {"bands": [{"name": f"B0{4 - number}", **more}]}
            if form == "1.0":
                fields = {
                    "eo:bands": [{"name": f"B0{4 - number}", "common_name": band}],
                    "raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}],
                }
            kind = "image/tiff; application=geotiff; profile=cloud-optimized"
            item.add_asset(
                f"B0{4 - number}", pystac.Asset(str(path), media_type=kind, roles=["data"], extra_fields=fields)
            )
        item.add_asset("thumbnail", pystac.Asset("t.png", media_type="image/png", roles=["thumbnail"]))
        below.add_item(item)
    root.normalize_hrefs(str(folder))
    root.make_all_asset_hrefs_relative()
    root.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def found(*scenes, left=None, **more):
    return list(listed(Job(scenes=scenes, model="m", out="out", **more), left))


def names(*scenes, **more):
    return [one.entry.name for one in found(*scenes, **more)]


@pytest.mark.parametrize("form", ["1.0", "1.1"])
def test_an_item_is_a_scene_of_its_assets(tmp_path, form):
    catalogue = catalogue_of(tmp_path, days=(1,), form=form)
    if form == "1.0":
        for path in tmp_path.rglob("*.json"):
            path.write_text(path.read_text().replace('"stac_version": "1.1.0"', '"stac_version": "1.0.0"'))
    (one,) = found(str(catalogue))
    assert one.entry.name == "fields--scene-1"
    assert one.taken == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert one.entry.uri == str(tmp_path / "fields/scene-1/scene-1.json")
    red = one.entry.bands["red"]
    assert Path(red.file).resolve() == tmp_path / "1-B04.tif"
    assert (red.band, red.gain, red.offset, red.nodata) == (1, 1e-4, -0.1, 0)
    assert one.entry.bands["b04"] == red
    scene = open_image(one.entry.uri, Wanted(("green", "Red"), assets=one.entry.bands), one.entry.name)
    assert (scene.gain, scene.offset) == ((1e-4, 1e-4), (-0.1, -0.1))
    assert [layer.part.nodata for layer in scene.layers] == [(0,), (0,)]
    with pytest.raises(SceneError, match="has no band nir; it has"):
        open_image(one.entry.uri, Wanted(("nir",), assets=one.entry.bands), one.entry.name)


def test_a_static_catalogue_is_asked_like_an_api(tmp_path):
    said = {"stac": str(catalogue_of(tmp_path)), "collections": ["fields"]}
    assert names(said) == ["scene-1", "scene-2", "scene-3"]
    assert names({**said, "collections": ["others"]}) == []
    assert names({**said, "bbox": [1.8, 44, 2.1, 50]}) == ["scene-2"]
    assert names({**said, "datetime": "2026-05-02/.."}) == ["scene-2", "scene-3"]
    assert names({**said, "datetime": "2026-05-03"}) == ["scene-3"]
    assert names({**said, "query": {"eo:cloud_cover": {"lt": 25, "gt": 10}}}) == ["scene-2"]
    assert names({**said, "max_items": 2, "name": "x"}) == ["x--scene-1", "x--scene-2"]
    with pytest.raises(SettingsError, match="knows no `filter`"):
        names({**said, "filter": "a = 1"})
    with pytest.raises(SettingsError, match="has no like"):
        names({**said, "query": {"eo:cloud_cover": {"like": 25}}})


def test_assets_are_chosen_by_the_job_or_by_what_they_are_for(tmp_path):
    said = {"stac": str(catalogue_of(tmp_path, days=(1,))), "collections": ["fields"]}
    (one,) = found({**said, "assets": {"nir": "B02", "red": "B04"}})
    assert {band: Path(source.file).name for band, source in one.entry.bands.items()} == {
        "nir": "1-B02.tif",
        "red": "1-B04.tif",
    }
    (one,) = found({**said, "assets": "B03"})
    assert (Path(one.entry.uri).name, one.entry.bands) == ("1-B03.tif", None)
    left = LeftOut()
    assert found({**said, "assets": {"red": "B11"}}, left=left) == []
    assert "has no image asset `B11`, only B04, B03, B02" in left.problems[0]


def item_of(assets, **properties):
    shape = {"type": "Point", "coordinates": [0, 0]}
    said = {"datetime": "2026-05-01T00:00:00Z", **properties}
    fixed = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "i",
        "geometry": shape,
        "bbox": [0, 0, 0, 0],
        "links": [],
    }
    return {**fixed, "properties": said, "assets": assets}


def entry_of(folder, assets, **properties):
    path = folder / "item.json"
    path.write_text(json.dumps(item_of(assets, **properties)))
    left = LeftOut()
    entries = [one.entry for one in found(str(path), left=left)]
    return entries[0] if entries else left.problems[0]


def test_what_an_item_says_decides(tmp_path):
    tiff = {"href": "a.tif", "type": "image/tiff"}
    assert entry_of(tmp_path, {"data": tiff}).uri == str(tmp_path / "a.tif")
    colours = [{"eo:common_name": band} for band in RGB]
    visual = {"href": "v.tif", "type": "image/tiff", "roles": ["visual"], "bands": colours}
    both = {"visual": visual, "red-jp2": {"href": "r.jp2", "type": "image/jp2", "bands": colours[:1]}}
    both["red"] = {"href": "r.tif", "type": "image/tiff", "bands": colours[:1]}
    bands = entry_of(tmp_path, both).bands
    assert (bands["red"].file, bands["red"].band) == (str(tmp_path / "r.tif"), 1)
    assert (bands["green"].file, bands["green"].band) == (str(tmp_path / "v.tif"), 2)
    scaled = {**tiff, "bands": [{"raster:scale": 0.5, "name": "x", "nodata": "nan"}]}
    bands = entry_of(tmp_path, {"data": scaled}).bands
    assert bands["x"] == BandSource(file=str(tmp_path / "a.tif"), gain=0.5, offset=0.0)
    shifted = {**tiff, "bands": [{"raster:scale": 0.5, "raster:offset": -1, "name": "x"}]}
    applied = {"earthsearch:boa_offset_applied": True}
    assert entry_of(tmp_path, {"data": shifted}, **applied).bands["x"].offset == 0
    assert "none of its assets is an image" in entry_of(tmp_path, {"meta": {"href": "m.xml"}})
    assert "does not name their bands" in entry_of(tmp_path, {key: {**tiff, "bands": [{}, {}]} for key in "ab"})
    assert "is no STAC item" in entry_of(tmp_path, {"data": {"type": "image/tiff"}})
    assert "an address of a kind that is not read" in entry_of(tmp_path, {"data": {**tiff, "href": "/vsimem/x"}})


def test_a_catalogue_of_others_names_no_file_of_this_machine(tmp_path):
    for href in ("/etc/secret.tif", "file:///etc/secret.tif"):
        assets = {"data": {"href": href, "type": "image/tiff"}, "more": {"href": "b.tif", "type": "image/tiff"}}
        (tmp_path / "item.json").write_text(json.dumps(item_of(assets)))
        left = LeftOut()
        with served(tmp_path) as server:
            assert found(f"{server.url}/item.json", left=left) == []
        assert "it lies on a network and names a file of this machine" in left.problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "its type is None"),
        ("[1]", "is none"),
        ("{", "is none"),
        (None, "cannot be read: No such file"),
        ('{"type": []}', "its type is"),
        ('{"type": "Catalog", "links": 1}', "its `links` are no list of objects"),
        ('{"type": "Catalog", "links": [0]}', "its `links` are no list of objects"),
        ('{"type": "FeatureCollection", "features": [3]}', "its `features` are no list of objects"),
    ],
)
def test_what_is_no_catalogue_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SceneError, match=said) as caught:
        found({"stac": str(path)})
    assert "\n" not in caught.value.message


# An API


def test_an_api_is_searched_page_by_page(tmp_path):
    catalogue_of(tmp_path)
    items = []
    with served(tmp_path) as files:
        for path in sorted(tmp_path.glob("fields/*/*.json")):
            item = json.loads(path.read_text())
            for asset in item["assets"].values():
                asset["href"] = f"{files.url}/{Path(asset['href']).name}"
            items.append({**item, "links": []})
        with api(items) as (url, asked):
            said = {
                "stac": url,
                "collections": ["fields"],
                "datetime": "2026-05",
                "query": {"eo:cloud_cover": {"lt": 99}},
            }
            (one, *_) = scenes = found(said)
            assert [scene.entry.name for scene in scenes] == ["scene-1", "scene-2", "scene-3"]
            assert len(asked) == 2
            assert asked[0]["collections"] == ["fields"]
            assert asked[0]["datetime"] == "2026-05-01T00:00:00Z/2026-05-31T23:59:59Z"
            assert asked[0]["query"] == {"eo:cloud_cover": {"lt": 99}}
            assert names({**said, "bbox": [1.5, 0, 3.5, 90]}) == ["scene-2", "scene-3"]
            assert names({**said, "max_items": 1}) == ["scene-1"]
            scenes = listed(Job(scenes=(said,), model="m", out="out"))
            asked.clear()
            next(scenes)
            assert len(asked) == 1  # the second page is not asked for before it is needed
        scene = open_image(one.entry.uri, Wanted(("red", "blue"), assets=one.entry.bands), one.entry.name)
        assert [layer.part.uri.startswith("/vsicurl/http") for layer in scene.layers] == [True, True]


def test_an_api_that_does_not_answer_is_one_sentence():
    with pytest.raises(
        SceneError, match=r"The STAC document http://127.0.0.1:9/ cannot be read: no server answers there\."
    ):
        found({"stac": "http://127.0.0.1:9/"})


# From the catalogue to the masks


@pytest.mark.slow
def test_a_catalogues_masks_are_those_of_the_same_bands_by_hand(tmp_path):
    said = world(tmp_path)
    card = {"units": "reflectance", "scaling": {"kind": "none"}}
    common = {**said, "model": str(tmp_path / "net.onnx"), "cluster": "inline", "card": card}
    (tmp_path / "in").mkdir()
    catalogue_of(tmp_path / "in", days=(1,))
    hand = tmp_path / "by-hand/scene-1"
    hand.mkdir(parents=True)
    for number in (2, 3, 4):
        path = hand / f"B0{number}.tif"
        path.write_bytes((tmp_path / f"in/1-B0{number}.tif").read_bytes())
        with rasterio.open(path, "r+") as file:
            file.nodata = 0
    files = {band: {"file": f"B0{4 - at}.tif", "gain": 1e-4, "offset": -0.1} for at, band in enumerate(RGB)}
    origins = {
        "stac": {"scenes": [{"stac": str(tmp_path / "in/catalog.json"), "collections": ["fields"]}]},
        "hand": {"scenes": [str(hand)], "bands": files},
    }
    for out, origin in origins.items():
        report = run_job(load_job(None, {**common, **origin, "out": tmp_path / out}))
        assert report.exit_code == 0, report.problems
    np.testing.assert_array_equal(*(read_mask(tmp_path / out / "scene-1") for out in origins))
    chunks = [sorted((tmp_path / out / "scene-1/mask.zarr").rglob("c/*/*")) for out in origins]
    assert [one.read_bytes() for one in chunks[0]] == [one.read_bytes() for one in chunks[1]] != []
    assert verify_scene(tmp_path / "stac/scene-1", 2).differing == 0
