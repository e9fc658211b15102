"""Outlines: drawn again, they are the mask."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes

from pipeline import outlines
from pipeline.grid import Grid, Rect
from pipeline.network.legend import MaskClass
from pipeline.raster.source import open_scene
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product, create
from pipeline.store.sink import Sink
from tests.images import noise, quiet, write_image

pytestmark = quiet
LEGEND = ((0, "glass", "#ffffff"), (1, "tumour", "#ff0000"), (5, "näh", "#00ff80"))
CLASSES = tuple(MaskClass(index=at, value=one[0], name=one[1], colour=one[2]) for at, one in enumerate(LEGEND))


def put(folder, mask, block=64, georef=None):
    rows, cols = mask.shape
    path = folder / "mask.zarr"
    grid = Grid(rows, cols, stride=1, core=block, margin=0, block=block)
    create(path, grid, [Product("mask")], block, georef=georef or Georef(), classes=LEGEND)
    for number in range(len(grid)):
        rect = grid.owned(number)
        Sink(path).put("mask", rect, mask[rect.slices()])
    return Sink(path)


def blobs(rows, cols, seed, smooth):
    """Classes and statuses in patches, in which regions are nested, meet in corners and cross every seam."""
    random = np.random.default_rng(seed)
    coarse = random.choice([0, 1, 5, 253, 254, 255], (-(-rows // smooth), -(-cols // smooth)))
    return np.kron(coarse, np.ones((smooth, smooth), int))[:rows, :cols].astype(np.uint8)


def all_regions(sink, rows, cols):
    return list(outlines.regions(sink, Rect(0, 0, rows, cols), [0, 1, 5], lambda _: None))


@given(
    rows=st.integers(1, 150),
    cols=st.integers(1, 150),
    seed=st.integers(0, 99),
    smooth=st.sampled_from([1, 3, 16]),
    side=st.sampled_from([32, 50, 64]),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outlines_are_those_of_the_whole_mask(tmp_path_factory, rows, cols, seed, smooth, side):
    mask = blobs(rows, cols, seed, smooth)
    sink = put(tmp_path_factory.mktemp("mask"), mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "SIDE", side)
        found = all_regions(sink, rows, cols)
    assert all(region.is_valid for _, region in found)
    drawn = np.full(mask.shape, 255, np.uint8)
    if found:
        drawn = rasterize([(region, value) for value, region in found], mask.shape, fill=255)
    assert np.array_equal(drawn, np.where(mask > 252, 255, mask))
    whole = [
        (int(value), shapely.Polygon(shape["coordinates"][0], shape["coordinates"][1:]))
        for shape, value in shapes(mask, mask=mask <= 252, connectivity=4)
    ]
    assert sorted((value, region.area) for value, region in found) == sorted((v, one.area) for v, one in whole)
    if smooth > 1:  # where no hole meets its shell in a corner, a polygon has one form
        theirs = {(value, shapely.normalize(region)) for value, region in whole}
        assert sum((value, region) in theirs for value, region in found) >= 0.5 * len(found)


def test_a_region_with_a_hole_across_four_squares_is_one_polygon_of_few_vertices(tmp_path, monkeypatch):
    monkeypatch.setattr(outlines, "SIDE", 40)
    mask = np.full((120, 130), 255, np.uint8)
    mask[10:110, 10:110] = 1
    mask[30:90, 30:90] = 255
    mask[50:70, 50:70] = 1
    found = all_regions(put(tmp_path, mask), 120, 130)
    assert [value for value, _ in found] == [1, 1]
    inner, outer = sorted((region for _, region in found), key=lambda region: region.area)
    assert shapely.equals_exact(inner, shapely.normalize(shapely.box(50, 50, 70, 70)))
    assert len(outer.interiors) == 1
    assert shapely.get_num_coordinates(outer) == 10
    assert outer.area == 100 * 100 - 60 * 60


def written(folder, mask, georef):
    image = write_image(folder / "image.tif", noise(1, *mask.shape))
    return outlines.write(put(folder, mask), open_scene(str(image), None), georef, CLASSES, folder, lambda _: None)


def test_qupath_finds_annotations_with_a_class_and_a_colour_in_pixels(tmp_path):
    mask = np.zeros((90, 80), np.uint8)
    mask[20:30, 5:9] = 5
    said = json.loads(written(tmp_path, mask, Georef(None, (0.5, 0, 0, 0, 0.5, 0), slide=True)).read_text())
    assert said["type"] == "FeatureCollection"
    assert "crs" not in said
    kinds = {one["properties"]["classification"]["name"]: one for one in said["features"]}
    assert set(kinds) == {"glass", "näh"}
    patch = kinds["näh"]
    assert patch["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "näh", "color": [0, 255, 128]},
    }
    assert patch["geometry"]["type"] == "Polygon"
    assert shapely.equals(shapely.geometry.shape(patch["geometry"]), shapely.box(5, 20, 9, 30))
    first, *_, last = patch["geometry"]["coordinates"][0]
    assert first == last


def test_gis_finds_them_where_the_mask_lies(tmp_path):
    mask = np.full((90, 80), 255, np.uint8)
    mask[20:30, 5:9] = 1
    crs = CRS.from_epsg(32633)
    place = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    target = written(tmp_path, mask, Georef(crs.to_wkt(version="WKT2_2019"), place))
    said, _, shapes_found, _ = pyogrio.raw.read(target)
    assert said["crs"] == "EPSG:32633"
    (found,) = shapely.from_wkb(shapes_found)
    corner, other = Affine(*place) * (5, 20), Affine(*place) * (9, 30)
    assert shapely.equals(found, shapely.box(corner[0], other[1], other[0], corner[1]))
    assert found.exterior.is_ccw


def test_a_mask_without_a_class_has_no_outline(tmp_path):
    said = json.loads(written(tmp_path, np.full((20, 20), 254, np.uint8), Georef()).read_text())
    assert said["features"] == []
