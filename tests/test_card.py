"""The card's laws: pixels come out as its formulas say, its identity is what decides them, wrong ones are refused."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SceneError, SettingsError
from pipeline.network.card import Card
from pipeline.network.legend import default_colour
from pipeline.network.scaling import Constant, MeanStd, MinMax, Percentile, SceneStatistics, Unscaled, WindowStatistics
from tests.cards import cards

SAID = {
    "name": "water",
    "bands": ["red", "green", "blue"],
    "scaling": {"kind": "constant", "divide_by": 255},
    "classes": ["sea", "land"],
    "layout": "NCHW",
    "says": "logits",
    "activation": "softmax",
}


def _scaled(card, raw, statistics):
    """The formulas of the card's documentation, written out, in float64; raw is (band, pixel)."""
    physical = raw * np.array(card.gain)[:, None] + np.array(card.offset)[:, None]

    def column(numbers):
        return np.array(numbers)[:, None]

    match card.scaling:
        case Unscaled() | WindowStatistics():  # of a window, nodes of the graph take the statistics
            return physical
        case Constant(divide_by=divide_by):
            return physical / divide_by
        case MeanStd(mean=mean, std=std, divide_by=divide_by):
            return (physical / divide_by - column(mean)) / column(std)
        case MinMax(min=low, max=high):
            return (physical - column(low)) / (column(high) - column(low))
        case SceneStatistics(eps=eps):
            mean, std = statistics[0] * card.gain + np.array(card.offset), statistics[1] * np.abs(card.gain)
            return (physical - column(mean)) / column(std + eps if eps else np.where(std > 0, std, 1))
        case Percentile(eps=eps):
            ends = np.sort([each * card.gain + np.array(card.offset) for each in statistics], axis=0)
            width = ends[1] - ends[0]
            return (physical - column(ends[0])) / column(width + eps if eps else np.where(width > 0, width, 1))


@settings(max_examples=80)
@given(cards(), st.integers(0, 2**32 - 1))
def test_affine_is_the_formula(card, seed):
    random = np.random.default_rng(seed)
    raw = random.integers(0, 10_000, (len(card.bands), 50)).astype(np.float64)
    statistics = raw.mean(axis=1), raw.std(axis=1)
    shift, factor = card.affine(statistics if card.needs_statistics else None)
    assert shift.dtype == factor.dtype == np.float32
    assert shift.shape == factor.shape == (len(card.bands),)
    # ^ compared in float64: the only difference left is that shift and factor were rounded to float32
    got = (raw - shift[:, None].astype(np.float64)) * factor[:, None]
    largest = (np.abs(raw) + np.abs(shift)[:, None]) * np.abs(factor)[:, None]
    assert (np.abs(got - _scaled(card, raw, statistics)) <= 3e-7 * largest + 1e-12).all()


def test_a_constant_band_is_shifted_to_zero():
    card = Card.of({**SAID, "scaling": "scene"}, "test")
    shift, factor = card.affine((np.array([5.0, 6.0, 7.0]), np.array([2.0, 0.0, 4.0])))
    assert shift.tolist() == [5, 6, 7]
    assert factor.tolist() == [0.5, 1, 0.25]


def test_infinite_statistics_are_refused():
    card = Card.of({**SAID, "scaling": "scene"}, "test")
    with pytest.raises(SceneError, match="not finite"):
        card.affine((np.array([np.inf, 0, 0]), np.ones(3)))
    with pytest.raises(ValueError, match="needs the scene's statistics"):
        card.affine(None)


