"""Models and scenes that nobody here made, through the command, against what their makers say comes out.

Nothing of it belongs to the project: the tests skip where the material is absent.
"""

import json
import math
import shutil
import subprocess
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import onnxruntime as ort
import pytest
import rasterio
import yaml
from affine import Affine

from pipeline.grid import Rect
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.settle import open_network, settle
from pipeline.tune import Trial
from tests.images import SHARED, stack_vrt
from tests.oracle import TUNER, save_scene

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.exists(), reason="the material of others is not here"),
]
MODELS, SCENES, GOLDEN = SHARED / "models", SHARED / "scenes", SHARED / "golden"
CLEAR_CLOUD_SHADOW = np.array([2, 0, 0, 0, 1], np.uint8)  # what the human mask's values are to the network's


@pytest.fixture
def run(warm, tmp_path):
    """Run a job on one image or several; returns what became of the command, its report, and the first's folder."""

    def go(images, model, card=None, **job):
        out, images = tmp_path / "out", images if isinstance(images, list) else [images]
        scenes = [{"name": Path(image).stem, "uri": str(image)} for image in images]
        said = {"scenes": scenes, "model": str(model), "out": str(out), "device": "cpu"}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(said | {"card": card or {}} | job))
        done = warm.run("run", "--job", "job.yaml", "--json", cwd=tmp_path)
        assert all(line.startswith("maskmill: ") for line in done.stderr.splitlines()), done.stderr
        assert not done.left
        return done, json.loads(done.stdout.splitlines()[-1]), out / scenes[0]["name"]

    return go


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def one_pass(model, scene, crop, card=None):
    """What the network says of a crop in one window of its size, through our graph from raw pixels: (band, row, col).

    Nothing is said of the model but what lies beside it and `card`.
    """
    job = Job(scenes=[str(scene)], model=str(model), out="none", device="cpu", card=card or {})
    plan = settle(job, open_network(model, job), open_scene(str(scene), None), TUNER, None, 1).plan
    choices = plan.choices
    return Trial(plan.network, plan.scene, choices.shift, choices.factor, "cpu").one_pass(crop, 0)


NUCLEI = MODELS / "bioimageio-unet2d-nuclei"


@pytest.fixture
def nuclei(tmp_path):
    return save_scene(tmp_path / "nuclei.tif", np.load(NUCLEI / "test_input.npy")[0])


def test_one_window_of_the_nuclei_network_is_its_makers_answer(nuclei):
    found = one_pass(NUCLEI / "weights.onnx", nuclei, Rect(0, 0, 512, 512))
    assert np.abs(found - np.load(NUCLEI / "test_output.npy")[0]).max() <= 1e-4


def test_the_nuclei_network_says_what_its_makers_say(run, nuclei):
    done, report, out = run(nuclei, NUCLEI / "weights.onnx", products=["probabilities"])
    assert done.returncode == 0, done.stderr
    expected = np.load(NUCLEI / "test_output.npy")[0, 0]
    inside = (slice(64, -64), slice(64, -64))  # at the rim we reflect, and they pad each layer with zeros
    found = read(out / "probabilities.tif")[0] / 250
    assert np.abs(found - expected)[inside].max() <= 0.5 / 250 + 1e-4
    sure = np.abs(expected - 0.5) > 1e-4
    assert ((read(out / "mask.tif")[0] == 1) == (expected >= 0.5))[inside][sure[inside]].all()
    assert report["scenes"][0]["margin"] == "64 exact"


_CLASSES = {"scaling": {"kind": "constant", "divide_by": 255}, "classes": ["no", "yes"]}
DEEPNESS = {  # what has to be said beside the file, and why it is refused, if it is
    "dummy_segmentation_models__one_output_sigmoid_bsx1x512x512": ({}, None),
    "dummy_segmentation_models__one_output_softmax_bsx2x512x512": (_CLASSES, None),
    "dummy_segmentation_models__two_outputs_sigmoid_bsx1x512x512": ({}, None),
    "dummy_segmentation_models__two_outputs_sigmoid_bsx512x512": (_CLASSES | {"output": "output2"}, None),
    "dummy_segmentation_models__dummy_model": ({}, "does not say `scaling`, `classes`, `says`"),
    "dummy_regression_models__one_output_sigmoid_bsx1x512x512": ({}, None),
    "dummy_regression_models__one_output_sigmoid_bsx512x512": (_CLASSES, None),
    "dummy_regression_models__two_outputs_sigmoid_bsx1x512x512": ({}, None),
    "dummy_regression_models__two_outputs_sigmoid_bsx512x512": (_CLASSES, None),
    "dummy_regression_models__dummy_regression_model": ({}, None),
    "dummy_regression_models__dummy_regression_model_batched": ({}, None),
    "dummy_superresolution_model": (_CLASSES | {"classes": ["a", "b", "c"]}, None),
    "dummy_recognition_model": ({}, "2 dimensions ([None, 224]), which is no mask"),
    "one_output_sigmoid_red_detector": (_CLASSES, None),
}


