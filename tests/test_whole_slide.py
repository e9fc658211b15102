"""Whole slides through the reader's seam and through the command."""

import json
import pickle
from fractions import Fraction

import numpy as np
import onnx
import pytest
import rasterio
import shapely
import xarray
import yaml
import zarr
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import BlockError, SceneError
from pipeline.grid import Rect
from pipeline.raster import slide
from pipeline.raster.layer import resized
from pipeline.raster.reader import Reader, tiles_touched
from pipeline.raster.resample import resampled
from pipeline.raster.source import open_scene
from pipeline.raster.stage import reason_to_stage
from tests.images import SHARED, mirrored, quiet
from tests.mill import last_json, maskmill
from tests.slides import halved, speckled, write_slide

openslide = pytest.importorskip("openslide")
pytestmark = quiet
REAL = SHARED / "scenes/wsi/CMU-1-Small-Region.svs"
here = pytest.mark.skipif(not REAL.exists(), reason="the material of others is not here")


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """(a slide, its levels). The coarser levels are no means of the finest, so that one sees which was read."""
    levels = [speckled(1203, 1407), speckled(300, 351, seed=1), speckled(75, 87, seed=2)]
    return write_slide(tmp_path_factory.mktemp("slide") / "odd.svs", levels, tile=128), levels


def test_a_slide_is_a_scene_without_a_crs_in_micrometres(pyramid):
    path, levels = pyramid
    scene = open_scene(str(path), None)
    assert (scene.name, scene.driver, scene.dtype, scene.bands) == ("odd", "OpenSlide", "uint8", (1, 2, 3))
    assert (scene.height, scene.width) == levels[0].shape[1:]
    assert scene.crs is None
    assert scene.transform == (0.5, 0, 0, 0, 0.5, 0)
    assert scene.resolution_m == pytest.approx(0.5e-6)
    assert scene.pixel_area() == pytest.approx(0.25e-12)
    assert not scene.geographic
    assert not scene.always_valid
    assert reason_to_stage(scene) is None
    assert len(pickle.dumps(scene)) < 4096


@pytest.mark.parametrize("rect", [Rect(0, 0, 40, 50), Rect(1100, 1300, 1203, 1407), Rect(-9, -5, 1210, 1410)])
def test_the_reader_gives_the_finest_level_in_the_bands_wanted(pyramid, rect):
    path, levels = pyramid
    with Reader(open_scene(str(path), [3, 1])) as reader:
        pixels, valid = reader.read(rect)
        assert reader.bytes_read == tiles_touched(reader.scene, rect) > 0
        again = pickle.loads(pickle.dumps(reader)).read(rect)[0]
    assert np.array_equal(pixels, mirrored(levels[0], rect, 1203, 1407)[[2, 0]])
    assert np.array_equal(again, pixels)
    assert pixels.flags.c_contiguous
    assert valid.all()


