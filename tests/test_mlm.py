"""The card in the file's metadata: what was written is what is read, in words that other programs know."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

from pipeline.errors import SettingsError
from pipeline.network.card import Card
from pipeline.network.digest import model_digest
from pipeline.network.mlm import KEY, embed, ends_of, read_mlm, to_mlm
from pipeline.network.model_file import load_model
from pipeline.network.resolve import resolve_card
from tests.cards import cards, network

WATER = Card.of(
    {
        "name": "water",
        "bands": ["red", "near infrared"],
        "dtype": "uint16",
        "scaling": {"kind": "mean_std", "mean": [500, 250], "std": [50, 25]},
        "classes": ["open water", {"name": "land", "value": 9, "colour": "#00FF00"}, "Eis und Schnee"],
        "layout": "NHWC",
        "says": "logits",
        "activation": "softmax",
        "window": 128,
        "resolution": 10,
        "licence": "MIT",
    },
    "test",
)


def _fitting(card):
    side = card.window
    return network(len(card.bands), card.channels, layout=card.layout, side=side, outputs=("mask",))


@settings(max_examples=100)
@given(cards())
def test_embedding_and_resolving_is_the_identity(card):
    model = _fitting(card)
    whole = embed(model, card)
    assert resolve_card(whole, Path("elsewhere/other.onnx")) == card
    assert model_digest(whole) == model_digest(model)
    assert embed(whole, card) == whole, "a card takes the place of the card before it"


def test_classes_whose_values_are_in_another_order_keep_their_indices():
    card = Card.of(
        WATER.model_dump() | {"classes": [{"name": str(value), "value": value} for value in (2, 0, 1)]}, "test"
    )
    assert resolve_card(embed(_fitting(card), card), Path("a.onnx")).values == (2, 0, 1)


def test_embedding_keeps_the_rest_of_the_metadata():
    model = _fitting(WATER)
    model.metadata_props.add(key="author", value="someone")
    assert [entry.key for entry in embed(model, WATER).metadata_props] == ["author", KEY]
    assert [entry.key for entry in model.metadata_props] == ["author"], "the model itself is left alone"


@settings(max_examples=50)
@given(cards())
def test_the_scaling_in_mlm_words_is_the_card_s(card):
    """What another program reads, without our own entries, scales raw pixels to the same numbers."""
    said = to_mlm(card, ends_of(card, _fitting(card)))
    plain = {key: value for key, value in said.items() if not key.startswith("maskmill:")}
    objects = plain["mlm:input"][0]["value_scaling"]
    if card.scaling.kind in {"scene", "percentile", "window"} or card.clip:  # MLM has no words for these
        assert objects == [{"type": "processing", "format": "maskmill", "expression": card.scaling.kind}]
        return
    raw = np.linspace(0, 5000, 11)
    shift, factor = card.affine(None)
    for band in range(len(card.bands)):
        said = objects[min(band, len(objects) - 1)] if objects else {"type": None}
        expected = {
            "z-score": lambda s: (raw - s["mean"]) / s["stddev"],
            "min-max": lambda s: (raw - s["minimum"]) / (s["maximum"] - s["minimum"]),
            "scale": lambda s: raw / s["value"],
            None: lambda _: raw,
        }[said["type"]](said)
        got = (raw - np.float64(shift[band])) * factor[band]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_the_words_are_the_extension_s(tmp_path):
    onnx.save(embed(_fitting(WATER), WATER), tmp_path / "water.onnx")
    metadata = {entry.key: entry.value for entry in load_model(tmp_path / "water.onnx").metadata_props}
    said = json.loads(metadata[KEY])
    assert said["mlm:tasks"] == ["semantic-segmentation"]
    assert {"mlm:name", "mlm:architecture", "mlm:framework", "mlm:input", "mlm:output"} <= said.keys()
    (eats,), (gives,) = said["mlm:input"], said["mlm:output"]
    assert eats["name"] == "image"
    assert eats["bands"] == ["red", "near infrared"]
    assert eats["input"] == {
        "shape": [-1, 128, 128, 2],
        "dim_order": ["batch", "height", "width", "channel"],
        "data_type": "float32",
    }
    assert eats["value_scaling"] == [
        {"type": "z-score", "mean": 500, "stddev": 50},
        {"type": "z-score", "mean": 250, "stddev": 25},
    ]
    assert gives["result"]["shape"] == [-1, 128, 128, 3]
    assert gives["classification:classes"][:2] == [
        {"value": 0, "name": "open-water", "color_hint": "999999", "description": "open water"},
        {"value": 9, "name": "land", "color_hint": "00FF00"},
    ]
    assert said["bands"][0] == {"name": "red", "data_type": "uint16"}
    assert (said["gsd"], said["license"]) == (10, "MIT")
    assert "maskmill:scaling" not in said, "MLM's own words say it all"


def _others(**eats):
    """The properties of a model that another program described."""
    return {
        "mlm:name": "fields",
        "mlm:architecture": "U-Net",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:input": [
            {
                "name": "in",
                "bands": ["B4", {"name": "B3"}],
                "input": {
                    "shape": [1, 2, 64, 64],
                    "dim_order": ["batch", "channel", "height", "width"],
                    "data_type": "float32",
                },
                **eats,
            }
        ],
        "mlm:output": [
            {
                "name": "out",
                "tasks": ["semantic-segmentation"],
                "result": {"shape": [1, 2], "dim_order": ["batch", "classes"], "data_type": "float32"},
                "classification:classes": [
                    {"value": 1, "name": "field", "description": "a ploughed one"},
                    {"value": 0, "name": "other", "color_hint": "ABCDEF"},
                ],
            }
        ],
        "bands": [{"name": "B2"}, {"name": "B3", "data_type": "uint16"}, {"name": "B4", "data_type": "uint16"}],
    }


@pytest.mark.parametrize(
    ("objects", "scaling"),
    [
        (None, {"kind": "none"}),
        ([{"type": "scale", "value": 10_000}], {"kind": "constant", "divide_by": 10_000}),
        (
            [{"type": "min-max", "minimum": 0, "maximum": 255}],
            {"kind": "min_max", "min": [0], "max": [255]},
        ),
        (
            [{"type": "offset", "value": 3}, {"type": "z-score", "mean": 1, "stddev": 2}],
            {"kind": "mean_std", "mean": [3, 1], "std": [1, 2]},
        ),
        (
            [None, {"type": "min-max", "minimum": 1, "maximum": 5}],
            {"kind": "mean_std", "mean": [0, 1], "std": [1, 4]},
        ),
    ],
)
def test_scalings_of_others_are_read(objects, scaling):
    said = read_mlm(_others(value_scaling=objects), "test")
    assert said["scaling"] == scaling


@pytest.mark.parametrize(
    "eats",
    [
        {},
        {"value_scaling": [{"type": "clip", "minimum": 0, "maximum": 1}]},
        {"value_scaling": [{"type": "processing", "format": "python", "expression": "a:b"}]},
        {"value_scaling": None, "pre_processing_function": {"format": "python", "expression": "a:b"}},
    ],
)
def test_a_scaling_that_a_card_cannot_say_is_asked_for(eats):
    said = read_mlm(_others(**eats), "test")
    assert "scaling" not in said


def test_the_rest_of_what_others_say_is_read():
    said = read_mlm(_others(), "test")
    assert said["bands"] == [{"name": "B4", "index": None}, {"name": "B3", "index": None}]
    assert (said["dtype"], said["layout"], said["window"]) == ("uint16", "NCHW", 64)
    assert said["classes"] == [
        {"value": 0, "name": "other", "colour": "#ABCDEF"},
        {"value": 1, "name": "field"},
    ]
    card = Card.of(said | {"scaling": "none", "says": "logits", "activation": "softmax"}, "test")
    assert card.name == "fields"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mlm:tasks": ["object-detection"]}, "does object-detection; maskmill makes masks"),
        ({"mlm:input": [{}, {}]}, "describes 2 inputs"),
        ({"mlm:input": "x"}, "a list of objects under `mlm:input`"),
        ({"maskmill:wings": 2}, "`maskmill:wings`, which this maskmill does not know"),
    ],
)
def test_what_makes_no_mask_is_refused(change, words):
    with pytest.raises(SettingsError, match=words):
        read_mlm(_others() | change, "The metadata of a.onnx")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"mlm:input": [{"input": 3}]}', '{"mlm:output": [{"classification:classes": [1]}]}']
)
def test_metadata_of_another_form_is_one_sentence(text):
    model = network(2, 2)
    model.metadata_props.add(key=KEY, value=text)
    with pytest.raises(SettingsError, match=r"The metadata of a.onnx under `mlm` is not what STAC MLM 1.5 describes"):
        resolve_card(model, Path("a.onnx"))