def test_no_model_of_deepness_is_left_out():
    assert {path.stem for path in MODELS.glob("deepness/*.onnx")} == set(DEEPNESS)


@pytest.mark.parametrize("name", DEEPNESS)
def test_the_models_of_deepness_run_or_are_refused_with_a_reason(run, tmp_path, name):
    card, said = DEEPNESS[name]
    done, report, out = run(SCENES / "uav/dummy_fotomap_small.tif", MODELS / f"deepness/{name}.onnx", card)
    if said is None:
        assert done.returncode == 0, done.stderr
        assert report["scenes"][0]["state"] == "complete"
        assert set(np.unique(read(out / "mask.tif"))) <= {0, 1, 2, 255}
        assert ("multiplied by 1.1" in done.stderr) == ("dummy_regression_model" in name.split("__")[-1])
    else:
        assert done.returncode == 2, done.stderr
        assert said in report["error"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]
    assert ("2 outputs (output, output2)" in done.stderr) == ("two_outputs" in name and "output" not in card)


def test_four_pixels_for_one_are_averaged(run):
    path, scene = MODELS / "deepness/dummy_superresolution_model.onnx", SCENES / "uav/dummy_fotomap_small.tif"
    card = {"bands": ["red", "green", "blue"], "scaling": {"kind": "constant", "divide_by": 255}, "says": "logits"}
    card |= {"classes": ["a", "b", "c"], "activation": "softmax"}
    done, report, out = run(scene, path, card, products=["probabilities"])
    assert done.returncode == 0, done.stderr
    assert "says 2 × 2 pixels for one of its input" in done.stderr
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = (read(scene)[:3, 280:344, 280:344] / np.float32(255)).astype(np.float32)
    said = session.run(None, {session.get_inputs()[0].name: pixels[None]})[0][0]
    powers = np.exp(said.reshape(3, 64, 2, 64, 2).mean(axis=(2, 4)))
    found = read(out / "probabilities.tif")[:, 280:344, 280:344] / 250
    inside = (slice(None), slice(16, 48), slice(16, 48))  # what this window alone covers
    assert np.abs(found - powers / powers.sum(axis=0))[inside].max() <= 0.5 / 250 + 1e-4
    assert report["scenes"][0]["margin"].endswith("blend")  # its Resize lays corners over each other


def test_a_network_that_takes_the_channels_last_says_what_it_says_alone(run):
    path, scene = MODELS / "zeiss-toy/simple_nuclei_segmodel.onnx", SCENES / "histology/Tumor_HE_Stain_T76_rgb.tif"
    card = {"scaling": {"kind": "constant", "divide_by": 255}}  # the one thing that nothing beside it says
    done, _, out = run(scene, path, card, bands=[1], products=["probabilities"])
    assert done.returncode == 0, done.stderr
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = (read(scene)[0, :1024, :1024] / np.float32(255)).astype(np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: pixels[None, ..., None]})[0][0].transpose(2, 0, 1)
    found = read(out / "probabilities.tif")[:, :1024, :1024] / 250
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert np.abs(found - np.clip(expected, 0, 1))[inside].max() <= 0.5 / 250 + 1e-4


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    """The network of ukis-csmask with six bands, beside its JSON: four networks of 40 MB in a package."""
    folder = tmp_path_factory.mktemp("ukis")
    fetched = subprocess.run(["bash", SHARED / "fetch-ukis", folder], capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"ukis-csmask cannot be had: {fetched.stderr[-200:]}")
    return folder / "model_6b_l1c.onnx"


def kappa(found, expected):
    """Cohen's, for three classes."""
    table = np.zeros((3, 3))
    np.add.at(table, (found.ravel(), expected.ravel()), 1)
    chance = (table.sum(0) @ table.sum(1)) / table.sum() ** 2
    return (np.trace(table) / table.sum() - chance) / (1 - chance)


@pytest.fixture
def reflectance(tmp_path):
    """Write an npz scene's six bands as GeoTIFF; returns its path and the file's arrays."""

    def go(path):
        said = np.load(SCENES / path)
        place = {"transform": Affine(30, 0, 500_000, 0, -30, 5_000_000)}
        scene = save_scene(tmp_path / f"{Path(path).stem}.tif", said["img"].transpose(2, 0, 1).copy(), **place)
        return scene, said

    return go


