"""The catalogue: what the ledgers say and nothing else, valid, found by clients, old or new after any kill."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import geopandas
import pyarrow.parquet as pq
import pystac
import pystac_client
import pytest
import stac_geoparquet.arrow
from rasterio.crs import CRS

from pipeline.catalog import update
from pipeline.errors import SettingsError
from pipeline.index import read_index
from pipeline.nights import Nights, put_nights
from pipeline.result import Standing
from tests import mill, stac
from tests.results import copy_result, files, make_one, note, rows, walk

ROOT = Path(__file__).parents[1]
PLACES = {
    "geographic": (4326, (0.01, 0, 15, 0, -0.01, 48)),
    "polar": (3413, (1000, 0, -45_000, 0, -1000, 35_000)),
    "pacific": (32660, (1000, 0, 690_000, 0, -1000, 5_000_000)),
}


def wkt(code):
    return CRS.from_epsg(code).to_wkt(version="WKT2_2019")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real result, `scene`, alone in its folder."""
    return make_one(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """A folder of results from everywhere, catalogued."""
    out = tmp_path_factory.mktemp("whole") / "out"
    shutil.copytree(made, out)
    for name, (code, transform) in PLACES.items():
        copy_result(out, made / "scene", name, crs=wkt(code), code=f"EPSG:{code}", transform=list(transform))
    copy_result(out, made / "scene", "nowhere", crs=None, code=None, transform=None, resolution=None)
    copy_result(out, made / "scene", "slide", crs=None, code=None, transform=[0.5, 0, 0, 0, 0.5, 0], slide=True)
    copy_result(out, made / "scene", "old", taken=["2019-02-03T04:05:06Z", "ACQUISITIONDATETIME"])
    copy_result(out, made / "scene", "begun")
    (out / "begun" / "report.json").unlink()
    put_nights(out, "broken", Nights(2, "The image broken.tif is damaged.", "2026-05-02", "2999-01-01"))
    update(out, None)
    return out


def items(out):
    found = walk(out)
    assert all(len(each) == 1 for each in found.values()), "a scene has one item"
    return {name: each[0] for name, each in found.items()}


def test_every_published_scene_has_an_item_and_every_known_one_a_row(whole):
    published = {"scene", *PLACES, "nowhere", "slide", "old"}
    assert set(items(whole)) == published
    assert list(rows(whole)) == sorted({*published, "begun", "broken"})
    states = {name: row["maskmill:state"] for name, row in rows(whole).items()}
    assert states == dict.fromkeys(published, "complete") | {"begun": "unfinished", "broken": "quarantined"}


def test_pystac_validates_everything(whole):
    for path in (whole / "catalogue").rglob("*.json"):
        stac.validate(json.loads(path.read_bytes()), path)


def test_a_client_walks_it_and_finds_its_files(whole):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no API
        client = pystac_client.Client.open(str(whole / "catalogue" / "catalog.json"))
        found = {item.id: item for item in client.get_items(recursive=True)}
    assert set(found) == set(items(whole))
    for item in found.values():
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).exists()
        (model,) = [link for link in item.get_links("derived_from") if link.extra_fields.get("mlm:name")]
        assert model.resolve_stac_object().target.properties["mlm:framework"] == "ONNX"


