"""The keys of QGIS Deepness that a card is said in: what that plugin makes of them is the mask that is made here."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.network.card import Card
from pipeline.network.deepness import to_deepness, unsaid
from pipeline.network.resolve import resolve_card
from tests.cards import network

PLAIN = {
    "name": "roofs",
    "bands": ["red", "green", "blue"],
    "dtype": "uint8",
    "scaling": {"kind": "mean_std", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "divide_by": 255},
    "classes": ["background", "roof", "road"],
    "layout": "NCHW",
    "says": "probabilities",
    "activation": "softmax",
    "resolution": 0.3,
}
ONE = {"classes": ["background", "roof"], "activation": "sigmoid", "threshold": 0.35}


def _said(card, **more):
    keys = to_deepness(card, 256, 0.25)
    model = network(
        len(card.bands), card.channels, side=256, last={"softmax": "Softmax", "sigmoid": "Sigmoid"}.get(card.activation)
    )
    for key, value in (keys | more).items():
        model.metadata_props.add(key=key, value=value)
    return keys, resolve_card(model, Path("elsewhere/a.onnx"))


@st.composite
def sayable(draw):
    """A card that Deepness' keys can say."""
    mean, std = st.floats(-300, 300), st.floats(0.01, 300)
    kind = draw(st.sampled_from(["none", "constant", "mean_std"]))
    numbers = {
        "none": {},
        "constant": {"divide_by": draw(std)},
        "mean_std": {"mean": [draw(mean) for _ in range(3)], "std": [draw(std) for _ in range(3)]},
    }
    more = {"scaling": {"kind": kind, **numbers[kind]}, "gain": draw(st.sampled_from([1.0, 0.5, 2e-3]))}
    more |= {"offset": draw(st.sampled_from([0.0, -0.1])), "resolution": draw(st.none() | st.floats(0.01, 1e4))}
    more |= {"threshold": draw(st.floats(0.01, 0.99)), "dtype": draw(st.sampled_from([None, "uint8"]))}
    return Card.of(PLAIN | (ONE if draw(st.booleans()) else {}) | more, "drawn")


@given(sayable())
def test_a_card_that_deepness_can_say_is_read_back_from_its_keys(card):
    assert unsaid(card) is None
    _, read = _said(card)
    assert [one.name for one in read.classes] == [one.name for one in card.classes]
    assert (read.says, read.activation, read.window, read.dtype) == (card.says, card.activation, 256, "uint8")
    assert card.activation == "softmax" or read.threshold == card.threshold
    assert read.resolution == (pytest.approx(card.resolution, rel=1e-6) if card.resolution else None)
    raw = np.arange(0, 256, 15)[:, None]
    ours, theirs = ((raw - shift) * factor for shift, factor in (card.affine(None), read.affine(None)))
    assert np.abs(theirs - ours).max() <= 1e-5 * max(1, np.abs(ours).max())


@given(st.integers(0, 2**32))
def test_what_the_plugin_decides_is_what_is_decided_here(seed):
    """The plugin's own rules: (raw / 255 − mean) / std; below the threshold 0; then the largest, or what is not 0."""
    random = np.random.default_rng(seed)
    for card in (Card.of(PLAIN, "test"), Card.of(PLAIN | ONE, "test")):
        said = {key: json.loads(value) for key, value in to_deepness(card, 256, 0.25).items()}
        raw = random.integers(0, 256, (3, 8, 8))
        shift, factor = (numbers[:, None, None] for numbers in card.affine(None))
        mean, std = (np.array(said[f"standardization_{key}"])[:, None, None] for key in ("mean", "std"))
        np.testing.assert_allclose((raw / 255 - mean) / std, (raw - shift) * factor, rtol=1e-5, atol=1e-5)
        found = random.dirichlet(np.ones(3), 64).T[: card.channels].astype(np.float32)
        kept = np.where(found < said["seg_thresh"], 0, found)
        theirs = kept.argmax(0) if card.channels > 1 else (kept[0] != 0).astype(int)
        ours = found.argmax(0) if card.channels > 1 else (found[0] >= card.threshold).astype(int)
        np.testing.assert_array_equal(theirs, ours)
        assert [said["class_names"][str(index)] for index in range(len(card.classes))] == [
            one.name for one in card.classes
        ]
        assert (said["seg_small_segment"], said["tiles_overlap"], said["tile_size"], said["resolution"]) == (
            *(0, 25, 256),
            30,
        )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"dtype": "uint16"}, "images of bytes"),
        ({"layout": "NHWC"}, "channels first"),
        ({"scaling": {"kind": "scene"}}, "no scaling but"),
        ({"scaling": {"kind": "window"}}, "no scaling but"),
        ({"clip": [0, 1]}, "no scaling but"),
        ({"gain": -1.0}, "no scaling but"),
        ({"says": "logits"}, "no activation"),
        ({"activation": "sigmoid"}, "takes the largest"),
    ],
)
def test_a_card_of_which_it_would_make_another_mask_is_not_said(changed, why):
    assert why in unsaid(Card.of(PLAIN | changed, "test"))


def test_a_threshold_of_nought_is_none():
    assert _said(Card.of(PLAIN, "test"))[1].threshold == 0.5
