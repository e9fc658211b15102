"""Cards in other people's words: each format's document becomes the entries that its makers mean."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ModelError, SettingsError
from pipeline.network.card import Card
from pipeline.network.foreign.documents import load
from pipeline.network.foreign.steps import StepError, Steps
from pipeline.network.understand import gather, understand
from tests.cards import network


@pytest.fixture
def beside(tmp_path):
    """Write documents beside `net.onnx` and understand it; returns (what was understood, its path)."""

    def go(model, documents, overrides=None, others=()):
        path = tmp_path / "net.onnx"
        for name in ("net.onnx", *others):
            onnx.save(model, tmp_path / name)
        for name, document in documents.items():
            dump = yaml.safe_dump if name.endswith((".yaml", ".yml")) else json.dumps
            (tmp_path / name).write_text(document if isinstance(document, str) else dump(document))
        return understand(model, path, overrides)

    return go


def scaled(card, raw):
    """Raw pixels (B, n) as the network gets them, before any clip."""
    shift, factor = card.affine(None)
    return (raw - shift[:, None]) * factor[:, None]


_FACTORS = st.floats(0.01, 100)
_STEPS = st.lists(st.tuples(_FACTORS, st.floats(-100, 100)), max_size=4)


@settings(max_examples=50)
@given(_STEPS, st.integers(1, 3))
def test_affine_steps_fold_into_what_they_do_one_after_the_other(pairs, bands):
    raw = np.linspace(0, 255, 7) * np.ones((bands, 1))
    steps, expected = Steps(), raw
    for place, (factor, add) in enumerate(pairs):
        by = [factor * (1 + band) for band in range(bands)] if place % 2 else [factor]
        steps = steps.times(by, [add], "scale_linear")
        expected = expected * np.asarray(by)[:, None] + add
    said = {"bands": ["x", "y", "z"][:bands], "classes": ["a", "b"], "layout": "NCHW", "says": "logits"}
    card = Card.of({"name": "n", "activation": "softmax", **said, **steps.entries()}, "test")
    assert np.allclose(scaled(card, raw), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (lambda s: s.over_the_image({"kind": "scene"}, "z", 0).times([2], [0], "scale_linear"), "`scale_linear` after"),
        (lambda s: s.clipped(0, 1).over_the_image({"kind": "scene"}, "z", 0), "`z` after `clip`"),
        (lambda s: s.times([-1], [255], "invert").over_the_image({"kind": "scene"}, "z", 0), "negative factor"),
        (lambda s: s.times([1, 2], [0], "x").over_the_image({"kind": "scene"}, "z", 0.1), "`z` with eps 0.1"),
        (lambda s: s.clipped(1, 1), "`clip` to 1 and 1"),
        (lambda s: s.clipped(0, None).entries(), "one side alone"),
        (lambda s: s.times([-1], [255], "invert").entries(), "not above 0"),
        (lambda s: s.standardised([0], [0], "fixed"), "`fixed` with a standard deviation of 0"),
    ],
)
def test_steps_that_no_card_can_say_are_refused_by_name(then, words):
    with pytest.raises(StepError, match=words):
        then(Steps())


def test_a_clip_is_moved_by_what_comes_after_it():
    assert Steps().clipped(0, 10).times([0.1], [-1], "scale_linear").clip == (-1, 0)


# bioimage.io

BATCH, CHANNEL = {"type": "batch"}, {"type": "channel", "channel_names": ["red", "green"]}
Y, X = {"type": "space", "id": "y", "size": 64, "scale": 0.5, "unit": "micrometer"}, {"type": "space", "size": 64}


def bioimage(axes=(BATCH, CHANNEL, Y, X), before=(), after=(), names=("nucleus",), **more):
    """A model's description in format 0.5."""
    out = [BATCH, {"type": "channel", "channel_names": list(names)}, {**Y, "halo": 16}, {**X, "halo": 16}]
    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": "Nuclei",
        "license": "MIT",
        "inputs": [{"id": "raw", "axes": list(axes), "preprocessing": list(before)}],
        "outputs": [{"id": "out", "axes": out, "postprocessing": list(after)}],
        "weights": {"onnx": {"source": "net.onnx"}},
        **more,
    }