@settings(max_examples=50)
@given(cards())
def test_identity_is_what_decides_pixels(card):
    said = card.model_dump()
    words = {
        "name": "other",
        "licence": "MIT",
        "training_data": "other",
        "architecture": "other",
        "scores": {"iou": 0.5},
        "resolution": 3.0,
        "window": 64,
        "dtype": "uint16",
        "classes": [
            {"value": entry.value, "name": f"other {entry.index}", "colour": "#123456"} for entry in card.classes
        ],
        "bands": [{"name": "other", "index": index} for index in card.file_bands],
    }
    identity = card.identity()
    assert Card.of(said | words, "test").identity() == identity
    others = {
        "classes": [{**entry.model_dump(), "value": (entry.value + 1) % 65533} for entry in card.classes],
        "says": "logits" if card.says == "probabilities" else "probabilities",
        "activation": "softmax" if card.activation == "sigmoid" else "sigmoid",
        "exclusive": not card.exclusive,
    }
    if card.says == "values":  # the numbers are kept, whatever their channels are called
        others = {}
    elif not card.layered and not (card.exclusive and card.activation == "sigmoid" and card.channels > 1):
        del others["exclusive"]
    others |= {
        "fill": card.fill + 1,
        "clip": [-7, 7],
        "layout": "NHWC" if card.layout == "NCHW" else "NCHW",
        "output": "other",
        "gain": [-gain for gain in card.gain],
        "bands": [{"name": band.name, "index": 20 + place} for place, band in enumerate(card.bands)],
    }
    for key, value in others.items():
        assert Card.of(said | {key: value}, "test").identity() != identity, key


def test_the_threshold_decides_only_where_it_is_used():
    softmax, sigmoid = Card.of(SAID, "test"), Card.of(SAID | {"activation": "sigmoid"}, "test")
    for card, same in ((softmax, True), (sigmoid, False)):
        other = Card.of(card.model_dump() | {"threshold": 0.7}, "test")
        assert (other.identity() == card.identity()) is same


def test_one_number_stands_for_all_bands():
    scaling = {"kind": "mean_std", "mean": 0.5, "std": [0.25]}
    each = {"kind": "mean_std", "mean": [0.5] * 3, "std": [0.25] * 3}
    one = Card.of({**SAID, "scaling": scaling, "gain": 2}, "test")
    assert one.identity() == Card.of({**SAID, "scaling": each, "gain": [2, 2, 2]}, "test").identity()
    assert one.gain == (2, 2, 2)


@settings(max_examples=30)
@given(cards())
def test_cards_pickle_and_dump(card):
    assert pickle.loads(pickle.dumps(card)) == card
    assert Card.of(card.model_dump(mode="json"), "test") == card


@given(cards())
@settings(max_examples=30)
def test_channels_and_values(card):
    assert card.channels == len(card.classes) - (1 if card.activation == "sigmoid" else 0)
    assert card.values == tuple(entry.value for entry in card.legend)
    assert len(card.labels) == card.channels
    assert np.iinfo(card.mask_dtype).max - 3 >= max(card.values)
    assert card.mask_dtype == "uint8" or max(card.values) > 252
    assert len(card.file_bands) == len(card.bands)


def test_short_forms():
    card = Card.of({**SAID, "bands": [4, 3, 2], "classes": {0: "sea", 1: {"name": "land", "value": 9}}}, "test")
    assert card.file_bands == (4, 3, 2)
    assert card.values == (0, 9)
    assert [entry.colour for entry in card.classes] == [default_colour(0), default_colour(1)]
    assert Card.of(SAID, "test").file_bands == (1, 2, 3)
    assert len({default_colour(index) for index in range(253)}) > 200


