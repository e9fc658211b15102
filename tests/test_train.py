"""Training: the crops, the loss, and that a few steps learn something and learn the same twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.crops import IGNORED, Crops, turned

SIDE, RIM = 48, 4


def _scene():
    """Land with a dark lake and a blue sea: (image uint8 (3, 96, 128), truth uint8)."""
    truth = np.ones((96, 128), np.uint8)
    truth[:, 80:], truth[40:60, 20:50] = 0, 2
    colours = np.array([[20, 60, 120], [120, 110, 80], [4, 8, 12]], np.uint8)
    noise = np.random.default_rng(0).integers(0, 8, (3, *truth.shape), np.uint8)
    return colours[truth].transpose(2, 0, 1) + noise, truth


def _crops(**changes):
    image, truth = _scene()
    shift, factor = np.full(3, 60, np.float32), np.full(3, 1 / 80, np.float32)
    said = {"image": image, "truth": truth, "rare": 2, "side": SIDE, "rim": RIM, "shift": shift, "factor": factor}
    return Crops(**(said | changes))


@given(st.integers(0, 2**32))
def test_a_crop_is_a_part_of_the_image_with_its_truth_and_without_its_rim(seed):
    crops = _crops()
    pixels, truth = crops.draw(np.random.default_rng(seed), crops.rare_places(), 4)
    assert pixels.shape == (4, 3, SIDE, SIDE)
    assert pixels.dtype == np.float32
    inner = truth[:, RIM:-RIM, RIM:-RIM]
    assert (inner != IGNORED).all()
    assert (truth != IGNORED).sum() == inner.size
    assert all((inner[each] == 2).any() for each in (1, 3))  # every second one is cut around what is rare
    raw = pixels * 80 + 60
    blue_less_red = (raw[:, 2] - raw[:, 0])[:, RIM:-RIM, RIM:-RIM]
    assert (blue_less_red[inner == 0] > 50).all()  # the truth turned as its pixels did
    assert (blue_less_red[inner == 1] < 0).all()


@pytest.mark.parametrize("way", range(8))
def test_the_eight_ways_are_the_symmetries_of_a_square(way):
    pixels = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    ways = {turned(each, pixels, pixels[0])[0].tobytes() for each in range(8)}
    assert len(ways) == 8
    seen, truth = turned(way, pixels, pixels[0])
    np.testing.assert_array_equal(seen[0], truth)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truth": np.ones((96, 127), np.uint8)}, "make them equal"),
        ({"side": 97}, "a crop of 97 pixels"),
        ({"rim": 24}, "a rim of 24"),
        ({"rare": 7}, "no pixel of the truth has the class 7"),
    ],
)
def test_what_cannot_be_cut_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _crops(**changes)


def test_the_loss_is_cross_entropy_plus_what_is_missing_to_a_soft_iou():
    torch = pytest.importorskip("torch")
    from models.train import loss

    random = np.random.default_rng(4)
    logits, truth = random.normal(size=(2, 3, 5, 4)), random.integers(0, 2, (2, 5, 4))  # class 2 is never shown
    truth[0, 0, 0] = IGNORED
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    known = truth != IGNORED
    p, actual = np.moveaxis(p, 1, -1)[known], np.eye(3)[truth[known]]
    both = (p * actual).sum(0)
    missing = 1 - both / (p.sum(0) + actual.sum(0) - both)
    expected = -np.log((p * actual).sum(1)).mean() + missing[:2].mean()
    assert float(loss(torch.from_numpy(logits), torch.from_numpy(truth))) == pytest.approx(expected)


@pytest.mark.slow
def test_forty_steps_learn_and_the_same_seed_learns_the_same():
    torch = pytest.importorskip("torch")
    from models.train import train

    crops = _crops()
    losses = []
    network = train(crops, 3, 40, 5, lambda _, found: losses.append(found))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    again = train(crops, 3, 40, 5)
    other = train(crops, 3, 40, 6)
    image = torch.from_numpy((crops.image[None].astype(np.float32) - 60) / 80)
    with torch.no_grad():
        answer = network(image)
        assert torch.equal(answer, again(image))
        assert not torch.equal(answer, other(image))
    assert (answer.argmax(1).numpy()[0] == crops.truth).mean() > 0.9