@pytest.mark.parametrize(("axes", "layout"), [((BATCH, CHANNEL, Y, X), "NCHW"), ((BATCH, Y, X, CHANNEL), "NHWC")])
def test_bioimageio_in_two_orders_of_axes(beside, axes, layout):
    model = network(2, 1, layout=layout)
    found = beside(model, {"bioimageio.yaml": bioimage(axes, after=[{"id": "sigmoid"}])})
    card = found.card
    assert (card.layout, card.window, card.says, card.activation) == (layout, 64, "logits", "sigmoid")
    assert [band.name for band in card.bands] == ["red", "green"]
    assert [one.name for one in card.classes] == ["background", "nucleus"]
    assert (card.name, card.licence) == ("Nuclei", "MIT")
    assert set(found.sources.values()) == {"bioimageio.yaml"}


def test_bioimageio_04_with_letters_for_axes(beside):
    document = {
        "format_version": "0.4.9",
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": [1, 2, 64, 64],
                "preprocessing": [{"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "yx"}}],
            }
        ],
        "outputs": [{"name": "probability", "axes": "bcyx", "postprocessing": [{"name": "sigmoid"}]}],
    }
    card = beside(network(2, 1), {"rdf.yaml": document}).card
    assert card.scaling.kind == "scene"
    assert (card.window, card.layout) == (64, "NCHW")
    assert [one.name for one in card.classes] == ["background", "probability"]


def test_columns_said_before_rows_are_noted(beside):
    turned = (BATCH, X, Y, CHANNEL)
    found = beside(network(2, 1, layout="NHWC"), {"bioimageio.yaml": bioimage(turned)})
    assert any("puts x before y" in note for note in found.notes)


@pytest.mark.parametrize(
    ("step", "formula"),
    [
        ({"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": -3.0}}, lambda x: x * 2 - 3),
        (
            {"id": "scale_linear", "kwargs": {"axis": "channel", "gain": [2.0, 4.0], "offset": [1.0, 0.0]}},
            lambda x: x * [[2], [4]] + [[1], [0]],
        ),
        ({"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 100.0, "std": 50.0}}, lambda x: (x - 100) / 50),
        (
            {"id": "fixed_zero_mean_unit_variance", "kwargs": {"axis": "channel", "mean": [1, 2], "std": [3, 4]}},
            lambda x: (x - [[1], [2]]) / [[3], [4]],
        ),
        (
            {
                "name": "zero_mean_unit_variance",
                "kwargs": {"mode": "fixed", "axes": "xy", "mean": [1, 2], "std": [3, 4]},
            },
            lambda x: (x - [[1], [2]]) / [[3], [4]],
        ),
        ({"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, lambda x: x),
    ],
)
def test_fixed_steps_of_bioimageio_scale_as_its_formulas(beside, step, formula):
    card = beside(network(2, 1), {"bioimageio.yaml": bioimage(before=[step])}).card
    raw = np.linspace(0, 255, 9) * np.ones((2, 1))
    assert np.allclose(scaled(card, raw), formula(raw), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"id": "sigmoid"}, "asks for `sigmoid` before the network"),
        ({"id": "binarize", "kwargs": {"threshold": 3}}, "asks for `binarize` before"),
        ({"id": "gaussian_blur"}, "asks for `gaussian_blur` before"),
        ({"id": "scale_range", "kwargs": {"reference_tensor": "other"}}, "`scale_range` by another tensor"),
        ({"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel"]}}, "over the axes channel"),
        ({"id": "zero_mean_unit_variance", "kwargs": {"eps": -1}}, "with eps -1"),
    ],
)
def test_a_step_of_bioimageio_that_no_card_can_say_is_refused_by_name_but_may_be_replaced(beside, step, words):
    document = {"bioimageio.yaml": bioimage(before=[step])}
    with pytest.raises(SettingsError, match=f"does not say `scaling` .*{words}.*`scaling: "):
        beside(network(2, 1), document)
    assert beside(network(2, 1), document, {"scaling": "none"}).card.scaling.kind == "none"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 0.01}}],
            {"kind": "scene", "joint": False, "eps": 0.01},
        ),
        (
            [
                {"id": "scale_linear", "kwargs": {"gain": 0.1}},
                {"id": "zero_mean_unit_variance", "kwargs": {"eps": 0.01}},
            ],
            {"kind": "scene", "joint": True, "eps": pytest.approx(0.1)},
        ),
        (
            [{"id": "scale_range", "kwargs": {"min_percentile": 1, "max_percentile": 99.8, "axes": ["y", "x"]}}],
            {"kind": "percentile", "low": 1, "high": 99.8, "joint": False, "eps": 1e-6},
        ),
        (
            [{"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "cyx"}}],
            {"kind": "percentile", "low": 0, "high": 100, "joint": True, "eps": 1e-6},
        ),
    ],
)
def test_statistics_of_bioimageio_are_of_the_image(beside, before, expected):
    clip = {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}
    card = beside(network(2, 1), {"bioimageio.yaml": bioimage(before=[*before, clip])}).card
    assert card.scaling.model_dump() == expected
    assert card.clip == (0, 1)