@pytest.mark.parametrize(
    ("factor", "level", "scale"),
    [
        (Fraction(2), 0, Fraction(1, 2)),
        (Fraction(1, 2), 0, Fraction(2)),
        (Fraction(1, 4), 1, Fraction(1)),
        (Fraction(1, 5), 1, Fraction(5, 4)),
        (Fraction(1, 16), 2, Fraction(1)),
        (Fraction(1, 40), 2, Fraction(40, 16)),
    ],
)
def test_another_resolution_is_read_from_the_coarsest_level_that_is_fine_enough(pyramid, factor, level, scale):
    path, levels = pyramid
    view = resized(open_scene(str(path), None), factor)
    assert view.layers[0].part.levels[0].number == level
    assert view.layers[0].scale == (scale, scale)
    assert view.resolution_m == pytest.approx(0.5e-6 / factor)
    pixels = levels[level]
    sides = pixels.shape[1:]

    def read(rect):
        return pixels[:, *rect.slices()], np.ones(rect.shape, np.bool_)

    expected, inside = resampled(read, view.rect, (scale, scale), (Fraction(0), Fraction(0)), sides)
    with Reader(view) as reader:
        whole, valid = reader.read(view.rect)
        part = Rect(view.height // 3, view.width // 4, view.height, view.width - 1)
        assert np.array_equal(reader.read(part)[0], whole[:, *part.slices()])
    assert np.array_equal(whole, expected)
    assert np.array_equal(valid, inside)


def test_a_slide_that_changed_or_is_damaged_is_a_hole(tmp_path):
    path = write_slide(tmp_path / "a.svs", [speckled(600, 600)], compress="deflate")
    scene = open_scene(str(path), None)
    whole = bytearray(path.read_bytes())
    whole[400_000:500_000] = bytes(100_000)
    path.write_bytes(whole)
    reader = Reader(scene)
    for _ in range(2):  # what cannot be read does not spoil what can
        with pytest.raises(BlockError, match=r"a\.svs"):
            reader.read(scene.rect)
        assert reader.read(Rect(0, 0, 100, 100))[1].all()
    reader.close()
    path.unlink()
    write_slide(path, [speckled(300, 300)])
    with pytest.raises(BlockError, match="plan anew"):
        reader.read(Rect(0, 0, 10, 10))


def test_other_bands_than_three_are_refused(pyramid):
    with pytest.raises(SceneError, match="no band 4"):
        open_scene(str(pyramid[0]), [1, 4])


def test_what_reads_slides_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    with pytest.raises(SceneError, match=r'pip install "maskmill\[wsi\]"'):
        slide.look_at(tmp_path / "a.svs")


def darkness(folder, resolution=None):
    """A network that finds what is darker than 200 of 255, whatever it is stained with; returns its folder."""
    folder.mkdir()
    weights = {
        "grey": np.full((1, 3, 1, 1), -1 / 3, np.float32),
        "bias": np.array([200 / 255], np.float32),
        "steep": np.array(20, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "grey", "bias"], ["below"]),
        helper.make_node("Mul", ["below", "steep"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["dark"]),
    ]
    shapes = [("x", ["n", 3, "h", "w"]), ("dark", ["n", 1, "h", "w"])]
    x, dark = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "darkness", [x], [dark], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "dark.onnx")
    card = {"name": "darkness", "bands": ["red", "green", "blue"], "scaling": {"kind": "constant", "divide_by": 255}}
    card |= {"classes": ["light", "dark"], "activation": "sigmoid", "says": "probabilities"}
    card |= {"resolution": resolution} if resolution else {}
    (folder / "dark.yaml").write_text(yaml.safe_dump(card))
    return folder / "dark.onnx"


def grey_of(path, factor=1):
    with openslide.OpenSlide(path) as theirs:
        pixels = np.asarray(theirs.read_region((0, 0), 0, theirs.dimensions))[..., :3].transpose(2, 0, 1)
    return (halved(pixels, factor) if factor > 1 else pixels).astype(np.float64).mean(axis=0)


def check_result(out, expected, sure, side):
    """The mask says what the slide's pixels say, in every form that it is published in."""
    with rasterio.open(out / "mask.tif") as file:
        mask = file.read(1)
        assert file.crs is None
        assert file.transform[:6] == (side, 0, 0, 0, side, 0)
        assert file.tags()["MASKMILL_COORDINATES"] == "micrometer"
        assert float(file.tags()["TIFFTAG_XRESOLUTION"]) == pytest.approx(1e4 / side)
        assert file.overviews(1)
    assert np.array_equal((mask == 1)[sure], expected[sure])
    assert not (mask > 1).any()
    group = zarr.open_group(out / "mask.zarr", mode="r")
    first = group.attrs["ome"]["multiscales"][0]["datasets"][0]
    assert np.array_equal(group[first["path"]][:], mask)
    assert first["coordinateTransformations"][0]["scale"] == [side, side]
    opened = xarray.open_zarr(out / "mask.zarr", chunks=None, consolidated=False)["mask"]
    assert opened.x.attrs["units"] == "micrometer"
    return mask


