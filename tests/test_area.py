"""Areas of real files in many formats and CRS: which pixels are inside, by an oracle, and what is refused and why."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.warp import transform

from pipeline.errors import SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.raster.area import demand_met, find_area, open_area
from pipeline.raster.source import open_scene
from pipeline.settings import AreaEntry
from tests.areas import PLACE, burnt, on_an_edge, on_map, projected, star, write_area
from tests.images import noise as plain_noise
from tests.images import write_image
from tests.oracle import noise, save_scene

SHAPE = (120, 200)
RANDOM = np.random.default_rng(7)
FIELDS = [star(RANDOM, RANDOM.uniform((-5, -5), (205, 125)), RANDOM.uniform(5, 50), 24) for _ in range(6)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return open_scene(str(save_scene(tmp_path_factory.mktemp("area") / "scene.tif", noise(*SHAPE))), None)


def whole(path, scene, **said):
    area = find_area(AreaEntry(file=str(path), **said))
    assert pickle.loads(pickle.dumps(area)) == area
    fence = open_area(area, scene)
    return np.broadcast_to(fence.inside(scene.rect), scene.rect.shape)


def complaint(path, scene=None, kind=SettingsError, **said):
    with pytest.raises(kind) as caught:  # noqa: PT012  # the three steps that a run takes
        area = find_area(AreaEntry(file=str(path), **said) if said else str(path))
        demand_met(area, open_area(area, scene), scene)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value.message


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".fgb", ".gml", ".geojson", ".kml"])
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326", "EPSG:3035", "EPSG:32633"])
def test_formats_and_crs(tmp_path, scene, suffix, crs):
    if suffix in {".geojson", ".kml"} and crs != "EPSG:4326":
        pytest.skip("the format has one CRS")
    fields = on_map(FIELDS)
    path = write_area(tmp_path / f"fields{suffix}", fields if crs == "EPSG:32632" else projected(fields, crs), crs)
    before = {one.name for one in tmp_path.iterdir()}
    differs = whole(path, scene) != burnt(FIELDS, SHAPE)
    near = 1 / 64 if crs == "EPSG:32632" else 1 / 16
    assert not (differs & ~on_an_edge(FIELDS, SHAPE, near)).any()
    assert {one.name for one in tmp_path.iterdir()} == before


def test_a_gml_without_a_schema_is_read_and_none_is_written(tmp_path, scene):
    path = write_area(tmp_path / "fields.gml", on_map(FIELDS))
    for other in tmp_path.glob("fields.[xg][sf][ds]"):
        other.unlink()
    assert whole(path, scene).any()
    assert [one.name for one in tmp_path.iterdir()] == ["fields.gml"]


def test_long_straight_edges_are_straight_in_the_files_own_crs(tmp_path, scene):
    """A parallel of latitude is no straight line in UTM: the box's vertices alone would miss it by several pixels."""
    corners = projected([shapely.Point(502_000, 4_999_400)], "EPSG:4326")[0]
    box = shapely.box(corners.x - 8, corners.y, corners.x + 8, corners.y + 1)
    path = write_area(tmp_path / "box.geojson", [box], "EPSG:4326")
    bottom = shapely.segmentize(box, 1e-3)
    there = shapely.transform(bottom, lambda points: np.array(transform("EPSG:4326", "EPSG:32632", *points.T)).T)
    seen = shapely.transform(there, lambda points: np.array([~PLACE @ tuple(point) for point in points]))
    assert np.array_equal(whole(path, scene), burnt([seen], SHAPE))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), crs=st.sampled_from(["EPSG:32632", "EPSG:4326"]), form=st.sampled_from(["vector", "mask"]))
def test_a_part_is_the_same_part_of_the_whole(tmp_path, scene, data, crs, form):
    path = tmp_path / f"{crs[5:]}.{'gpkg' if form == 'vector' else 'tif'}"
    if not path.exists() and form == "vector":
        write_area(path, on_map(FIELDS) if crs == "EPSG:32632" else projected(on_map(FIELDS), crs), crs)
    elif not path.exists():
        place = Affine(13.7, 1.1, 499_900, 0.4, -9.1, 5_000_050) if crs == "EPSG:32632" else degrees()
        save_scene(path, RANDOM.integers(0, 2, (1, 150, 190)).astype(np.uint8), crs=crs, transform=place)
    fence = open_area(find_area(str(path)), scene)
    top, left = data.draw(st.integers(0, SHAPE[0] - 1)), data.draw(st.integers(0, SHAPE[1] - 1))
    rect = Rect(top, left, data.draw(st.integers(top + 1, SHAPE[0])), data.draw(st.integers(left + 1, SHAPE[1])))
    part = fence.inside(rect)
    assert np.array_equal(
        np.broadcast_to(part, rect.shape),
        np.broadcast_to(fence.inside(scene.rect), SHAPE)[rect.slices()],
    )
    assert fence.touches(rect) or not np.any(part)
    assert not np.any(part) or fence.extent.intersect(rect).area


