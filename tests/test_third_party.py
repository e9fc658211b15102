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

from tests.images import SHARED, stack_vrt
from tests.oracle import save_scene
from tests.warm import Warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.exists(), reason="the material of others is not here"),
]
MODELS, SCENES, GOLDEN = SHARED / "models", SHARED / "scenes", SHARED / "golden"
CLEAR_CLOUD_SHADOW = np.array([2, 0, 0, 0, 1], np.uint8)  # what the human mask's values are to the network's


@pytest.fixture(scope="module")
def warm():
    process = Warm()
    yield process
    process.close()


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


def test_the_nuclei_network_says_what_its_makers_say(run, tmp_path):
    folder = MODELS / "bioimageio-unet2d-nuclei"
    scene = save_scene(tmp_path / "nuclei.tif", np.load(folder / "test_input.npy")[0])
    card = {"bands": ["grey"], "scaling": {"kind": "scene"}, "classes": ["background", "nucleus"], "says": "logits"}
    card |= {"activation": "sigmoid"}
    done, report, out = run(scene, folder / "weights.onnx", card, products=["probabilities"])
    assert done.returncode == 0, done.stderr
    expected = np.load(folder / "test_output.npy")[0, 0]
    inside = (slice(64, -64), slice(64, -64))  # at the rim we reflect, and they pad each layer with zeros
    found = read(out / "probabilities.tif")[0] / 250
    assert np.abs(found - expected)[inside].max() <= 0.5 / 250 + 1e-4
    sure = np.abs(expected - 0.5) > 1e-4
    assert ((read(out / "mask.tif")[0] == 1) == (expected >= 0.5))[inside][sure[inside]].all()
    assert report["scenes"][0]["margin"] == "64 exact"


@pytest.mark.parametrize(
    ("name", "card", "said"),
    [
        ("dummy_segmentation_models__one_output_sigmoid_bsx1x512x512", {}, None),
        ("dummy_segmentation_models__one_output_softmax_bsx2x512x512", {"classes": ["no", "yes"]}, None),
        ("dummy_segmentation_models__two_outputs_sigmoid_bsx512x512", {"output": "output2"}, None),
        ("dummy_regression_models__one_output_sigmoid_bsx512x512", {"classes": ["no", "yes"]}, None),
        ("dummy_segmentation_models__two_outputs_sigmoid_bsx1x512x512", {}, "2 outputs (output, output2); say which"),
        ("dummy_segmentation_models__dummy_model", {}, "does not say"),
        ("dummy_regression_models__dummy_regression_model", {}, "is a Regressor; maskmill makes masks"),
        ("dummy_recognition_model", {"classes": ["no", "yes"]}, "2 dimensions ([None, 224]), which is no mask"),
        ("dummy_superresolution_model", {"classes": ["a", "b", "c"]}, "128"),
    ],
)
def test_the_models_of_deepness_run_or_are_refused_with_a_reason(run, tmp_path, name, card, said):
    if card:
        card = {"scaling": {"kind": "constant", "divide_by": 255}, "classes": ["no", "yes"], **card}
    done, report, out = run(SCENES / "uav/dummy_fotomap_small.tif", MODELS / f"deepness/{name}.onnx", card)
    if said is None:
        assert done.returncode == 0, done.stderr
        assert report["scenes"][0]["state"] == "complete"
        assert set(np.unique(read(out / "mask.tif"))) <= {0, 1, 255}
    else:
        assert done.returncode == 2, done.stderr
        assert said in report["error"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]


def test_a_network_that_takes_the_channels_last_says_what_it_says_alone(run):
    path, scene = MODELS / "zeiss-toy/simple_nuclei_segmodel.onnx", SCENES / "histology/Tumor_HE_Stain_T76_rgb.tif"
    card = {"bands": ["grey"], "scaling": {"kind": "constant", "divide_by": 255}, "classes": ["background", "nucleus"]}
    card |= {"says": "probabilities", "activation": "softmax"}
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
    """(the network's path, its card) of ukis-csmask, four networks of 40 MB in a package."""
    folder = tmp_path_factory.mktemp("ukis")
    fetched = subprocess.run(["bash", SHARED / "fetch-ukis", folder], capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"ukis-csmask cannot be had: {fetched.stderr[-200:]}")
    data = json.loads((folder / "model_6b_l1c.json").read_text())["data"]["dataset_statistics"]
    (mean, deviation), names = data["img"], data["band_names"]
    card = {"bands": names, "scaling": {"kind": "mean_std", "mean": mean, "std": deviation}, "says": "logits"}
    card |= {"classes": ["clear", "cloud", "shadow"], "activation": "softmax", "window": 256}
    return folder / "model_6b_l1c.onnx", card


def kappa(found, expected):
    """Cohen's, for three classes."""
    table = np.zeros((3, 3))
    np.add.at(table, (found.ravel(), expected.ravel()), 1)
    chance = (table.sum(0) @ table.sum(1)) / table.sum() ** 2
    return (np.trace(table) / table.sum() - chance) / (1 - chance)


@pytest.mark.parametrize(("name", "least"), [("sentinel2", 0.97), ("landsat7", 0.95)])
def test_clouds_are_found_as_by_the_makers_and_by_people(run, clouds, tmp_path, name, least):
    said = np.load(SCENES / f"ukis-csmask/{name}.npz")
    place = {"transform": Affine(30, 0, 500_000, 0, -30, 5_000_000)}
    scene = save_scene(tmp_path / f"{name}.tif", said["img"].transpose(2, 0, 1).copy(), **place)
    done, report, out = run(scene, *clouds, overlap=0.5)
    assert done.returncode == 0, done.stderr
    assert report["scenes"][0]["margin"].endswith("blend")
    mask = read(out / "mask.tif")[0]
    assert (mask == read(GOLDEN / f"ukis-csmask/{name}_6b_l1c_csm.tif")[0]).mean() >= least
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
    model, card = clouds
    sun = math.sin(math.radians(64.7436))  # of the scene's MTL
    done, _, out = run(scene, model, card | {"gain": 2e-5 / sun, "offset": -0.1 / sun}, overlap=0.5)
    assert done.returncode == 0, done.stderr
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