def test_checksums_and_lengths_are_the_files(whole):
    for name, item in items(whole).items():
        summed = {asset["href"]: asset for asset in item["assets"].values() if "file:size" in asset}
        assert len(summed) == 3, "mask, quicklook and report"
        for href, asset in summed.items():
            data = (whole / name / Path(href).name).read_bytes()
            assert asset["file:size"] == len(data)
            assert asset["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()


def test_where_a_scene_lies_is_said_or_why_it_is_not(whole):
    found = items(whole)
    for name in ("nowhere", "slide"):
        assert found[name]["geometry"] is None
        assert "bbox" not in found[name]
        assert found[name]["properties"]["maskmill:place"].startswith("none: ")
    assert found["polar"]["bbox"][3] == 90.0
    assert found["pacific"]["geometry"]["type"] == "MultiPolygon"
    assert found["pacific"]["bbox"][0] > found["pacific"]["bbox"][2]
    assert found["scene"]["properties"]["proj:code"] == "EPSG:32632"
    assert found["scene"]["properties"]["proj:shape"] == [70, 90]
    assert found["scene"]["properties"]["gsd"] == 10


def test_pystac_s_extensions_read_what_theirs_are(whole):
    item = pystac.Item.from_file(str(whole / read_index(whole).get("scene").item))
    mask = item.assets["mask"]
    assert item.ext.proj.code == "EPSG:32632"
    assert list(item.ext.proj.shape) == [70, 90]
    assert [one.color_hint for one in mask.ext.classification.classes[:3]] == ["999999", "0072B2", "009E73"]
    assert mask.ext.file.checksum.startswith("1220")
    assert mask.media_type == pystac.MediaType.COG


def test_when_it_was_taken_or_what_stands_for_that(whole):
    old, scene = items(whole)["old"]["properties"], items(whole)["scene"]["properties"]
    assert (old["datetime"], old["maskmill:datetime_from"]) == ("2019-02-03T04:05:06Z", "ACQUISITIONDATETIME")
    assert scene["maskmill:datetime_from"] == "the source's time of change"
    assert (whole / "catalogue" / "2019" / "2019-02-03" / "old.item.json").is_file()


def test_pixels_by_class_are_those_of_the_report(whole):
    said = {one["value"]: one for one in items(whole)["scene"]["properties"]["maskmill:classes"]}
    report = json.loads((whole / "scene" / "report.json").read_bytes())
    assert said == {one["value"]: one for one in report["classes"]}
    classes = items(whole)["scene"]["assets"]["mask"]["classification:classes"]
    assert [one["value"] for one in classes] == [0, 10, 20, 253, 254, 255]


def _plain(said):
    """A mapping without what is None, its times without fractions."""
    if isinstance(said, dict):
        return {key: _plain(value) for key, value in said.items() if value is not None}
    if isinstance(said, list):
        return [_plain(value) for value in said]
    return said.replace(".000000Z", "Z") if isinstance(said, str) else said


def test_the_index_is_the_items_to_readers_of_stac_geoparquet(whole):
    table = pq.read_table(whole / "scenes.parquet", filters=[("maskmill:item", "!=", "")])
    table = table.filter(table.column("geometry").is_valid())
    # ^ their reader takes no item without a geometry
    found = {item["id"]: _plain(item) for item in stac_geoparquet.arrow.stac_table_to_items(table)}
    expected = {name: item for name, item in items(whole).items() if item["geometry"]}
    assert set(found) == set(expected)
    for name, item in expected.items():
        place = found[name]["properties"].pop("maskmill:item")
        assert json.loads((whole / place).read_bytes()) == item
        assert found[name]["properties"] == _plain(item["properties"])
        assert {key: {**asset, "href": ""} | _up(asset) for key, asset in found[name]["assets"].items()} == {
            key: {**_plain(asset), "href": ""} | _up(asset) for key, asset in item["assets"].items()
        }
        assert found[name]["bbox"] == item["bbox"]
        stac.validate(found[name], whole / "scenes.parquet")
        for asset in found[name]["assets"].values():
            assert (whole / asset["href"]).exists(), "as seen from the index"


def _up(asset):
    return {"processing:expression": None} if "processing:expression" in asset else {}


def test_the_index_is_a_table_of_places_to_geopandas(whole):
    frame = geopandas.read_parquet(whole / "scenes.parquet").set_index("id")
    assert frame.crs.to_authority()[1] in {"4326", "CRS84"}
    assert frame.geometry["scene"].bounds == tuple(items(whole)["scene"]["bbox"])
    assert frame.geometry["slide"] is None


def test_the_index_is_read_by_name(whole):
    index = read_index(whole)
    assert index is not None
    assert index.names == sorted(rows(whole))
    scene, broken = index.get("scene"), index.get("broken")
    assert index.get("nobody") is None
    assert scene is not None
    assert broken is not None
    assert (scene.state, scene.failed, scene.nights) == (Standing.COMPLETE, 0, 0)
    (source,) = scene.sources
    there = Path(source.address).stat()
    assert (source.size, source.version) == (there.st_size, str(there.st_mtime_ns))
    assert (broken.state, broken.nights) == (Standing.QUARANTINED, 2)
    assert broken.reason == "The image broken.tif is damaged."


def test_a_rebuild_of_what_is_right_writes_no_file_but_the_index(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    before = files(tmp_path / "out")
    done = update(tmp_path / "out", None)
    assert (done.written, done.removed) == (0, 0)
    assert files(tmp_path / "out") == before
    assert done.states == {"complete": 7, "unfinished": 1, "quarantined": 1}


@pytest.mark.parametrize("lost", ["catalogue", "scenes.parquet", "damaged"])
def test_a_rebuild_needs_the_ledgers_alone(whole, tmp_path, lost):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    expected = files(out)
    if lost == "damaged":
        (out / "scenes.parquet").write_bytes(b"PAR1, and then nothing that is Parquet")
        (out / "catalogue" / "catalog.json").write_bytes(b"{")
    elif lost == "catalogue":
        shutil.rmtree(out / lost)
    else:
        (out / lost).unlink()
    update(out, None)
    assert files(out) == expected


def changed(whole, out):
    """A world in which a scene is gone, one has another date, one is new, one forgotten; and whom to tell of."""
    shutil.copytree(whole, out)
    shutil.rmtree(out / "polar")
    note(out, "old", taken=["2020-01-01T00:00:00Z", "ACQUISITIONDATETIME"])
    copy_result(out, out / "scene", "zealand", taken=["2019-02-03T00:00:00Z", "TIFFTAG_DATETIME"])
    put_nights(out, "broken", None)
    return ["old", "polar", "broken"]


def test_an_update_is_a_rebuild(whole, tmp_path):
    """It finds by itself what is new, and what is gone."""
    updated, rebuilt = tmp_path / "updated", tmp_path / "rebuilt"
    names = changed(whole, updated)
    shutil.copytree(updated, rebuilt)
    update(updated, names)
    update(rebuilt, None)
    shutil.rmtree(rebuilt / "catalogue")
    (rebuilt / "scenes.parquet").unlink()
    update(rebuilt, None)
    assert files(updated) == files(rebuilt)
    assert set(items(updated)) == {*PLACES, "scene", "nowhere", "slide", "old", "zealand"} - {"polar"}
    assert not (updated / "catalogue" / "2019" / "2019-02-03" / "old.item.json").exists()


def test_an_update_opens_nothing_of_other_scenes(whole, tmp_path):
    out = tmp_path / "out"
    names = changed(whole, out)
    for other in set(items(out)) - {*names, "zealand"}:
        shutil.rmtree(out / other / "ledger")
    update(out, names)
    assert {name for name, row in rows(out).items() if row["maskmill:item"]} == set(items(out))
    assert "pacific" in items(out), "whose ledger is not there to be read"


@pytest.mark.slow
def test_a_kill_at_any_instant_leaves_the_old_or_the_new(whole, tmp_path):
    """Of every scene its old or its new item, of the index the old or the new one; the next update does the rest."""
    world, place = tmp_path / "world", tmp_path / "killed"
    names = changed(whole, world)
    command = [sys.executable, "-m", "tests.crash", str(world), str(place), json.dumps(names)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    before, after = walk(world), None
    last = max(place.iterdir(), key=lambda there: int(there.name))
    after, old, new, expected = walk(last), rows(world), rows(last), files(last)
    assert old != new
    committed = 0
    for there in sorted(place.iterdir(), key=lambda each: int(each.name)):
        for name, found in walk(there).items():
            for item in found:
                assert item in [*before.get(name, []), *after.get(name, [])], (there, name)
        index = rows(there)
        assert index in (old, new), there
        if index == new:
            committed += 1
            assert {name: found[0] for name, found in walk(there).items()} == {
                name: found[0] for name, found in after.items()
            }, "the index is the last that is written"
        noted = any((there / "catalogue" / ".todo").glob("*.json"))
        update(there, [] if noted or index == new else names)
        assert files(there) == expected, there
    assert 1 < committed < len(list(place.iterdir())) - 5


def test_updates_at_once_leave_what_one_after_the_other_leave(whole, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    names = changed(whole, out)
    shutil.copytree(out, alone)
    update(alone, names)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda each: update(out, each), [names, ["zealand"], None]))
    assert {(each.scenes, each.items) for each in done} == {(len(rows(alone)), len(items(alone)))}
    assert files(out) == files(alone)


def test_a_damaged_ledger_is_an_unfinished_scene_that_says_why(whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "old" / "ledger" / "journal.jsonl").write_bytes(b"nonsense")
    update(out, ["old"])
    row = rows(out)["old"]
    assert (row["maskmill:state"], row["maskmill:item"]) == ("unfinished", None)
    assert "does not begin with a header" in row["maskmill:reason"]
    assert "old" not in items(out)


def test_the_command_makes_it_and_says_so(made, tmp_path):
    shutil.copytree(made, tmp_path / "out")
    done = mill.maskmill("catalogue", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert mill.last_json(done)["states"] == {"complete": 1}
    assert set(items(tmp_path / "out")) == {"scene"}


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(SettingsError, match="is no folder"):
        update(tmp_path / "nowhere", None)


def test_nothing_catalogued_is_a_catalogue_of_nothing(tmp_path):
    assert update(tmp_path, None).scenes == 0
    assert items(tmp_path) == {}
    assert len(read_index(tmp_path) or []) == 0
    assert pystac.Catalog.from_file(str(tmp_path / "catalogue" / "catalog.json")).id == "masks"
