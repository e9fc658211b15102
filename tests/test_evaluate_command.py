"""`maskmill evaluate`, as it is typed: a model on labelled images, or masks that are there, and a threshold for it."""

import json

import numpy as np
import pytest
import rasterio
from PIL import Image

from pipeline.network.card import Card
from pipeline.store.objects import put_whole
from tests.evaluated import put_labels
from tests.oracle import noise, save_model, save_scene, small_card, small_unet

HIGHER = 0.7  # the labels' threshold, where the network's is 0.5


@pytest.fixture(scope="module")
def place(tmp_path_factory, warm):
    """Two images whose labels are what a network says of them, but for its threshold; and that network's results."""
    folder = tmp_path_factory.mktemp("evaluate")
    classes = [{"name": "ground"}, {"name": "building"}]
    card = Card.of({**small_card(2).model_dump(mode="json"), "activation": "sigmoid", "classes": classes}, "the test")
    save_model(folder / "model.onnx", small_unet(classes=1), card)
    for number, name in enumerate(("a", "b")):
        (folder / "data" / "images").mkdir(parents=True, exist_ok=True)
        save_scene(folder / "data" / "images" / f"{name}.tif", noise(90, 110, seed=number))
    run = ["run", "data/images/a.tif", "data/images/b.tif", "--model", "./model.onnx", "--out", "out"]
    done = warm.run(*run, "--products", "probabilities", "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    for name in ("a", "b"):
        with rasterio.open(folder / "out" / name / "probabilities.tif") as file:
            labels = (file.read(1) >= HIGHER * 250).astype(np.uint8)
            put_labels(folder / "data" / "masks" / f"{name}_mask.tif", labels, crs=file.crs, transform=file.transform)
    return folder


def said(warm, place, *arguments):
    done = warm.run("evaluate", *arguments, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_on_labelled_images_scores_what_its_masks_do(warm, place):
    made = said(warm, place, "./model.onnx", "data", "--device", "cpu", "--report", "report.json", "--picture", "a.png")
    (place / "labels").mkdir()
    for name in ("a", "b"):
        put_whole(place / "labels" / f"{name}.tif", (place / "data" / "masks" / f"{name}_mask.tif").read_bytes())
    there = said(warm, place, "out", "labels")
    assert made == there == json.loads((place / "report.json").read_text())
    masks, labels = (
        np.concatenate([rasterio.open(place / part.format(name)).read(1).ravel() for name in ("a", "b")])
        for part in ("out/{}/mask.tif", "data/masks/{}_mask.tif")
    )
    both, either = ((masks == 1) & (labels == 1)).sum(), ((masks == 1) | (labels == 1)).sum()
    assert made["classes"][1]["iou"] == pytest.approx(both / either)
    assert made["accuracy"] == pytest.approx((masks == labels).mean())
    assert Image.open(place / "a.png").format == "PNG"
    assert [path.name for path in place.iterdir() if path.name.startswith(("tmp", "maskmill-"))] == []


@pytest.mark.parametrize("maximise", ["f1", "iou"])
def test_the_threshold_that_is_proposed_is_that_of_the_labels_and_gives_the_score_that_is_foretold(
    warm, place, maximise
):
    chosen = said(warm, place, "./model.onnx", "data", "--device", "cpu", "--calibrate", maximise)["calibration"]
    assert chosen["threshold"] == pytest.approx(HIGHER, abs=1 / 250)
    assert (chosen["score"], chosen["threshold_now"], chosen["card"]) == (
        1.0,
        0.5,
        f"threshold: {chosen['threshold']}",
    )
    (place / "job.yaml").write_text(f"card: {{{chosen['card']}}}\n")
    again = said(warm, place, "./model.onnx", "data", "--device", "cpu", "--job", "job.yaml")
    assert again["classes"][1]["iou"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["out"], "Name the labels, once"),
        (["./model.onnx"], "Name either DATA, or --images and their --labels"),
        (["out", "nowhere"], "nowhere"),
        (["out", "data/masks/a_mask.tif", "--device", "cpu"], "is a mask, so nothing is run"),
        (["out/a", "data/masks/a_mask.tif", "--map", "1=house"], "The mask has no class 'house'"),
        (["out/a", "data/masks/a_mask.tif", "--tolerance", "900"], "`--tolerance` cannot be 900"),
        (["out/a", "data/masks/a_mask.tif", "--calibrate", "best"], "`--calibrate` cannot be 'best'"),
        (["./model.onnx", "out"], "images"),
        (["out/a", "model.onnx"], "model.onnx"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(warm, place, arguments, sentence):
    done = warm.run("evaluate", *arguments, cwd=place)
    (told,) = done.stderr.splitlines()
    assert done.returncode == 2, told
    assert sentence in told
    assert told.endswith(".")
