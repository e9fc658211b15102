"""The networks that ship: each is one file that is a whole model, and knows what it says it knows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from models import earth_water, zoo
from models.evaluate import confusion, iou
from pipeline.errors import ModelError
from pipeline.network.field import field_of
from pipeline.network.model_file import load_model
from pipeline.network.resolve import resolve_card

HEIGHT, WIDTH = 2700, 5400
PAGE = (Path(zoo.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def truth():
    return earth_water.truth(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def image():
    return earth_water.blue_marble()


def _mask(image, rows, cols):
    """What the shipped network says of a part of the image, seen with its margin, through ONNX Runtime alone."""
    import onnxruntime

    path = zoo.path("earth-water")
    model = load_model(path)
    card, margin = resolve_card(model, path, None), field_of(model).margin
    rows, cols = (slice(side.start - margin, side.stop + margin) for side in (rows, cols))
    shift, factor = (numbers[:, None, None] for numbers in card.affine(None))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = (image[:, rows, cols].astype(np.float32) - shift) * factor
    logits = session.run(None, {session.get_inputs()[0].name: pixels[None]})[0][0]
    return logits.argmax(axis=0)[margin:-margin, margin:-margin]


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_that_ships_is_one_small_file_with_its_card_and_is_exact(name):
    path = zoo.path(name)
    model = load_model(path)
    onnx.checker.check_model(model, full_check=True)
    card = resolve_card(model, path, None)
    assert card.name == name
    assert card.licence in {"Apache-2.0", "CC-BY-4.0"}
    assert card.training_data
    assert card.scores
    field = field_of(model)
    assert field.bounded
    assert field.inexact is None
    assert card.window % field.stride == 0
    assert card.window > 2 * field.margin
    assert name in PAGE
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_together_they_are_small():
    assert sum(zoo.path(name).stat().st_size for name in zoo.names()) < 20_000_000


def test_earth_water_never_sees_as_far_as_the_guard_band_is_wide():
    assert field_of(load_model(zoo.path("earth-water"))).reach < earth_water.GUARD
    unseen, trained = earth_water.held_out(WIDTH), earth_water.trained_on(WIDTH)
    assert trained.start - unseen.stop == earth_water.GUARD


def test_earth_water_beats_the_rule_of_blue_less_red_on_sea_and_finds_the_great_lakes(image, truth):
    parts = slice(416, 896), slice(1200, 1800)  # 62° N to 30° N, 100° W to 60° W: in the half that never trained
    found = _mask(image, *parts)
    red, _, blue = image[:, *parts].astype(int)
    ours = iou(confusion(truth[parts], found, 3))
    rule = iou(confusion(truth[parts], np.where(blue - red > 10, 0, 1), 3))
    assert ours[0] > rule[0]
    assert ours[0] > 0.97
    assert ours[1] > rule[1]
    assert ours[2] > 0.55


def test_an_unknown_name_is_answered_with_the_names_there_are():
    with pytest.raises(ModelError, match=r"no network called `nowhere`; it has .*earth-water"):
        zoo.path("nowhere")


def test_finding_a_network_imports_nothing_heavy():
    code = "import sys; from models import zoo; zoo.path('earth-water'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "onnx", "onnxruntime", "torch", "rasterio"} & set(loaded)
