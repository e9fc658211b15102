"""Networks of segmentation_models_pytorch go all the way: trained, exported, run on a large scene, evaluated."""

import json

import pytest
import rasterio

pytest.importorskip("segmentation_models_pytorch")

import torch

from models.architecture import Architecture, stride_of
from models.export import exported, noise, spoken
from models.parity import compared, speaker
from pipeline.errors import SettingsError
from pipeline.network.field import field_of
from tests.lakes import PLACE, lakes, put_pairs
from tests.mill import last_json, maskmill
from tests.oracle import save_scene

DEEPLAB = "smp:DeepLabV3Plus?encoder=resnet50"


def done(*arguments, cwd):
    ended = maskmill(*arguments, cwd=cwd, timeout=900)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.timeout(1200)
def test_deeplab_with_a_resnet_goes_from_training_to_a_mask_of_a_large_scene(tmp_path):
    put_pairs(tmp_path / "data", count=30, side=96)
    image, truth = lakes(500, 700, 5, 16)
    save_scene(tmp_path / "scene.tif", image, transform=PLACE, crs="EPSG:32633")
    save_scene(tmp_path / "truth.tif", truth[None], transform=PLACE, crs="EPSG:32633")
    small = ("--window", "64", "--batch", "8", "--rate", "0.001", "--epochs", "10")
    learnt = last_json(done("train", "data", "--arch", DEEPLAB, *small, "--out", "learnt", "--json", cwd=tmp_path))
    assert learnt["best"]["iou"]["foreground"] > 0.5
    keep = tmp_path / "learnt" / "checkpoint.safetensors"
    shipped = last_json(done("export", keep, "--out", "lab.onnx", "--on", "scene.tif", "--json", cwd=tmp_path))
    assert all(each["worst"] <= 1e-4 for each in shipped["parity"])
    assert "ReduceMean" in shipped["unbounded_because"] or "Pool" in shipped["unbounded_because"]
    run = ("run", "scene.tif", "--model", "lab.onnx", "--window", "128", "--products", "disagreement", "--out", "masks")
    done(*run, cwd=tmp_path)
    with rasterio.open(tmp_path / "masks" / "scene" / "disagreement.tif") as file:
        assert file.read(1).max() > 0  # it pools over its windows, so these differ, and it is written where
    report = json.loads((tmp_path / "masks" / "scene" / "report.json").read_text())
    assert "blend" in json.dumps(report)
    scored = last_json(done("evaluate", "masks/scene", "truth.tif", "--json", cwd=tmp_path))
    assert scored["macro"]["iou"] > 0.6
    assert done("verify", "masks/scene", cwd=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "smp:Unet?encoder=resnet18",
        "smp:UnetPlusPlus?encoder=mobilenet_v2",
        "smp:FPN?encoder=resnet18",
        "smp:Linknet?encoder=resnet18",
        "smp:MAnet?encoder=resnet18",
        "smp:PSPNet?encoder=resnet18",
        "smp:DeepLabV3?encoder=resnet18",
    ],
)
def test_other_networks_are_exported_and_say_what_torch_says(text):
    torch.manual_seed(0)
    network = Architecture.of(text).build(4, 3).eval()
    graph = exported(network, 4)
    compared(spoken(network), speaker(graph.model), noise(graph.model, 4, stride_of(network)), "noise").demand()
    field = field_of(graph.model)
    bounded = {"smp:Unet", "smp:UnetPlusPlus", "smp:Linknet"}  # an FPN norms groups of channels over its whole window
    assert field.bounded == (text.split("?")[0] in bounded)


def test_the_weights_of_an_encoder_alone_are_taken(tmp_path):
    from models.training.learner import Learner
    from models.training.recipe import Recipe
    from models.training.weights import read_weights
    from tests.oracle import small_card

    torch.manual_seed(1)
    encoder = Architecture.of("smp:Unet?encoder=resnet18").build(3, 1).encoder.state_dict()
    torch.save(encoder, tmp_path / "resnet18.pth")
    learner = Learner(Recipe("smp:Unet?encoder=resnet18", window=64), small_card(), ())
    left = learner.begin_with(read_weights(tmp_path / "resnet18.pth")[0])
    assert left
    assert not any(name.startswith("encoder.") for name in left)
    own = learner.network.encoder.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in encoder.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smp:Nothing", "has no network Nothing; it has DPT, DeepLabV3"),
        ("smp:Unet?encoder=nothing", "cannot make smp:Unet"),
        ("smp:Unet?depth=3", "cannot make smp:Unet"),
    ],
)
def test_what_it_has_not_is_a_sentence(text, message):
    with pytest.raises(SettingsError, match=message):
        Architecture.of(text).build(3, 2)
