"""Who has the last word on a card, what the graph says by itself, and what is refused because it does not fit."""

import json
from pathlib import Path

import onnx
import pytest
import yaml

from pipeline.errors import ModelError, SettingsError
from pipeline.network.card import Card
from pipeline.network.mlm import embed
from pipeline.network.model_file import load_model
from pipeline.network.resolve import resolve_card
from pipeline.network.signature import answers, signature
from pipeline.network.understand import understand
from tests.cards import network

OTHERS = Path(__file__).parents[2] / "shared" / "data" / "models"
REST = {"scaling": "none", "says": "logits"}


def _refused(error, words, model, overrides=None, path=Path("nowhere/a.onnx")):
    with pytest.raises(error, match=words):
        resolve_card(model, path, overrides)


def test_precedence_entry_by_entry(tmp_path):
    path = tmp_path / "water.onnx"
    said = {"bands": ["red", "green"], "classes": ["sea", "land", "lake"], "layout": "NCHW", "activation": "softmax"}
    card = Card.of({"name": "embedded", "fill": 1, "threshold": 0.1, "resolution": 5, **said, **REST}, "test")
    model = embed(network(2, 3), card)
    assert resolve_card(model, path) == card
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({"name": "folder", "fill": 2}))
    assert resolve_card(model, path) == card.model_copy(update={"name": "folder", "fill": 2.0})
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"name": "beside", "threshold": 0.2, "resolution": None}))
    beside = card.model_copy(update={"name": "beside", "threshold": 0.2, "resolution": None})
    assert resolve_card(model, path) == beside, "one YAML is read, that of the model's own name"
    assert resolve_card(model, path, {"threshold": 0.3}) == beside.model_copy(update={"threshold": 0.3})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("side", "rank", "last"), [(64, 4, None), (None, 4, "Sigmoid"), (64, 3, "Sigmoid"), (None, 3, None)]
)
def test_what_the_graph_says_by_itself(layout, side, rank, last):
    model = network(3, 1, layout=layout, side=side, rank=rank, last=last)
    card = resolve_card(model, Path("roofs.onnx"), {"classes": ["none", "roof"], "scaling": "none"})
    assert (card.name, card.layout, len(card.bands), card.window) == ("roofs", layout, 3, side)
    assert (card.activation, card.says) == ("sigmoid", "probabilities" if last else "logits")


@pytest.mark.parametrize(
    ("last", "classes", "activation", "says"),
    [
        ("Softmax", 3, "softmax", "probabilities"),
        ("LogSoftmax", 3, "softmax", "logits"),
        ("Sigmoid", 3, "softmax", "probabilities"),
        ("Sigmoid", 4, "sigmoid", "probabilities"),
        (None, 4, "sigmoid", "logits"),
    ],
)
def test_activation_follows_from_the_number_of_classes(last, classes, activation, says):
    names = [f"class {index}" for index in range(classes)]
    card = resolve_card(network(2, 3, last=last), Path("a.onnx"), {"classes": names, "scaling": "none"})
    assert (card.activation, card.says, card.channels) == (activation, says, 3)


def test_a_shape_that_the_graph_does_not_note_is_inferred():
    model = network(2, 3, known=False)
    _refused(
        SettingsError,
        "`mask` has 3 channels, which with softmax is for 3 classes",
        model,
        {"classes": ["a", "b"], **REST},
    )


def test_a_layout_in_doubt_is_asked_for():
    model = network(4, 2, side=4)
    assert signature(model).channel_axes() == (1, 3)
    _refused(SettingsError, "does not say `bands`, `layout`, `activation`", model, {"classes": ["a", "b"], **REST})
    card = resolve_card(model, Path("a.onnx"), {"classes": ["a", "b"], "layout": "NCHW", **REST})
    assert len(card.bands) == 4


