"""Files damaged at random, of every kind that is read: each is opened, or refused in a sentence; none does harm."""

from __future__ import annotations

import json
from functools import cache

import pytest
import rasterio
import rasterio.shutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.document import load_job
from pipeline.errors import BlockError, InputError
from pipeline.network.mlm import embed
from pipeline.raster.opening import Wanted
from pipeline.raster.reader import Reader
from pipeline.settings import Job
from pipeline.survey import Survey
from tests.damage import damaged
from tests.images import noise, quiet, vrt_of, write_image
from tests.oracle import small_card, small_unet
from tests.warm import Warm

pytestmark = quiet
IMAGES = (
    "strips",
    "tiles",
    "cog",
    "bigtiff",
    "jpegtiff",
    "png",
    "jpeg",
    "jp2",
    "webp",
    "bmp",
    "vrt",
    "nc",
    "nc4",
    "pam",
)
JOB = Job(scenes=("a.tif",), model="a.onnx", out="out", device="cpu")
few = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A whole file of each kind; whatever else is found in the folder was left behind."""
    folder = tmp_path_factory.mktemp("shop")
    pixels = noise(3, 70, 90)
    write_image(folder / "strips", pixels, compress="deflate")
    write_image(folder / "tiles", pixels, tiled=True, blockxsize=32, blockysize=32, compress="lzw", predictor=2)
    write_image(folder / "bigtiff", pixels, tiled=True, blockxsize=32, blockysize=32, bigtiff="yes", nodata=3)
    write_image(folder / "jpegtiff", pixels, tiled=True, blockxsize=32, blockysize=32, compress="jpeg")
    rasterio.shutil.copy(str(folder / "strips"), str(folder / "cog"), driver="COG", BLOCKSIZE=32)
    for name, driver in (("png", "PNG"), ("jpeg", "JPEG"), ("jp2", "JP2OpenJPEG"), ("webp", "WEBP"), ("bmp", "BMP")):
        write_image(folder / name, pixels, driver=driver)
    for name, kind in (("nc", "NC"), ("nc4", "NC4")):
        one = write_image(folder / "one", pixels[:1].astype("int16"))
        rasterio.shutil.copy(str(one), str(folder / "one.nc"), driver="netCDF", FORMAT=kind)
        (folder / "one.nc").rename(folder / name)
    (folder / "vrt").write_text(vrt_of("strips", size=(70, 90)))
    (folder / "pam").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform><Metadata><MDI key='a'>b</MDI>"
        "</Metadata><PAMRasterBand band='1'><NoDataValue>3</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    (folder / "onnx").write_bytes(embed(small_unet(), small_card()).SerializeToString())
    (folder / "yaml").write_text(
        "scenes: [a.tif, {name: b, uri: c.tif}]\nmodel: a.onnx\nout: out\nbands: [1, 2, 3]\nmemory: 8G\n"
        "card: {name: x, classes: [a, b], scaling: {kind: constant, factor: 0.5}, says: logits}\nattempts: 2\n"
    )
    for extra in folder.glob("*.aux.xml"):
        extra.unlink()
    return folder


@pytest.fixture(scope="module")
def survey():
    with Survey() as one:
        yield one


def _is_sentence(error):
    assert "Traceback" not in error.message
    assert error.message.endswith((".", "?", "…", ")"))
    assert len(error.message) < 2000


def _image(shop, survey, kind, content):
    """Open what became of an image as a run does, and read all of it."""
    name = "strips" if kind == "pam" else "a.img"
    damaged_file = shop / ("strips.aux.xml" if kind == "pam" else name)
    damaged_file.write_bytes(content)
    before = sorted(shop.iterdir())
    try:
        scene = survey.scene(str(shop / name), Wanted(("grey",), (1,)), "x")
        if scene.rect.area * len(scene.bands) < 1 << 22:  # others are staged, or read in parts
            with Reader(scene) as reader:
                reader.read(scene.rect)
    except (InputError, BlockError) as error:
        _is_sentence(error)
    finally:
        assert sorted(shop.iterdir()) == before
        damaged_file.unlink()


def _model(shop, survey, content):
    (shop / "a.onnx").write_bytes(content)
    try:
        survey.network(shop / "a.onnx", JOB)
    except InputError as error:
        _is_sentence(error)
    finally:
        (shop / "a.onnx").unlink()


@pytest.mark.parametrize("kind", IMAGES)
@given(data=st.data())
@settings(few, max_examples=40)
def test_a_damaged_image_is_opened_or_refused(shop, survey, kind, data):
    _image(shop, survey, kind, data.draw(damaged((shop / kind).read_bytes())))


@given(data=st.data())
@settings(few, max_examples=40)
def test_a_damaged_model_is_opened_or_refused(shop, survey, data):
    _model(shop, survey, data.draw(damaged((shop / "onnx").read_bytes())))


@given(data=st.data())
@settings(few, max_examples=60)
def test_a_damaged_job_is_read_or_refused(shop, data):
    (shop / "job.yaml").write_bytes(data.draw(damaged((shop / "yaml").read_bytes())))
    try:
        load_job(shop / "job.yaml", {})
    except InputError as error:
        _is_sentence(error)
    finally:
        (shop / "job.yaml").unlink()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", [*IMAGES, "onnx"])
@given(data=st.data())
@settings(few, max_examples=400)
def test_many_damaged_files_are_opened_or_refused(shop, survey, kind, data):
    content = data.draw(damaged((shop / kind).read_bytes()))
    if kind == "onnx":
        _model(shop, survey, content)
    else:
        _image(shop, survey, kind, content)


@cache
def _warm():
    return Warm()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiles", "cog", "png", "jp2", "nc4"])
@given(data=st.data())
@settings(few, max_examples=12)
def test_the_command_on_damaged_images_ends_in_success_holes_or_a_refusal(shop, tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("run")
    (folder / "a.img").write_bytes(data.draw(damaged((shop / kind).read_bytes())))
    (folder / "a.onnx").write_bytes((shop / "onnx").read_bytes())
    said = ("--model", "a.onnx", "--out", "out", "--device", "cpu", "--bands", "1,1,1", "--json")
    done = _warm().run("run", "a.img", *said, cwd=folder)
    assert done.returncode in {0, 2, 3}, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["exit_code"] == done.returncode
    left = {path.name for path in folder.iterdir()}
    assert left == {"a.img", "a.onnx"} | ({"out"} if done.returncode != 2 else set())


@pytest.fixture(scope="module", autouse=True)
def _closed():
    yield
    if _warm.cache_info().currsize:
        _warm().close()