def test_one_tile_of_the_cloud_network_is_its_makers_answer(clouds, reflectance):
    """The sharp one: band order and scaling, to the last digit but three."""
    golden = np.load(GOLDEN / "single_tile/ukis_6b_l1c_sentinel2_r0c0.npz")
    scene, _ = reflectance("ukis-csmask/sentinel2.npz")
    raw = one_pass(clouds, scene, Rect(0, 0, 256, 256), {"says": "probabilities"})  # so that it comes as it is
    assert np.allclose(raw, golden["output"][0], rtol=1e-3, atol=1e-3)
    powers = np.exp(golden["output"][0].astype(float))
    found = one_pass(clouds, scene, Rect(0, 0, 256, 256))
    assert np.allclose(found, powers / powers.sum(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("ukis-csmask/sentinel2.npz", 0.97),
        ("ukis-csmask/landsat7.npz", 0.95),
        ("s2cloudless-l1c/s2_l1c_6band.npz", 0.93),
    ],
)
def test_clouds_are_found_as_by_the_makers_and_by_people(run, clouds, reflectance, path, least):
    scene, said = reflectance(path)
    done, report, out = run(scene, clouds, overlap=0.5)
    assert done.returncode == 0, done.stderr
    assert "eats reflectance from 0 to 1" in done.stderr
    assert report["scenes"][0]["margin"].endswith("blend")
    mask = read(out / "mask.tif")[0]
    name = "s2cloudless" if "s2cloudless" in path else scene.stem
    assert (mask == read(GOLDEN / f"ukis-csmask/{name}_6b_l1c_csm.tif")[0]).mean() >= least
    if "msk" in said:
        assert kappa(mask, CLEAR_CLOUD_SHADOW[said["msk"][..., 0]]) >= 0.60


def test_a_scene_of_a_file_per_band_keeps_its_place(run, clouds, tmp_path):
    folder = SCENES / "landsat8-LC80200392015216"
    names = [f"test_B{band}.tif" for band in (2, 3, 4, 5, 6, 7)]
    for name in names:
        shutil.copy(folder / name, tmp_path)
    with rasterio.open(folder / names[0]) as first:
        corner = ", ".join(map(str, first.transform.to_gdal()))
        place = f"<SRS>{escape(first.crs.to_wkt())}</SRS><GeoTransform>{corner}</GeoTransform>"
        stacked = stack_vrt(*(("UInt16", None, name) for name in names), size=first.shape)
    scene = tmp_path / "stack.vrt"
    scene.write_text(stacked.replace("<VRTRasterBand", f"{place}<VRTRasterBand", 1))
    sun = math.sin(math.radians(64.7436))  # of the scene's MTL
    done, _, out = run(scene, clouds, {"gain": 2e-5 / sun, "offset": -0.1 / sun}, overlap=0.5)
    assert done.returncode == 0, done.stderr
    demand_landsats_answer(out)


def test_a_delivery_of_landsat_runs_as_the_folder_that_it_is(run, clouds):
    done, _, out = run(SCENES / "landsat8-LC80200392015216", clouds)
    assert done.returncode == 0, done.stderr
    assert "Reflectance is made as the image's own metadata say" in done.stderr
    demand_landsats_answer(out)


def demand_landsats_answer(out):
    with (
        rasterio.open(out / "mask.tif") as found,
        rasterio.open(GOLDEN / "ukis-csmask/landsat8-LC80200392015216_6b_l1c_csm.tif") as golden,
    ):
        assert found.crs == golden.crs
        assert found.transform == golden.transform
        assert (found.read(1) == golden.read(1)).mean() >= 0.80


def test_odd_images_keep_their_place_and_their_gaps(run):
    paths = sorted(SHARED.glob("fixtures/*.tif"))
    card = {"bands": ["any"], "scaling": {"kind": "scene"}, "classes": ["no", "yes"], "says": "probabilities"}
    done, _, first = run(paths, MODELS / "zeiss-toy/simple_regmodel.onnx", card | {"activation": "sigmoid"}, bands=[1])
    assert done.returncode == 0, done.stderr
    for path in paths:
        with rasterio.open(path) as scene, rasterio.open(first.with_name(path.stem) / "mask.tif") as mask:
            assert mask.shape == scene.shape, path
            assert mask.transform == scene.transform, path
            assert (mask.crs is None) == (scene.crs is None), path
            pixels, valid = scene.read(1), scene.read_masks(1) > 0
            valid &= ~np.isnan(pixels) if pixels.dtype.kind == "f" else True
            assert np.array_equal(mask.read(1) != 255, valid), path