def test_bands_that_are_said_settle_the_layout():
    model = network(2, 2)
    for axis, side in ((1, 2), (2, 480), (3, 640)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    assert signature(model).channel_axes() == (1, 3)
    card = resolve_card(model, Path("a.onnx"), {"classes": ["a", "b"], "bands": ["x", "y"], **REST})
    assert card.layout == "NCHW"


def test_says_is_asked_for_where_the_last_operator_leaves_doubt():
    model = network(2, 2, last="Relu")
    assert answers(model, "mask") is None
    _refused(
        SettingsError,
        r"does not say `says`: add to a.yaml beside it, or .* lines such as `says: logits` \(logits or probabilities\)",
        model,
        {"classes": ["a", "b"], "scaling": "none"},
    )


@pytest.mark.parametrize(
    ("mode", "said"), [("nearest", "logits"), ("linear", "logits"), ("cubic", None), ("linear by a crop", None)]
)
def test_what_is_resized_is_what_it_was_unless_cubics_overshoot(mode, said):
    model = network(2, 2, last="Resize")
    attributes = {"mode": mode.split()[0]}
    if "crop" in mode:
        attributes["coordinate_transformation_mode"] = "tf_crop_and_resize"
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    resize.attribute.extend(onnx.helper.make_attribute(*each) for each in attributes.items())
    assert answers(model, "mask") == said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"bands": ["r", "g"]}, r"names 2 bands \(r, g\), and the network's input `image` takes 3 as NCHW"),
        (
            {"classes": ["a", "b"], "activation": "sigmoid"},
            "`mask` has 3 channels, which with sigmoid is for 4 classes",
        ),
        ({"output": "other"}, "no output `other`; it has mask"),
        ({"output": ["mask"]}, "no output `\\['mask'\\]`"),
        ({"layout": "CHW"}, "`layout` cannot be 'CHW'"),
        ({"layout": ["NCHW"]}, "`layout` cannot be"),
        ({"clases": ["a"]}, "The job's `card` says `clases`, which no card has; did you mean `classes`"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(overrides, words):
    _refused(SettingsError, words, network(3, 3), {"classes": ["a", "b", "c"], **REST, **overrides})


def test_of_several_outputs_the_first_that_can_be_a_mask_is_taken_and_said():
    model = network(3, 2, outputs=("first", "second"))
    said = {"classes": ["a", "b"], **REST}
    found = understand(model, Path("a.onnx"), said)
    assert found.card.output == "first"
    assert found.sources["output"].startswith("guessed")
    assert any("2 outputs (first, second); the mask is made of `first`" in note for note in found.notes)
    assert resolve_card(model, Path("a.onnx"), {**said, "output": "second"}).output == "second"
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    assert resolve_card(model, Path("a.onnx"), said).output == "second"


def test_networks_that_make_no_mask_are_refused():
    two = network(3, 2)
    two.graph.input.append(onnx.helper.make_tensor_value_info("time", onnx.TensorProto.FLOAT, [1]))
    _refused(ModelError, r"2 inputs \(image, time\)", two)
    flat = network(3, 2)
    del flat.graph.input[0].type.tensor_type.shape.dim[3]
    _refused(ModelError, "has 3 dimensions; an image has four", flat)
    labels = network(3, 2)
    labels.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    _refused(ModelError, "holds int64; .* without its last ArgMax", labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [("- 1", "must hold keys and values"), ("a: [", "cannot be read as YAML"), ("nam: x", "did you mean `name`")],
)
def test_a_yaml_that_says_nothing_is_refused(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    _refused(SettingsError, words, network(3, 2), path=tmp_path / "a.onnx")


def _deepness(model, **keys):
    for key, value in keys.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return model


def test_deepness_keys_become_a_card():
    model = _deepness(
        network(3, 2, last="Relu"),
        model_type=json.dumps("Segmentor"),
        class_names={"0": "background", "1": "field"},
        resolution=50,
        tiles_size=256,
        seg_thresh=0.3,
        standardization_mean=[0.5, 0.4, 0.3],
        standardization_std=[0.2, 0.2, 0.1],
    )
    card = resolve_card(model, Path("a.onnx"))
    assert (card.resolution, card.window, card.threshold, card.dtype) == (0.5, 256, 0.3, "uint8")
    assert [entry.name for entry in card.classes] == ["background", "field"]
    assert [band.name for band in card.bands] == ["red", "green", "blue"]
    assert card.says == "probabilities"
    shift, factor = card.affine(None)
    assert shift.tolist() == pytest.approx([127.5, 102, 76.5])
    assert factor.tolist() == pytest.approx([1 / 51, 1 / 51, 1 / 25.5])


def test_a_regressor_of_deepness_says_values():
    model = _deepness(
        network(3, 1, last="Relu"), model_type='"Regressor"', reg_output_scaling=1.1, class_names={"0": "a"}
    )
    found = understand(model, Path("a.onnx"))
    assert (found.card.says, found.card.activation) == ("values", "none")
    assert [one.name for one in found.card.classes] == ["value"]
    assert any("multiplied by 1.1; they are kept" in note for note in found.notes)


def test_deepness_without_standardization_divides_by_255():
    model = _deepness(network(3, 1, last="Sigmoid"), model_type='"segmentor"', names="{0: 'roof'}")
    card = resolve_card(model, Path("a.onnx"))
    assert card.affine(None)[1].tolist() == pytest.approx([1 / 255] * 3)
    assert [entry.name for entry in card.classes] == ["background", "roof"]


def test_deepness_names_the_classes_of_each_output():
    model = _deepness(network(3, 1, outputs=("a", "b")), model_type='"Segmentor"', class_names=[{"0": "x"}, {"0": "y"}])
    card = resolve_card(model, Path("a.onnx"), {"output": "b"})
    assert [entry.name for entry in card.classes] == ["background", "y"]


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"model_type": '"Detector"'}, ModelError, "is a Detector; maskmill makes masks"),
        (
            {"model_type": '"Segmentor"', "class_names": '{"0": "a", "2": "b"}'},
            SettingsError,
            r"\[0, 2\]; they must count",
        ),
        ({"model_type": '"Segmentor"', "class_names": "3"}, SettingsError, "the classes by index"),
        ({"model_type": "os.system()"}, SettingsError, "`model_type`, which is not JSON"),
        ({"standardization_mean": "[1]"}, SettingsError, "both are needed"),
    ],
)
def test_deepness_that_makes_no_mask_is_refused(keys, error, words):
    _refused(error, words, _deepness(network(3, 2), **keys))


