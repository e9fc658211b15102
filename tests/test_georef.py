"""The three forms of georeference, read back by those who read them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rioxarray  # noqa: F401 - it gives xarray its `rio`
import xarray
import zarr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from pipeline.grid import Grid
from pipeline.store.georef import Georef, coordinates, group_attributes
from pipeline.store.hierarchy import Product, create, levels
from pipeline.store.sink import Sink

GRID = Grid(1111, 600, stride=4, core=128, margin=4, block=256)


def wkt(code):
    return CRS.from_user_input(code).to_wkt(version="WKT2_2019")


NORTH_UP = (0.25, 0.0, 10.0, 0.0, -0.125, 60.0)
METRES = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
ROTATED = (9.0, 3.0, 500_000.0, 3.0, -9.0, 5_000_000.0)
ODD = "+proj=laea +lat_0=47.3 +lon_0=13.1 +x_0=1000 +y_0=2000 +ellps=GRS80 +units=m +no_defs"
PLACES = {
    "geographic": Georef(wkt("EPSG:4326"), NORTH_UP),
    "projected": Georef(wkt("EPSG:32632"), METRES),
    "compound": Georef(wkt("EPSG:25832+5783"), METRES),
    "without a code": Georef(wkt(ODD), METRES),
    "feet": Georef(wkt("EPSG:2263"), METRES),
    "rotated": Georef(wkt("EPSG:32632"), ROTATED),
    "south up": Georef(wkt("EPSG:32632"), (10.0, 0.0, 0.0, 0.0, 10.0, 0.0)),
    "no CRS": Georef(None, METRES),
    "no transform": Georef(wkt("EPSG:32632"), None),
    "a slide": Georef(None, None),
}


@pytest.fixture(params=PLACES, ids=str)
def place(request):
    return PLACES[request.param]


def lay_out(folder, place):
    path = folder / "mask.zarr"
    create(
        path,
        GRID,
        [Product("mask"), Product("probabilities", 2, ("a", "b"))],
        128,
        georef=place,
        classes=[(0, "a", "#ffffff")],
    )
    return path


def opened(path, level):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return xarray.open_zarr(
            path, group=str(level) if level else None, decode_coords="all", consolidated=False, chunks=None
        )


def test_rioxarray_finds_crs_and_transform_at_every_level(tmp_path, place):
    path = lay_out(tmp_path, place)
    Sink(path).put_level("mask", 0, GRID.owned(0), np.zeros((256, 256), np.uint8))
    for level, shape in enumerate(levels(GRID.height, GRID.width)):
        found = opened(path, level)
        assert set(found.data_vars) == {"mask", "probabilities"}
        for name in found.data_vars:
            assert found[name].dtype == np.uint8
            assert found[name].shape[-2:] == shape
            check_place(found[name], place, level)


def check_place(array, place, level):
    expected = Affine(*(place.transform or (1, 0, 0, 0, 1, 0))) @ Affine.scale(2**level)
    assert Affine(*array.attrs["spatial:transform"]) == expected
    assert array.rio.crs == (CRS.from_wkt(place.crs) if place.crs else None)
    if place.transform:
        assert array.rio.transform().almost_equals(expected, 1e-9)
    upright = place.transform is not None and place is not PLACES["rotated"]
    assert ("x" in array.coords, "y" in array.coords) == (upright, upright)
    if upright:
        rows, cols = array.shape[-2:]
        assert (float(array.x[0]), float(array.y[0])) == pytest.approx(expected @ (0.5, 0.5))
        assert (float(array.x[-1]), float(array.y[-1])) == pytest.approx(expected @ (cols - 0.5, rows - 0.5))


def test_xarray_opens_it_as_users_write_it(tmp_path, place):
    path = lay_out(tmp_path, place)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(
            "ignore", message="Failed to open Zarr store with consolidated", category=RuntimeWarning
        )
        found = xarray.open_zarr(path, decode_coords="all", chunks=None)
    assert set(found.data_vars) == {"mask", "probabilities"}
    assert (found.mask[0, :3] == 255).all()
    assert found.attrs["Conventions"] == "CF-1.11"


def test_the_conventions_of_zarr_are_kept(tmp_path, place):
    root = zarr.open_group(lay_out(tmp_path, place), mode="r")
    said, mask = dict(root.attrs), dict(root["1/mask"].attrs)
    names = [one["name"] for one in said["zarr_conventions"]]
    assert names == (["multiscales", "proj", "spatial"] if place.crs else ["multiscales", "spatial"])
    assert [one["name"] for one in mask["zarr_conventions"]] == names[1:]
    for attributes in (said, mask):
        assert ("proj:code" in attributes) + ("proj:wkt2" in attributes) == bool(place.crs)  # one of them, never two
        assert attributes["spatial:dimensions"] == ["y", "x"]
    assert not {"spatial:transform", "spatial:shape"} & said.keys()  # with a layout they stand in it
    layout = [entry for entry in said["multiscales"]["layout"] if entry["asset"].endswith("mask")]
    assert [entry["asset"] for entry in layout] == ["mask", "1/mask", "2/mask"]
    assert [entry.get("derived_from") for entry in layout] == [None, "mask", "1/mask"]
    for entry in said["multiscales"]["layout"]:
        array = root[entry["asset"]]
        assert entry["spatial:shape"] == list(array.shape[-2:]) == array.attrs["spatial:shape"]
        assert entry["spatial:transform"] == array.attrs["spatial:transform"]
    if place.crs:
        assert CRS.from_wkt(mask["_CRS"]["wkt"]) == CRS.from_wkt(place.crs)


def test_the_code_is_the_whole_crs_own():
    assert PLACES["geographic"].code == "EPSG:4326"
    assert PLACES["projected"].code == "EPSG:32632"
    assert PLACES["without a code"].code is None
    assert PLACES["a slide"].code is None
    inner = 'COMPOUNDCRS["x",PROJCRS["y",ID["EPSG",32632]],VERTCRS["z",ID["EPSG",5783]]]'
    assert Georef(inner).code is None  # its parts have codes, it has none
    assert Georef('PROJCRS["y",ID["EPSG",32632],REMARK["of old"]]').code == "EPSG:32632"


def test_axes_are_called_what_they_are():
    said = {
        name: {axis: part[1] for axis, part in (coordinates(place, 0, (2, 2)) or {}).items()}
        for name, place in PLACES.items()
    }
    assert said["geographic"]["x"] == {"axis": "X", "standard_name": "longitude", "units": "degrees_east"}
    assert said["compound"]["y"] == {"axis": "Y", "standard_name": "projection_y_coordinate", "units": "metre"}
    assert said["feet"]["x"]["units"] == "US survey foot"
    assert said["no CRS"]["x"] == {"axis": "X"}
    assert said["rotated"] == said["a slide"] == {}


@given(
    st.tuples(*[st.floats(-1e6, 1e6, allow_subnormal=False)] * 6),
    st.integers(1, 10_000),
    st.integers(1, 10_000),
    st.integers(0, 1),
)
def test_the_box_holds_every_corner_and_touches_them(transform, rows, cols, level):
    said = group_attributes(Georef(None, transform), [(rows, cols)], {"mask": "mode"})
    corners = [Affine(*transform) @ (col, row) for row in (0, rows) for col in (0, cols)]
    xs, ys = zip(*corners, strict=True)
    assert said["spatial:bbox"] == pytest.approx([min(xs), min(ys), max(xs), max(ys)])
    assert Affine(*Georef(None, transform).at(level)) == pytest.approx(Affine(*transform) @ Affine.scale(2**level))