def degrees():
    low = projected([shapely.Point(499_950, 4_998_750)], "EPSG:4326")[0]
    high = projected([shapely.Point(502_050, 5_000_060)], "EPSG:4326")[0]
    return Affine((high.x - low.x) / 190, 0, low.x, 0, (low.y - high.y) / 150, high.y)


def test_a_finer_a_coarser_and_a_shifted_mask_are_looked_up_under_each_centre(tmp_path, scene):
    for side, left, top in ((2.5, 500_000, 5_000_000), (45, 499_990, 5_000_020), (10, 500_003, 4_999_996), (5, 0, 0)):
        place = Affine(side, 0, left or 500_000, 0, -side, top or 5_000_000)
        said = RANDOM.integers(0, 2, (1, int(1100 / side), int(1800 / side))).astype(np.uint8)
        path = save_scene(tmp_path / f"mask{side}.tif", said, transform=place)
        rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
        x, y = 500_000 + 10 * cols, 5_000_000 - 10 * rows
        col, row = (np.floor(np.round(one, 6)).astype(int) for one in ((x - place.c) / side, (place.f - y) / side))
        there = (row >= 0) & (row < said.shape[1]) & (col >= 0) & (col < said.shape[2])
        want = there & (said[0, np.where(there, row, 0), np.where(there, col, 0)] != 0)
        assert np.array_equal(whole(path, scene), want)


def test_what_is_invalid_in_a_mask_is_outside(tmp_path, scene):
    said = np.ones((1, *SHAPE), np.float32)
    said[0, :50], said[0, 50:60], said[0, 60:70] = np.nan, 0, -9
    inside = whole(save_scene(tmp_path / "mask.tif", said, nodata=-9), scene)
    assert inside.sum(axis=1).tolist() == [0] * 70 + [SHAPE[1]] * 50


def test_without_a_georeference_an_area_is_in_pixels(tmp_path):
    bare = open_scene(str(write_image(tmp_path / "scene.png", plain_noise(3, *SHAPE), driver="PNG")), None)
    want = burnt(FIELDS, SHAPE)
    near = on_an_edge(FIELDS, SHAPE, 1 / 64)
    plain = write_area(tmp_path / "pixels.gpkg", FIELDS, crs=None)
    drawn = tmp_path / "drawn.geojson"  # as annotation tools write it: no CRS, and degrees only by the standard
    shapes = [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(one)} for one in FIELDS]
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": shapes}))
    for path in (plain, drawn):
        assert not ((whole(path, bare) != want) & ~near).any()
        assert "x = column" in open_area(find_area(str(path)), bare).notes[0]
    placed = write_area(tmp_path / "placed.gpkg", on_map(FIELDS))
    assert "no georeference" in complaint(placed, bare, SceneError)
    mask = write_image(tmp_path / "mask.png", want[None].astype(np.uint8), driver="PNG")
    assert np.array_equal(whole(mask, bare), want)
    small = write_image(tmp_path / "small.png", want[None, :50].astype(np.uint8), driver="PNG")
    assert "50 × 200 and 120 × 200" in complaint(small, bare, SceneError)


def test_a_rotated_scene(tmp_path):
    place = PLACE @ Affine.rotation(33)
    turned = open_scene(str(save_scene(tmp_path / "turned.tif", noise(*SHAPE), transform=place)), None)
    for crs in ("EPSG:32632", "EPSG:4326"):
        fields = on_map(FIELDS, place)
        path = write_area(tmp_path / f"{crs[5:]}.gpkg", fields if crs == "EPSG:32632" else projected(fields, crs), crs)
        differs = whole(path, turned) != burnt(FIELDS, SHAPE)
        assert not (differs & ~on_an_edge(FIELDS, SHAPE, 1 / 16)).any()


def test_a_file_of_several_layers(tmp_path, scene):
    path = write_area(tmp_path / "two.gpkg", on_map([shapely.box(0, 0, 50, 50)]), layer="a")
    write_area(path, on_map([shapely.box(50, 50, 90, 90)]), layer="b", append=True)
    assert "has 2 layers (a, b): choose one, as in --aoi two.gpkg:a." in complaint(path, scene)
    assert whole(path, scene, layer="b").sum() == 1600
    assert find_area(f"{path}:b") == find_area(AreaEntry(file=str(path), layer="b"))
    assert find_area(f"{path}:b").identity() != find_area(f"{path}:a").identity()
    assert "no layer `c`: it has a, b" in complaint(path, scene, layer="c")