others = pytest.mark.skipif(not OTHERS.is_dir(), reason="the models made by others are not here")


@others
@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("dummy_segmentation_models__one_output_sigmoid_bsx1x512x512", ["background", "Coffee"]),
        ("dummy_regression_models__one_output_sigmoid_bsx1x512x512", ["background", "Happiness"]),
    ],
)
def test_deepness_models_of_others_need_nothing_said(name, classes):
    path = OTHERS / "deepness" / f"{name}.onnx"
    card = resolve_card(load_model(path), path)
    assert [entry.name for entry in card.classes] == classes
    assert (card.activation, card.says, card.window) == ("sigmoid", "probabilities", 512)
    assert card.scaling.model_dump() == {"kind": "constant", "divide_by": 255.0}


@others
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("dummy_recognition_model", ModelError, "has 2 dimensions"),
        ("one_output_sigmoid_red_detector", SettingsError, "does not say `scaling`, `classes`"),
    ],
)
def test_models_of_others_that_need_more_are_told_what(name, error, words):
    path = OTHERS / "deepness" / f"{name}.onnx"
    _refused(error, words, load_model(path), path=path)


@others
@pytest.mark.parametrize(
    ("name", "overrides", "layout", "activation", "says", "window"),
    [
        ("bioimageio-unet2d-nuclei/weights.onnx", {"scaling": "scene"}, "NCHW", "sigmoid", "logits", 512),
        ("zeiss-toy/simple_nuclei_segmodel.onnx", {"scaling": "none"}, "NHWC", "softmax", "probabilities", 1024),
        (
            "deepness/dummy_segmentation_models__two_outputs_sigmoid_bsx512x512.onnx",
            {"scaling": "none", "output": "output2", "says": "probabilities"},
            "NCHW",
            "sigmoid",
            "probabilities",
            512,
        ),
    ],
)
def test_models_of_others(name, overrides, layout, activation, says, window):
    path = OTHERS / name
    card = resolve_card(load_model(path), path, {"classes": ["background", "nucleus"], **overrides})
    assert (card.layout, card.activation, card.says, card.window) == (layout, activation, says, window)