@here
@pytest.mark.slow
@pytest.mark.parametrize("factor", [1, 2])
def test_a_real_slide_runs_end_to_end_at_its_own_and_at_half_resolution(tmp_path, factor):
    model = darkness(tmp_path / "model", 0.499e-6 * factor)
    flags = ["--window", "512", "--workers", "2", "--products", "outlines", "--device", "cpu", "--json"]
    done = maskmill("run", REAL, "--model", model, "--out", "out", *flags, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out" / "CMU-1-Small-Region"
    grey = grey_of(REAL, factor)
    if factor > 1:
        grey = np.pad(grey, ((0, 2967 % 2), (0, 0)), mode="edge").repeat(2, 0).repeat(2, 1)[:2967, :2220]
    sure = np.abs(grey - 200) > 1
    if factor > 1:
        sure[2966] = False  # the last row of the view is half a row
    mask = check_result(out, grey < 200, sure, 0.499)
    assert last_json(done)["scenes"][0]["state"] == "complete"
    found = json.loads((out / "outlines.geojson").read_text())["features"]
    area = sum(
        shapely.geometry.shape(one["geometry"]).area
        for one in found
        if one["properties"]["classification"]["name"] == "dark"
    )
    assert area == (mask == 1).sum()


def test_a_small_slide_runs_from_the_command_and_its_picture_is_drawn(tmp_path):
    finest = np.full((3, 700, 900), 240, np.uint8)
    finest[:, 100:300, 200:600] = 90
    write_slide(tmp_path / "s.svs", [finest, halved(finest, 4)])
    model = darkness(tmp_path / "model")
    flags = ["--workers", "1", "--window", "256", "--block", "256", "--products", "outlines", "--device", "cpu"]
    done = maskmill("run", "s.svs", "--model", model, "--out", "out", *flags, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mask = check_result(tmp_path / "out/s", (finest == 90).all(axis=0), np.ones((700, 900), bool), 0.5)
    assert (mask == 1).sum() == 200 * 400
    with rasterio.open(tmp_path / "out/s/quicklook.png") as picture:
        assert len(np.unique(picture.read(1)[30:400, 12:640])) > 1
    features = json.loads((tmp_path / "out/s/outlines.geojson").read_text())["features"]
    assert len(features) == 2


def test_glass_is_skipped_where_tissue_is_the_area(tmp_path):
    finest = np.full((1024, 1536, 3), 240, np.uint8)
    finest[256:496, 512:1008] = 180, 90, 150
    finest[700:708, 100:108] = 0  # dust, which is dark and has no colour
    finest = finest.transpose(2, 0, 1).copy()
    write_slide(tmp_path / "s.svs", [finest, halved(finest, 4)])
    job = {"scenes": ["s.svs"], "model": str(darkness(tmp_path / "model")), "out": "out", "aoi": "tissue"}
    job |= {"workers": 1, "window": 256, "block": 256, "device": "cpu"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    done = maskmill("run", "--job", "job.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Tissue is" in done.stdout + done.stderr
    out = tmp_path / "out/s"
    with rasterio.open(out / "mask.tif") as file:
        mask = file.read(1)
    inside = np.zeros(mask.shape, bool)
    inside[240:512, 496:1024] = True  # cells of 16 px that are touched, and one around them
    assert np.array_equal(mask != 254, inside)
    assert np.array_equal(mask[inside] == 1, (finest[1] == 90)[inside])
    report = json.loads((out / "report.json").read_text())
    assert report["blocks"]["outside"] == 4 * 6 - 2 * 3  # two rows and three columns of blocks are touched
    assert report["area"]["form"] == "tissue"
    proved = maskmill("verify", "out/s", "--json", cwd=tmp_path)
    assert proved.returncode == 0, proved.stderr
    again = maskmill("run", "--job", "job.yaml", "--json", "--aoi", "tissue", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**job, "aoi": None}))
    other = maskmill("run", "--job", "job.yaml", "--json", cwd=tmp_path)
    assert other.returncode == 2
    assert "area" in last_json(other)["error"]
