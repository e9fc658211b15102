"""What trains is never held out, each pixel that is held out is looked at once, and losses are their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.crops import IGNORED
from models.training.recipe import Recipe
from models.training.split import WHOLE, Windows, held_out, windows_of
from models.training.survey import Survey, _by_cell, brightness, cell_of
from pipeline.errors import IdentityError, SettingsError
from pipeline.grid import Rect


def surveyed(truth, window, classes=2):
    cell = cell_of(window)
    return Survey(cell, _by_cell(truth, cell, classes).astype(np.uint16), np.zeros((2, 1)))


@st.composite
def scenes(draw):
    """(truths, window): one to seven images, from smaller than a window to many of them."""
    window = draw(st.sampled_from([16, 32, 40]))
    several = draw(st.booleans())
    sides = st.integers(window // 2, 3 * window) if several else st.integers(3 * window, 9 * window)
    count = draw(st.integers(WHOLE, 7)) if several else draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    truths = []
    for _ in range(count):
        truth = (random.random((draw(sides), draw(sides))) < 0.3).astype(np.uint8)
        truth[:, : draw(st.integers(0, 4))] = IGNORED
        truths.append(truth)
    return truths, window


@settings(deadline=None, max_examples=60)
@given(scenes(), st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.5]))
def test_no_window_to_train_on_touches_what_is_held_out(drawn, seed, share):
    truths, window = drawn
    surveys, sides = [surveyed(truth, window) for truth in truths], [Rect(0, 0, *truth.shape) for truth in truths]
    try:
        held = held_out(surveys, sides, window, share, seed)
        windows = Windows(surveys, sides, held, window, seed)
    except SettingsError as error:
        assert "--validation" in error.message  # noqa: PT017  # where it is refused, the way out is told
        return
    assert held == held_out(surveys, sides, window, share, seed)
    random = np.random.default_rng(seed)
    for image in windows.order(1)[:80]:
        at, rect = windows.draw(random, int(image))
        assert rect.shape == (window, window)
        assert rect.intersect(sides[at]).area > 0
        apart = [plot.rect for plot in held if plot.image == at]
        assert all(rect.intersect(sides[at]).intersect(plot).area == 0 for plot in apart)


@settings(deadline=None, max_examples=60)
@given(scenes(), st.integers(0, 5))
def test_what_is_held_out_is_looked_at_once(drawn, seed):
    truths, window = drawn
    surveys, sides = [surveyed(truth, window) for truth in truths], [Rect(0, 0, *truth.shape) for truth in truths]
    try:
        held = held_out(surveys, sides, window, 0.2, seed)
    except SettingsError:
        return
    seen = [np.zeros(truth.shape, int) for truth in truths]
    for plot in held:
        for rect in windows_of(plot, window):
            part = rect.intersect(plot.rect)
            seen[plot.image][part.slices(sides[plot.image])] += 1
    marked = [np.zeros(truth.shape, int) for truth in truths]
    for plot in held:
        marked[plot.image][plot.rect.slices(sides[plot.image])] = 1
    assert all((one == other).all() for one, other in zip(seen, marked, strict=True))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(4, 30), st.integers(0, 99))
def test_cells_count_what_is_in_them(rows, cols, cell, seed):
    truth = np.random.default_rng(seed).choice([0, 1, 2, IGNORED], (rows, cols))
    counted = _by_cell(truth, cell, 3)
    for at in np.ndindex(counted.shape[:2]):
        part = truth[at[0] * cell : (at[0] + 1) * cell, at[1] * cell : (at[1] + 1) * cell]
        assert counted[at].tolist() == [(part == each).sum() for each in range(3)]


def test_a_rare_class_is_in_about_half_of_the_windows_or_more():
    truth = np.zeros((640, 640), np.uint8)
    truth[300:304, 500:504] = 1
    surveys, sides = [surveyed(truth, 64)], [Rect(0, 0, 640, 640)]
    windows = Windows(surveys, sides, [], 64, 0)
    random = np.random.default_rng(0)
    drawn = [windows.draw(random, 0)[1] for _ in range(400)]
    near = sum(rect.intersect(Rect(284, 484, 320, 520)).area > 0 for rect in drawn)
    assert 180 <= near <= 260


def test_brightness_is_the_mean_and_the_deviation():
    pixels = np.random.default_rng(0).normal(100, 7, (2, 500))
    counts = np.full((1, 1, 2), 250, np.uint16)
    found = brightness([Survey(4, counts, np.stack([pixels.sum(1), (pixels**2).sum(1)]))])
    np.testing.assert_allclose(found[0], pixels.mean(1))
    np.testing.assert_allclose(found[1], pixels.std(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "`--epochs` cannot be 0: it is 1 or more"),
        ({"rate": 1.5}, "`--rate` cannot be 1.5"),
        ({"held_out": 0}, "`--held-out` cannot be 0"),
        ({"loss": "hinge"}, "`--loss` cannot be 'hinge'"),
        ({"class_weights": (1, -1)}, "`--class-weights` are positive"),
        ({"architecture": "vit"}, "There is no architecture 'vit'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_the_number(changes, message):
    with pytest.raises(SettingsError, match=message):
        Recipe(**changes)


def test_another_recipe_does_not_go_on_and_more_epochs_do():
    recipe = Recipe(class_weights=(1.0, 2.0))
    recipe.demand_same({**recipe.as_dict(), "class_weights": [1.0, 2.0], "epochs": 3})
    with pytest.raises(IdentityError, match=r"began with rate 0\.1, and 0\.001 is asked for"):
        recipe.demand_same({**recipe.as_dict(), "rate": 0.1})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_their_formulas(channels, weighted):
    torch = pytest.importorskip("torch")
    from models.training.losses import loss_of

    random, classes = np.random.default_rng(channels), max(channels, 2)
    logits = random.normal(size=(2, channels, 5, 4))
    truth = random.integers(0, classes, (2, 5, 4))
    truth[0, 0, :2] = IGNORED
    weights = np.array([0.5, 2.0, 3.0])[:classes] if weighted else np.ones(classes)
    known = truth != IGNORED
    if channels == 1:
        p = 1 / (1 + np.exp(-logits[:, 0][known]))
        chance = np.stack([1 - p, p], axis=1)
    else:
        each = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        chance = np.moveaxis(each, 1, -1)[known]
    actual, of_each = np.eye(classes)[truth[known]], weights[truth[known]]
    entropy = -(np.log((chance * actual).sum(1)) * of_each).sum() / of_each.sum()
    scored = slice(1, 2) if channels == 1 else slice(None)
    apart = 1 - 2 * (chance * actual).sum(0) / (chance.sum(0) + actual.sum(0))
    dice = (apart * weights)[scored].sum() / weights[scored].sum()
    given_weights = torch.tensor(weights) if weighted else None
    kind = "bce" if channels == 1 else "ce"
    for parts, expected in (((kind,), entropy), (("dice",), dice), ((kind, "dice"), entropy + dice)):
        found = loss_of(parts, given_weights)(torch.from_numpy(logits), torch.from_numpy(truth))
        assert float(found) == pytest.approx(expected)


def test_a_batch_without_truth_costs_nothing():
    torch = pytest.importorskip("torch")
    from models.training.losses import loss_of

    logits, truth = torch.randn(1, 1, 4, 4, requires_grad=True), torch.full((1, 4, 4), IGNORED)
    for parts in (("bce",), ("dice",), ("bce", "dice")):
        assert float(loss_of(parts, None)(logits, truth).detach()) == 0
    assert float(loss_of(("ce",), None)(torch.randn(1, 2, 4, 4), truth)) == 0