def test_values_have_no_activation_and_name_their_channels():
    card = Card.of({**SAID, "activation": "none", "says": "values", "classes": ["height"]}, "test")
    assert (card.channels, card.labels, card.values, card.answer) == (1, ("height",), (0,), "values")
    said = {key: value for key, value in SAID.items() if key != "activation"} | {"says": "values"}
    assert Card.of(said, "test").activation == "none"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"says": "values", "activation": "softmax"}, "says values and its activation is softmax"),
        ({"says": "logits", "activation": "none"}, "says logits and its activation is none"),
        ({"says": "values", "activation": "none", "exclusive": True}, "values exclude nothing"),
        ({"says": "values", "activation": "none", "classes": []}, "there is no class"),
        ({"scalng": 1}, r"no card entry `scalng`; did you mean `scaling`\?"),
        ({"scaling": {"kind": "constant", "divided": 2}}, "did you mean `divide_by`"),
        ({"scaling": {"kind": "zscore"}}, "one of none, constant, mean_std, min_max, scene, percentile, window"),
        ({"scaling": {"kind": "mean_std", "mean": [1], "std": [0]}}, "std holds 0.0; a standard deviation is above 0"),
        ({"scaling": {"kind": "mean_std", "mean": [1, 2], "std": [1, 2]}}, "scaling.(mean|std) holds 2 numbers for 3"),
        ({"scaling": {"kind": "mean_std", "mean": [1, 2], "std": 1}}, "mean holds 2 numbers and std 1"),
        ({"scaling": {"kind": "min_max", "min": 3, "max": 3}}, "max must lie above min"),
        ({"scaling": {"kind": "constant", "divide_by": 1e60}}, "beyond float32's range"),
        ({"gain": 0}, "a gain is 0"),
        ({"clip": [1, 1]}, r"clip says \[1.0, 1.0\]"),
        ({"none": 1}, "no card entry `none`; did you mean"),
        ({"clip": 3}, "`clip` cannot be 3"),
        ({"units": "radiance"}, "`units` cannot be 'radiance'"),
        ({"scaling": {"kind": "percentile", "low": 9, "high": 9}}, "high must lie above low"),
        ({"scaling": {"kind": "percentile", "high": 101}}, "less than or equal to 100"),
        ({"scaling": {"kind": "window", "eps": -1}}, "greater than or equal to 0"),
        ({"scaling": {"kind": "scene", "joint": True}, "gain": [1, 1, 2]}, "joint statistics need one gain"),
        ({"gain": [1, 2]}, "gain holds 2 numbers for 3 bands"),
        ({"bands": [{"name": "red", "idx": 1}]}, r"`bands.0.idx`; did you mean `index`"),
        ({"classes": ["sea"]}, "the mask has 1 class; it needs at least two"),
        ({"classes": ["sea", "sea"]}, "two classes have the name 'sea'"),
        ({"classes": [{"name": "a", "value": 1}, {"name": "b", "value": 1}]}, "two classes have the value 1"),
        ({"classes": ["sea", {"name": "land", "value": 65533}]}, r"`classes.1.value` cannot be 65533"),
        ({"classes": {0: "sea", 2: "land"}}, "class `land` has the index 2 at place 1"),
        ({"classes": {"sea": 0, "land": 1}}, "keyed by their index"),
        ({"classes": {None: "sea", 1: "land"}}, "keyed by their index"),
        ({"classes": {float("inf"): "sea", 1: "land"}}, "keyed by their index"),
        ({"classes": {0: {"name": "sea", "index": "a"}, 1: "land"}}, "keyed by their index"),
        ({"classes": ["sea", {"name": "land", "colour": "red"}]}, r"`classes.1.colour` cannot be 'red'"),
        ({"fill": float("nan")}, "`fill` cannot be nan"),
        ({"threshold": 1}, "`threshold` cannot be 1"),
        ({"dtype": "complex64"}, "`dtype` cannot be 'complex64'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(said, words):
    with pytest.raises(SettingsError, match=words) as caught:
        Card.of({**SAID, **said}, "The card of a.onnx")
    assert caught.value.message.startswith("The card of a.onnx: ")


def test_all_that_is_missing_is_named_with_how_to_say_it():
    with pytest.raises(SettingsError) as caught:
        Card.of({key: SAID[key] for key in ("name", "layout", "says", "activation")}, "The card of a.onnx")
    message = caught.value.message
    assert "does not say `bands`, `scaling`, `classes`." in message
    assert "{kind: constant, divide_by: 255}" in message
    assert "[sea, land]" in message