def test_what_is_no_area(tmp_path, scene):
    points = write_area(tmp_path / "points.gpkg", [shapely.Point(1, 1)])
    assert "holds Points; an area is made of polygons" in complaint(points)
    mixed = tmp_path / "mixed.geojson"
    shapes = projected(on_map([shapely.Point(1, 1), shapely.box(0, 0, 9, 9)]), "EPSG:4326")
    features = [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(one)} for one in shapes]
    mixed.write_text(json.dumps({"type": "FeatureCollection", "features": [*features]}))
    assert "Point" in complaint(mixed, scene)
    mixed.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert "has no polygon" in complaint(mixed)
    empty = write_area(tmp_path / "empty.gpkg", [shapely.Polygon()])
    assert "has no polygon" in complaint(empty, scene)
    assert "does not exist" in complaint(tmp_path / "absent.gpkg")
    assert "is not a file" in complaint(tmp_path)
    colours = save_scene(tmp_path / "colours.tif", noise(*SHAPE))
    assert "has 3 bands" in complaint(colours)
    assert "no layers" in complaint(colours, layer="a")
    text = tmp_path / "text.csv"
    text.write_text("x,y\n1,2\n")
    assert "neither polygons nor a mask" in complaint(text)
    tiny = write_area(tmp_path / "tiny.gpkg", on_map([shapely.box(3.1, 3.1, 3.4, 3.4)]))
    assert "centre inside" in complaint(tiny, scene, SceneError)


def test_a_bow_tie_is_inside_on_both_sides(tmp_path, scene):
    path = write_area(tmp_path / "tie.gpkg", on_map([shapely.Polygon([(10, 10), (50, 50), (50, 10), (10, 50)])]))
    inside = whole(path, scene)
    assert inside[30, 20]
    assert inside[30, 40]
    assert not inside[20, 30]


TRICKS = {
    "streamed.gdalg.json": '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read secret.gpkg"}',
    "virtual.kml": '<OGRVRTDataSource><kml/><OGRVRTLayer name="a"><SrcDataSource>secret.gpkg</SrcDataSource>'
    "</OGRVRTLayer></OGRVRTDataSource>",
    "bomb.kml": '<!DOCTYPE k [<!ENTITY a "aaaa">]><kml>&a;</kml>',
    "service.gml": "<OGRWFSDataSource><URL>http://127.0.0.1:9/opengis.net/gml</URL></OGRWFSDataSource>",
}


@pytest.mark.parametrize("name", TRICKS)
def test_files_that_lead_elsewhere_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text(TRICKS[name])
    assert "leads out of the file" in complaint(path)


@pytest.mark.parametrize("name", ["/vsizip/a.zip/b.gpkg", "https://example.org/a.gpkg", "/vsicurl/http://x/a.gpkg:b"])
def test_addresses_are_refused(name):
    assert "address" in complaint(name)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".gpkg", ".shp", ".fgb", ".gml", ".geojson", ".kml"]))
def test_a_damaged_file_is_a_sentence(tmp_path, scene, data, suffix):
    sound = tmp_path / f"sound{suffix}"
    if not sound.exists():
        write_area(sound, projected(on_map(FIELDS), "EPSG:4326"), "EPSG:4326")
    content = bytearray(sound.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(content[: data.draw(st.integers(len(content) // 3, len(content)))])
    try:
        area = find_area(str(damaged))
        fence = open_area(area, scene)
        demand_met(area, fence, scene)
    except (SettingsError, SceneError) as error:
        assert "\n" not in error.message  # noqa: PT017


def test_the_whole_world_is_all_of_a_scene(tmp_path, scene):
    path = write_area(tmp_path / "world.geojson", [shapely.box(-180, -90, 180, 90)], "EPSG:4326")
    fence = open_area(find_area(str(path)), scene)
    assert fence.inside(scene.rect) is True
    assert fence.extent == scene.rect


def test_across_the_antimeridian(tmp_path):
    """Degrees jump in the middle of the scene; both halves of an area, drawn as two polygons, are inside."""
    place = Affine(100, 0, 310_000, 0, -100, 6_900_000)  # UTM zone 1: the antimeridian is near x = 343 000
    east = open_scene(str(save_scene(tmp_path / "s.tif", noise(150, 700), transform=place, crs="EPSG:32601")), None)
    halves = [shapely.box(179.9, 61.5, 180, 62.5), shapely.box(-180, 61.5, -179.8, 62.5)]
    path = write_area(tmp_path / "two.geojson", halves, "EPSG:4326")
    inside = whole(path, east)
    lon = np.array(transform("EPSG:32601", "EPSG:4326", *(place @ centres_of(east)))[0]).reshape(inside.shape)
    want = (lon > 179.9) | (lon < -179.8)
    assert want.any()
    assert np.count_nonzero(inside != want) < 20


def centres_of(scene):
    rows, cols = np.mgrid[: scene.height, : scene.width] + 0.5
    return cols.reshape(-1), rows.reshape(-1)


def test_a_polar_area_over_a_world_map(tmp_path):
    place = Affine(1, 0, -180, 0, -1, 90)
    world = open_scene(str(save_scene(tmp_path / "world.tif", noise(180, 360), transform=place, crs="EPSG:4326")), None)
    disc = shapely.Point(-1_000_000, -1_000_000).buffer(900_000, 64)  # of the map around the pole, not over it
    inside = whole(write_area(tmp_path / "polar.gpkg", [disc], "EPSG:3413"), world)
    x, y = transform("EPSG:4326", "EPSG:3413", *(place @ centres_of(world)))
    want = (np.hypot(np.array(x) + 1_000_000, np.array(y) + 1_000_000) < 900_000).reshape(inside.shape)
    assert want.any()
    assert np.count_nonzero(inside != want) < 10
