"""What strangers say of a network, beside it, in it and in a job: a card, or one sentence."""

import itertools

import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.network.card import Card
from pipeline.network.legend import Part
from pipeline.network.mlm import KEY, embed, ends_of, to_mlm
from pipeline.network.understand import understand
from tests.cards import cards, network
from tests.fuzz.drawn import altered, scalars, values, written
from tests.fuzz.law import fuzz, fuzzed, lawful
from tests.oracle import small_card, small_unet
from tests.test_foreign import EMD, ITEM, STATS, UKIS, WSINFER, bioimage

pytestmark = fuzz
STEPS = [
    {"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}},
    {"id": "scale_linear", "kwargs": {"gain": [0.5, 2], "offset": 1, "axis": "channel"}},
    {"id": "scale_range", "kwargs": {"min_percentile": 1, "max_percentile": 99.8, "axes": ["y", "x"], "eps": 1e-6}},
    {"id": "clip", "kwargs": {"min": 0, "max": 1}},
]
FIXED = [{"name": "fixed_zero_mean_unit_variance", "kwargs": {"mean": [1, 2], "std": [1, 2]}}]
EARLIER = {"norm_type": "z-score", "statistics": [{"mean": 1, "stddev": 2}], "bands": ["a"]}
CARD = {
    "name": "n",
    "bands": ["red", {"name": "nir", "index": 4}],
    "scaling": {"kind": "mean_std", "mean": [1, 2], "std": [1, 2], "divide_by": 255},
    "gain": [1e-4, 1e-4],
    "offset": 0,
    "units": "reflectance",
    "clip": [0, 1],
    "fill": 0,
    "resolution": 10,
    "classes": [{"name": "sea", "value": 0, "colour": "#0000ff"}, "land"],
    "layout": "NCHW",
    "says": "logits",
    "activation": "softmax",
    "threshold": 0.5,
    "window": 64,
    "scores": {"iou": 0.5},
}
ZEISS = {
    "Type": "SingleClassSemanticSegmentation", "InputShape": [64, 64, 2], "OutputShape": [64, 64, 2],
    "MinOverlap": [8, 8], "Classes": ["Background", "Nucleus"], "ModelName": "n",
}  # fmt: skip
DOCUMENTS = {
    "card.yaml": [CARD, CARD | {"classes": {0: "sea", 1: "land"}, "scaling": "percentile"}],
    "bioimageio.yaml": [
        bioimage(before=STEPS, after=[{"id": "sigmoid"}, {"id": "binarize", "kwargs": {"threshold": 0.3}}]),
        bioimage(before=FIXED, after=[{"id": "softmax"}], names=("a", "b"), tags=["x"]),
    ],
    "rdf.yaml": [
        {
            "format_version": "0.4.9",
            "inputs": [{"name": "raw", "axes": "bcyx", "shape": [1, 2, 64, 64], "preprocessing": FIXED}],
            "outputs": [{"name": "p", "axes": "bcyx", "halo": [0, 0, 8, 8], "postprocessing": [{"name": "sigmoid"}]}],
        }
    ],
    "item.json": [ITEM, ITEM | {"properties": {**ITEM["properties"], "mlm:input": [EARLIER]}}],
    "net.json": [UKIS, ZEISS],
    "config.json": [WSINFER],
    "net.emd": [EMD, EMD | {"NormalizationStats": STATS}],
}
LIST = [(name, place) for name, documents in DOCUMENTS.items() for place in range(len(documents))]
DEEPNESS = {
    "model_type": '"Segmentor"',
    "class_names": '{"0": "sea", "1": "land"}',
    "resolution": "10",
    "tile_size": "64",
    "standardization_mean": "[0.5, 0.5]",
    "standardization_std": "[0.5, 0.5]",
    "seg_thresh": "0.5",
    "reg_output_scaling": "2",
}
_count = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


def _understood(folder, documents, model=None, overrides=None):
    """Understand a network beside which documents lie; nothing of the folder is changed."""
    place = folder / str(next(_count))
    place.mkdir()
    for name, content in documents.items():
        (place / name).write_bytes(content)
    found = lawful(understand, model or network(2, 2), place / "net.onnx", overrides)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == documents
    if found is not None:
        _means_something(found.card)
    return found


def _means_something(card):
    """A card that was taken survives what is done with it: it can be said, and be put into the graph's file."""
    repr(card)
    card.identity()
    carried = embed(network(2, 2), card)
    assert carried.metadata_props


@pytest.mark.parametrize(("name", "place"), LIST, ids=str)
@given(data=st.data())
@fuzzed(150)
def test_a_document_that_is_nearly_right(folder, name, place, data):
    _understood(folder, {name: data.draw(altered(DOCUMENTS[name][place]).flatmap(written))})


@given(content=values().flatmap(written), name=st.sampled_from([*DOCUMENTS, "net.yaml", "net.stac.json"]))
@fuzzed(150)
def test_a_document_of_anything(folder, content, name):
    _understood(folder, {name: content})


@given(entries=st.dictionaries(st.sampled_from(sorted(Card.model_fields)), scalars() | values(), max_size=3))
@fuzzed(300)
def test_a_job_s_card_of_anything(folder, entries):
    _understood(folder, {"net.yaml": yaml.safe_dump(CARD).encode()}, overrides=entries)


@given(card=altered(CARD, times=2))
@fuzzed(400)
def test_a_card_that_is_nearly_right(card):
    if isinstance(card, dict):
        found = lawful(Card.of, {str(key): value for key, value in card.items()}, "The card")
        if found is not None:
            _means_something(found)


@given(card=cards(), data=st.data())
@fuzzed(150)
def test_the_metadata_of_our_own_that_is_nearly_right(folder, card, data):
    model = network(2, 2)
    said = data.draw(altered(to_mlm(card, ends_of(card, model))).flatmap(written)).decode("utf-8", "replace")
    model.metadata_props.add(key=KEY, value=said)
    _understood(folder, {}, model)


@given(
    keys=altered(DEEPNESS, times=2),
    piece=st.none() | st.sampled_from(["(" * 300, "{[]: 1}", "{1: 2}", "-" * 9000, "1e999"]),
)
@fuzzed(400)
def test_the_metadata_of_deepness_that_is_nearly_right(folder, keys, piece):
    model = network(2, 2)
    for key, value in keys.items() if isinstance(keys, dict) else ():
        model.metadata_props.add(
            key=key.encode("utf-8", "replace").decode(), value=piece if piece and key != "model_type" else str(value)
        )
    _understood(folder, {}, model)


def test_no_part_of_a_card_takes_what_it_does_not_know():
    assert issubclass(Card, Part)
    assert Card.model_config["extra"] == "forbid"
    assert onnx.checker.check_model(embed(small_unet(), small_card())) is None