def test_whole_numbers_after_a_scaling_are_refused_and_before_it_are_the_type(beside):
    first = {"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}}
    linear = {"id": "scale_linear", "kwargs": {"gain": 0.5}}
    assert beside(network(2, 1), {"bioimageio.yaml": bioimage(before=[first, linear])}).card.dtype == "uint8"
    with pytest.raises(SettingsError, match="`ensure_dtype` to uint8"):
        beside(network(2, 1), {"bioimageio.yaml": bioimage(before=[linear, first])})


@pytest.mark.parametrize(
    ("after", "names", "last", "expected"),
    [
        ([{"id": "softmax"}], ("a", "b"), None, ("softmax", "logits", ["a", "b"], 0.5)),
        ([{"id": "sigmoid"}], ("a", "b"), None, ("sigmoid", "logits", ["background", "a", "b"], 0.5)),
        ([], ("a", "b"), "Sigmoid", ("sigmoid", "probabilities", ["background", "a", "b"], 0.5)),
        ([], ("a", "b"), "Softmax", ("softmax", "probabilities", ["a", "b"], 0.5)),
        (
            [{"id": "sigmoid"}, {"id": "binarize", "kwargs": {"threshold": 0.3}}],
            ("a",),
            None,
            ("sigmoid", "logits", ["background", "a"], 0.3),
        ),
    ],
)
def test_what_bioimageio_puts_after_the_network(beside, after, names, last, expected):
    model = network(2, len(names), last=last)
    card = beside(model, {"bioimageio.yaml": bioimage(after=after, names=names)}).card
    assert (card.activation, card.says, [one.name for one in card.classes], card.threshold) == expected


def test_a_denoiser_of_bioimageio_says_values(beside):
    document = bioimage(names=("clean",), tags=["denoising", "2d"])
    card = beside(network(2, 1), {"bioimageio.yaml": document}).card
    assert (card.says, [one.name for one in card.classes]) == ("values", ["clean"])


def test_a_step_after_the_network_that_is_not_known_is_refused_by_name(beside):
    document = bioimage(after=[{"id": "stardist_postprocessing_2d"}])
    with pytest.raises(SettingsError, match="stardist_postprocessing_2d"):
        beside(network(2, 1), {"bioimageio.yaml": document})


def test_a_description_of_other_axes_or_inputs_is_refused(beside):
    volume = bioimage((BATCH, CHANNEL, {"type": "space", "id": "z"}, Y, X))
    with pytest.raises(ModelError, match="eats the axes batch, channel, z, y, x"):
        beside(network(2, 1), {"bioimageio.yaml": volume})
    twice = bioimage()
    twice["inputs"] *= 2
    with pytest.raises(ModelError, match="describes 2 inputs"):
        beside(network(2, 1), {"bioimageio.yaml": twice})
    with pytest.raises(SettingsError, match=r"format 0\.9"):
        beside(network(2, 1), {"bioimageio.yaml": bioimage() | {"format_version": "0.9.0"}})


# ukis-csmask, wsinfer, Esri, ZEISS

UKIS = {
    "data": {
        "in_channels": 2,
        "classes": 3,
        "dataset_statistics": {"img": [[0.2, 0.3], [0.1, 0.4]], "band_names": ["blue", "nir"]},
        "target_size": [256, 256],
    },
    "model": {"version": "1.0.0", "decoder_name": "unet", "encoder_name": "efficientnet-b4"},
}


def test_ukis_csmask(beside):
    found = beside(network(2, 3), {"net.json": UKIS})
    card = found.card
    assert [one.name for one in card.classes] == ["clear", "cloud", "shadow"]
    assert (card.window, card.says, card.activation) == (256, "logits", "softmax")
    assert np.allclose(scaled(card, np.full((2, 1), 0.5)), [[3], [0.5]])
    assert any("reflectance" in note for note in found.notes)


WSINFER = {
    "spec_version": "1.0",
    "architecture": "resnet34",
    "num_classes": 2,
    "class_names": ["other", "tumour"],
    "patch_size_pixels": 350,
    "spacing_um_px": 0.25,
    "transform": [
        {"name": "Resize", "arguments": {"size": 224}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": {"mean": [0.7, 0.5, 0.6], "std": [0.1, 0.1, 0.2]}},
    ],
}


def test_wsinfer_s_classifiers_are_refused_with_the_reason(beside):
    vector = network(3, 2)
    del vector.graph.output[0].type.tensor_type.shape.dim[2:]
    with pytest.raises(ModelError, match="classifies patches of 350 px: one class for a patch, which is no mask"):
        beside(vector, {"config.json": WSINFER})
    card = beside(network(3, 2), {"config.json": WSINFER}).card
    assert card.resolution == pytest.approx(0.25e-6 * 350 / 224)
    assert np.allclose(scaled(card, np.full((3, 1), 255.0)), [[3], [5], [2]], atol=1e-5)
    assert (card.window, card.dtype) == (224, "uint8")


EMD = {  # after the example in Esri's documentation
    "Framework": "Onnx",
    "ModelConfiguration": "CntkLandClassification",
    "ModelType": "ImageClassification",
    "ModelFile": ".\\net.onnx",
    "ExtractBands": [3, 0],
    "ImageHeight": 256,
    "ImageWidth": 256,
    "Classes": [
        {"Value": 0, "Name": "Evergreen Forest", "Color": [0, 51, 0]},
        {"Value": 7, "Name": "Open Water", "Color": [0, 0, 117]},
    ],
}
STATS = {
    "band_min_values": [10, 0, 0, 20],
    "band_max_values": [110, 1, 1, 220],
    "scaled_mean_values": [0.5, 0, 0, 0.25],
    "scaled_std_values": [0.1, 1, 1, 0.2],
}


def test_esri_s_definition_where_it_is_plain(beside):
    card = beside(network(2, 2), {"trained.emd": EMD | {"NormalizationStats": STATS}}).card
    assert card.file_bands == (4, 1), "they count from 0"
    assert [(one.value, one.name, one.colour) for one in card.classes] == [
        (0, "Evergreen Forest", "#003300"),
        (7, "Open Water", "#000075"),
    ]
    raw = np.array([[120.0], [60.0]])
    expected = [[((120 - 20) / 200 - 0.25) / 0.2], [((60 - 10) / 100 - 0.5) / 0.1]]
    assert np.allclose(scaled(card, raw), expected, atol=1e-5)
    assert card.window == 256


def test_esri_without_statistics_asks_for_the_scaling_and_adds_the_background(beside):
    with pytest.raises(SettingsError, match="does not say `scaling`: add to net"):
        beside(network(2, 2), {"net.emd": EMD})
    roof = {**EMD, "Classes": [{"Value": 3, "Name": "roof"}]}
    card = beside(network(2, 2), {"net.emd": roof}, {"scaling": "none"}).card
    assert [(one.value, one.name) for one in card.classes] == [(0, "background"), (3, "roof")]
    with pytest.raises(ModelError, match="is for ObjectDetection"):
        beside(network(2, 2), {"net.emd": EMD | {"ModelType": "ObjectDetection"}})


def test_zeiss_says_shapes_and_classes(beside):
    document = {
        "Type": "SingleClassSemanticSegmentation",
        "InputShape": [64, 64, 1],
        "OutputShape": [64, 64, 2],
        "MinOverlap": [8, 8],
        "Classes": ["Background", "Nucleus"],
        "ModelName": "n",
    }
    card = beside(network(1, 2, layout="NHWC"), {"net.json": document}, {"scaling": "none"}).card
    assert (card.layout, card.window, card.activation) == ("NHWC", 64, "softmax")
    with pytest.raises(ModelError, match="is for ObjectDetection"):
        beside(network(1, 2), {"net.json": document | {"Type": "ObjectDetection"}})
    regression = {key: value for key, value in document.items() if key != "Classes"} | {"Type": "Regression"}
    card = beside(network(1, 2, layout="NHWC"), {"net.json": regression}, {"scaling": "none"}).card
    assert (card.says, [one.name for one in card.classes]) == ("values", ["value 1", "value 2"])


# STAC MLM

ITEM = {  # after the examples of the extension's repository
    "stac_version": "1.0.0",
    "type": "Feature",
    "id": "unet",
    "properties": {
        "mlm:name": "U-Net",
        "mlm:architecture": "U-Net",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:input": [
            {
                "name": "image",
                "bands": ["B4", "B3"],
                "input": {
                    "shape": [-1, 2, 64, 64],
                    "dim_order": ["batch", "channel", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": [{"type": "scale", "value": 10000}],
            }
        ],
        "mlm:output": [
            {
                "name": "mask",
                "tasks": ["semantic-segmentation"],
                "result": {"shape": [-1, 2, 64, 64], "dim_order": ["batch", "channel", "height", "width"]},
                "classification:classes": [{"value": 0, "name": "sea"}, {"value": 1, "name": "land"}],
            }
        ],
    },
    "assets": {"model": {"href": "https://example.com/models/net.onnx?download=true", "roles": ["mlm:model"]}},
}


@pytest.mark.parametrize("name", ["net.json", "item.json", "net.stac.json", "unet.stac.json"])
def test_an_item_beside_the_model(beside, name):
    found = beside(network(2, 2), {name: ITEM}, others=("other.onnx",))
    card = found.card
    assert [band.name for band in card.bands] == ["B4", "B3"]
    assert card.scaling.divide_by == 10000
    assert [one.name for one in card.classes] == ["sea", "land"]
    assert found.sources["scaling"] == name


def test_an_item_of_another_task_or_of_no_form_is_refused(beside):
    other = json.loads(json.dumps(ITEM).replace("semantic-segmentation", "classification"))
    with pytest.raises(SettingsError, match="does classification"):
        beside(network(2, 2), {"item.json": other})
    with pytest.raises(SettingsError, match="is not what STAC MLM"):
        beside(network(2, 2), {"item.json": {"mlm:input": [{"input": 3}]}})


@pytest.mark.parametrize(
    ("eats", "expected"),
    [
        (
            {"norm_type": "z-score", "statistics": [{"mean": 1, "stddev": 2}, {"mean": 3, "stddev": 4}]},
            {"kind": "mean_std", "mean": (1, 3), "std": (2, 4), "divide_by": 1},
        ),
        (
            {"norm_type": "min-max", "statistics": [{"minimum": 0, "maximum": 9}] * 2},
            {"kind": "min_max", "min": (0, 0), "max": (9, 9)},
        ),
        (
            {"pre_processing_function": {"format": "python", "expression": "torchgeo.x"}},
            "leaves it to the program torch",
        ),
        ({"value_scaling": [{"type": "clip-max", "maximum": 3}]}, "asks for the value_scaling clip-max before"),
        ({"norm_type": "l2"}, "the norm_type l2"),
    ],
)
def test_an_item_s_scaling_in_earlier_words_or_in_none_that_a_card_has(beside, eats, expected):
    item = json.loads(json.dumps(ITEM))
    del item["properties"]["mlm:input"][0]["value_scaling"]
    item["properties"]["mlm:input"][0] |= eats
    if isinstance(expected, str):
        with pytest.raises(SettingsError, match=f"does not say `scaling` .*{expected}"):
            beside(network(2, 2), {"item.json": item})
    else:
        assert beside(network(2, 2), {"item.json": item}).card.scaling.model_dump() == expected


# Which documents speak, and who has the last word


def test_a_folder_s_document_that_speaks_of_another_model_is_left_aside_and_said(beside):
    said = {"classes": ["a", "b"], "scaling": "none"}
    elsewhere = bioimage() | {"weights": {"onnx": {"source": "other.onnx"}}}
    found = beside(network(2, 2), {"bioimageio.yaml": elsewhere}, said, others=("other.onnx",))
    assert any("is not read: it speaks of other.onnx" in note for note in found.notes)
    silent = {**ITEM, "assets": {}}
    found = beside(network(2, 2), {"item.json": silent}, said, others=("other.onnx",))
    assert any("item.json is not read: there are several models" in note for note in found.notes)
    assert found.card.name == "net"


def test_a_document_of_a_file_that_is_not_there_speaks_of_the_only_model_there_is(beside):
    renamed = bioimage() | {"weights": {"onnx": {"source": "https://example.com/files/weights.onnx/content"}}}
    assert beside(network(2, 1), {"rdf.yaml": renamed}).sources["classes"] == "rdf.yaml"


def test_two_documents_that_say_the_same_in_other_words_do_not_contradict(beside):
    step = {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 0.0, "std": 10000.0}}
    shared = bioimage(before=[step], names=("sea", "land"), after=[{"id": "softmax"}])
    notes = beside(network(2, 2), {"bioimageio.yaml": shared, "net.json": ITEM}).notes
    assert not any("`scaling:" in note or "`classes:" in note for note in notes)
    assert any("`bands:" in note for note in notes)


def test_the_more_specific_of_two_documents_wins_and_it_is_said(beside):
    shared = bioimage(names=("a", "b"), after=[{"id": "softmax"}])
    documents = {"bioimageio.yaml": shared, "net.json": ITEM, "net.yaml": {"fill": 3}}
    found = beside(network(2, 2), documents, {"threshold": 0.2})
    assert [one.name for one in found.card.classes] == ["sea", "land"]
    assert found.sources["classes"] == "net.json"
    assert found.sources["says"] == "bioimageio.yaml"
    assert found.sources["fill"] == "net.yaml"
    assert found.sources["threshold"] == "the job's `card`"
    told = [note for note in found.notes if "`classes:" in note]
    assert len(told) == 1
    assert "bioimageio.yaml says" in told[0]
    assert "net.json" in told[0]


def test_a_yaml_of_the_model_s_name_may_be_bioimageio_s(beside):
    found = beside(network(2, 1), {"net.yaml": bioimage(), "card.yaml": {"fill": 7}})
    assert (found.sources["classes"], found.sources["fill"]) == ("net.yaml", "card.yaml")


def test_one_sentence_names_all_that_is_missing_with_a_line_for_each(tmp_path):
    model = network(2, 3, last="Relu")
    with pytest.raises(SettingsError) as error:
        understand(model, tmp_path / "net.onnx", {})
    message = error.value.message
    assert "does not say `scaling`, `classes`, `says`: add to net.yaml" in message
    lines = [part for part in message.split("`") if ": " in part and not part.startswith(":")]
    said = {}
    for line in gather(model, tmp_path / "net.onnx").missing.values():
        assert line in lines
        said |= yaml.safe_load(line)
    assert understand(model, tmp_path / "net.onnx", said).card.channels == 3, "the lines are enough"


def test_bands_that_nobody_names_are_guessed_and_said(tmp_path):
    said = {"classes": ["a", "b"], "scaling": "none"}
    for count, names in [(1, ["grey"]), (3, ["red", "green", "blue"]), (5, [f"band {n}" for n in range(1, 6)])]:
        found = understand(network(count, 2), tmp_path / "a.onnx", said)
        assert [band.name for band in found.card.bands] == names
        assert found.sources["bands"].startswith("guessed")
        assert any("is a guess" in note for note in found.notes)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [*{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}]\n"
    for p, n in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("item.json", "{"),
        ("net.json", "[" * 100_000),
        ("rdf.yaml", "a: !!python/object/apply:os.system [true]"),
        ("bioimageio.yaml", BOMB),
        ("bioimageio.yaml", "a: &a [*a]"),
        ("config.json", "\udcff"),
        ("net.emd", " " * (16 * 2**20 + 1)),
    ],
    ids=["cut", "deep", "tag", "bomb", "circle", "bytes", "large"],
)
def test_a_document_that_cannot_be_read_is_one_sentence(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match="repair it, or move it away"):
        load(tmp_path / name)


@settings(max_examples=200)
@given(st.data())
def test_no_document_gives_a_traceback(tmp_path_factory, data):
    """Any value in any place of a good document gives a card or a sentence."""
    folder = tmp_path_factory.getbasetemp() / "mutants"
    folder.mkdir(exist_ok=True)
    name, good = data.draw(
        st.sampled_from([("net.json", UKIS), ("net.emd", EMD), ("net.json", WSINFER)])
        | st.sampled_from([("net.json", ITEM), ("net.yaml", bioimage(after=[{"id": "sigmoid"}]))])
    )
    document = json.loads(json.dumps(good))
    at, key = document, None
    for _ in range(data.draw(st.integers(1, 5))):
        if not isinstance(at, dict | list) or not at:
            break
        parent, key = at, data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        at = parent[key]
    parent[key] = data.draw(st.sampled_from([None, 0, -1, 1e400, "x", [], {}, [None], [[]], {"x": 1}, True, [1, "a"]]))
    for file in folder.iterdir():
        file.unlink()
    (folder / name).write_text(json.dumps(document))
    with suppress(SettingsError, ModelError):
        understand(network(2, 2), Path(folder / "net.onnx"), {"name": "n"})
