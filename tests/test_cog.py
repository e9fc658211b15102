"""What users open: GeoTIFFs whose overviews are the Zarr's levels, a Zarr that xarray can place, and no trace of us."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray  # noqa: F401  # gives xarray its accessor `rio`
import xarray
from affine import Affine
from rasterio.enums import ColorInterp
from rio_cogeo import cog_validate

from pipeline import cog
from pipeline.cog import Dress
from pipeline.grid import Grid, Rect
from pipeline.network.legend import MaskClass
from pipeline.raster.source import Scene, open_scene
from pipeline.settings import FAILED, NODATA, OUTSIDE, Job
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product, create, levels
from pipeline.store.sink import Sink
from tests.oracle import make_all, noise, run_here, save_model, save_scene, small_unet

CLASSES = (
    MaskClass(index=0, value=0, name="sea & <lakes>", colour="#0072b2"),
    MaskClass(index=1, value=7, name="Grünland", colour="#009e73"),
)
UPRIGHT = Affine(10, 0, 500_000, 0, -10, 5_000_000)
ROTATED = Affine(8, -6, 500_000, -6, -8, 5_000_000)
PLACES = {
    "upright": {"crs": "EPSG:32632", "transform": UPRIGHT},
    "rotated": {"crs": "EPSG:32632", "transform": ROTATED},
    "geographic": {"crs": "EPSG:4326", "transform": Affine(1e-3, 0, -180, 0, -1e-3, 90)},
    "without a CRS": {"crs": None, "transform": UPRIGHT},
    "nowhere": {"crs": None, "transform": None},
}
PRODUCTS = (Product("mask"), Product("confidence"), Product("probabilities", 2, ("sea & <lakes>", "Grünland")))


def published(folder: Path, place: dict[str, object], height: int = 200, width: int = 520) -> Scene:
    """Random rasters of all products, with all levels, as Zarr and as GeoTIFFs."""
    scene = open_scene(str(save_scene(folder / "scene.tif", noise(height, width, bands=1), **place)), None)
    grid, sink = Grid(height, width, 1, 256, 0, 512), Sink(folder / "mask.zarr")
    legend = [(one.value, one.name, one.colour) for one in CLASSES]
    create(sink.path, grid, PRODUCTS, 256, georef=Georef(scene.crs, scene.transform), classes=legend)
    random = np.random.default_rng(0)
    for block in range(len(grid)):
        owned = grid.owned(block)
        for product in PRODUCTS:
            shape = (*((product.channels,) if product.channels else ()), *owned.shape)
            values = [0, 7, FAILED, NODATA] if product.name == "mask" else [0, 100, 250, FAILED, NODATA]
            sink.put(product.name, owned, random.choice(np.array(values, np.uint8), shape))
    making = make_all(sink.path, PRODUCTS, grid)
    dress = Dress(CLASSES, {"model": "a & b", "identity": {"card": {"fill": 0.0}}})
    for product in PRODUCTS:
        cog.write(product, scene, dress, making.site.pieces, folder, lambda _: None)
    shutil.rmtree(making.site.pieces.folder)
    return scene


@pytest.fixture(scope="module")
def publish(tmp_path_factory):
    """Publish at a place, once."""
    done: dict[str, tuple[Path, Scene]] = {}

    def once(name: str) -> tuple[Path, Scene]:
        if name not in done:
            folder = tmp_path_factory.mktemp("cog")
            done[name] = folder, published(folder, PLACES[name])
        return done[name]

    return once


@pytest.fixture(params=PLACES)
def placed(request, publish):
    return publish(request.param)


@pytest.fixture
def upright(publish):
    return publish("upright")


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda one: one.name)
def test_every_product_is_a_valid_cog_in_its_place(placed, product):
    folder, scene = placed
    path = folder / f"{product.name}.tif"
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as file, rasterio.open(scene.uri) as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert set(file.nodatavals) == {NODATA}
        assert set(file.dtypes) == {"uint8"}
    left = {entry.name for entry in folder.iterdir()} - {"scene.tif", "mask.zarr", ".stage"}
    assert left == {f"{one.name}.tif" for one in PRODUCTS}


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda one: one.name)
def test_gdal_alone_would_write_the_same_bytes(placed, tmp_path, product):
    said = {"BLOCKSIZE": 512, "COMPRESS": "DEFLATE", "LEVEL": 6, "PREDICTOR": "NO", "BIGTIFF": "IF_SAFER"}
    ours, gdals = placed[0] / f"{product.name}.tif", tmp_path / "gdal.tif"
    rasterio.shutil.copy(str(ours), str(gdals), driver="COG", OVERVIEWS="FORCE_USE_EXISTING", **said)
    assert ours.read_bytes() == gdals.read_bytes()


@pytest.mark.parametrize("size", [(300, 1100), (1300, 90), (1, 1), (513, 1)])
def test_every_overview_is_a_level_of_the_zarr_pixel_for_pixel(tmp_path, size):
    published(tmp_path, PLACES["upright"], *size)
    sink, sizes = Sink(tmp_path / "mask.zarr"), levels(*size)
    for product in PRODUCTS:
        path = tmp_path / f"{product.name}.tif"
        with rasterio.open(path) as file:
            assert len(file.overviews(1)) == len(sizes) - 1
        for level, shape in enumerate(sizes):
            with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as file:
                found = file.read() if product.channels else file.read(1)
            assert np.array_equal(found, sink.read(product.name, Rect(0, 0, *shape), level))


def test_the_mask_says_its_classes_colours_and_provenance(upright):
    with rasterio.open(upright[0] / "mask.tif") as file:
        colours, tags = file.colormap(1), file.tags()
        assert file.colorinterp == (ColorInterp.palette,)
    said = {entry["value"]: entry for entry in json.loads(tags["classification_classes"])}
    assert {value: entry["name"] for value, entry in said.items()} == {
        0: "sea & <lakes>",
        7: "Grünland",
        FAILED: "failed",
        OUTSIDE: "outside",
        NODATA: "nodata",
    }
    for value, entry in said.items():
        assert "{:02X}{:02X}{:02X}".format(*colours[value]) == entry["color_hint"]
    assert tags["MASKMILL_MODEL"] == "a & b"
    assert json.loads(tags["MASKMILL_IDENTITY"]) == {"card": {"fill": 0.0}}


def test_parts_of_one_say_their_scale_and_which_class_they_are_of(upright):
    with rasterio.open(upright[0] / "probabilities.tif") as file:
        assert file.descriptions == ("sea & <lakes>", "Grünland")
        assert file.scales == (1 / 250,) * 2
        assert "253 failed" in file.tags()["MASKMILL_UNIT"]
    with rasterio.open(upright[0] / "confidence.tif") as file:
        assert (file.count, file.descriptions, file.colorinterp) == (1, ("confidence",), (ColorInterp.gray,))
    assert not list(upright[0].glob("*.aux.xml"))


def test_rioxarray_reads_the_mask_where_rasterio_does(placed):
    folder, _ = placed
    found = xarray.open_dataarray(folder / "mask.tif", engine="rasterio", mask_and_scale=False)
    with rasterio.open(folder / "mask.tif") as file:
        assert np.array_equal(found.values[0], file.read(1))
        assert (found.rio.crs, found.rio.transform()) == (file.crs, file.transform)
        assert found.rio.nodata == file.nodata == NODATA


@pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated metadata")
def test_xarray_reads_every_level_of_the_zarr_in_its_place(placed):
    folder, scene = placed
    for level, shape in enumerate(levels(scene.height, scene.width)):
        found = xarray.open_zarr(folder / "mask.zarr", group=str(level) if level else None, chunks=None)
        assert np.array_equal(found["mask"].values, Sink(folder / "mask.zarr").read("mask", Rect(0, 0, *shape), level))
        assert found["mask"].dims == ("y", "x")
        assert found["probabilities"].dims == ("class", "y", "x")
        assert found["mask"].dtype == np.uint8  # classes, not floats with holes
        with rasterio.open(scene.uri) as file:
            assert found.rio.crs == file.crs
            assert found["mask"].rio.crs == file.crs
            if scene.transform:
                assert found.rio.transform() == file.transform @ Affine.scale(2**level)
        said = found["mask"].attrs
        values = dict(zip(said["flag_values"], said["flag_meanings"].split(), strict=True))
        assert values == {0: "sea_lakes", 7: "Gr_nland", FAILED: "failed", OUTSIDE: "outside", NODATA: "nodata"}
        assert [one["title"] for one in said["classification:classes"][:2]] == ["sea & <lakes>", "Grünland"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run's folder."""
    folder = tmp_path_factory.mktemp("a-folder-of-mine")
    save_model(folder / "model.onnx", small_unet())
    save_scene(folder / "scene.tif", noise(600, 700))
    products = frozenset({"confidence", "probabilities"})
    job = Job(scenes=(str(folder / "scene.tif"),), model=str(folder / "model.onnx"), out=folder / "out")
    assert run_here(job.model_copy(update={"window": 140, "block": 256, "products": products}))["complete"]
    return folder / "out" / "scene"


def test_a_runs_cogs_are_valid_and_name_what_made_them(run):
    identity = json.loads((run / "report.json").read_text())["identity"]
    for name in ("mask", "confidence", "probabilities"):
        assert cog_validate(run / f"{name}.tif", strict=True, quiet=True)[0]
        with rasterio.open(run / f"{name}.tif") as file:
            tags = file.tags()
        assert json.loads(tags["MASKMILL_IDENTITY"]) == identity
        assert (tags["MASKMILL_MODEL"], tags["MASKMILL_MARGIN"]) == ("small-unet", "exact")
        assert tags["MASKMILL_MODEL_DIGEST"] == identity["model"]


def test_no_time_host_path_user_or_worker_stands_in_the_zarrs_metadata_or_the_cogs_tags(run):
    said = {path: path.read_text() for path in (run / "mask.zarr").rglob("zarr.json")}
    assert len(said) == 2 * (1 + 6)  # two levels, each with three products, x, y and spatial_ref
    for name in ("mask", "confidence", "probabilities"):
        path = run / f"{name}.tif"
        with rasterio.open(path) as file:
            spaces = [None, *(space for space in file.tag_namespaces() if space != "DERIVED_SUBDATASETS")]
            said[path] = json.dumps([file.tags(ns=space) for space in spaces] + [file.tags(1)])
        head = path.read_bytes()[: 64 * 1024]
        assert b"a-folder-of-mine" not in head
    now = datetime.now(UTC)
    traces = ["a-folder-of-mine", "/tmp", str(Path.home()), socket.gethostname(), "worker", "thread"]
    traces += [f"{now:%Y-%m-%d}", f"{now:%Y:%m:%d}", *([user] if (user := getpass.getuser()) != "root" else [])]
    for path, text in said.items():
        for trace in traces:
            assert trace not in text, (path, trace)
