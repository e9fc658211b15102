"""The fused graph says what numpy, the bare network and numpy say one after the other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from pipeline.grid import Stitch
from pipeline.network.card import Card
from pipeline.network.host import Recipe
from pipeline.network.model_file import load_model
from pipeline.network.resolve import resolve_card
from pipeline.network.rule import classes_of, confidence_of, quantised
from tests.tiny import (
    MODELS,
    Network,
    bare,
    clearness,
    drawn_windows,
    engine_of,
    in_steps,
    needs_models,
    networks,
    probabilities_of,
    recipes,
    said_by_parts,
)


@given(networks(), recipes(), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_it_is_preprocessing_network_and_decision_in_one(drawn, recipe, seed):
    network, card = drawn
    windows = drawn_windows(recipe, network.bands, seed)
    model = network.model()
    got = engine_of(model, card, recipe).run(*windows)

    start = recipe.margin - (0 if network.padded else 1)
    core = slice(start, start + recipe.core)
    said = said_by_parts(network, card, windows)[:, :, core, core]
    part, rounding = probabilities_of(said, card), 5e-3 if network.half else 1e-6
    # ^ ONNX Runtime leaves out the casts to half and back that the bare network ends with
    clear = clearness(part, card) > rounding
    assert got["classes"].dtype == card.mask_dtype
    same = got["classes"] == [classes_of(one, card, card.says) for one in said]
    same = same.reshape(len(said), -1, recipe.core, recipe.core).all(axis=1)
    assert same[clear].all()
    assert network.half or same.all()
    assert got["finite"].all()
    if recipe.probabilities:
        assert np.abs(got["probabilities"] - in_steps(part)).max() <= 0.501 + 250 * rounding
    if recipe.confidence:
        chosen = np.stack([confidence_of(one, card) for one in part])
        assert np.abs(got["confidence"] - in_steps(chosen))[clear].max(initial=0) <= 0.501 + 250 * rounding
    assert set(got) == {"classes", "finite"} | {
        name for name in ("confidence", "probabilities") if getattr(recipe, name)
    }


@given(networks(), recipes(Stitch.BLEND), st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_for_blending_it_says_probabilities_of_the_window(drawn, recipe, seed):
    network, card = drawn
    network = replace(network, padded=True)
    windows = drawn_windows(recipe, network.bands, seed)
    model = network.model()
    got = engine_of(model, card, recipe).run(*windows)
    said = said_by_parts(network, card, windows)
    np.testing.assert_allclose(got["probabilities"], probabilities_of(said, card), atol=5e-3 if network.half else 2e-6)
    assert got["finite"].all()
    assert set(got) == {"probabilities", "finite"}


@given(networks(), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_both_ways_to_a_class_agree(drawn, seed):
    network, card = drawn
    network = replace(network, padded=True)
    exact, blend = (Recipe(16, 4, 1, "float32", stitch, confidence=True) for stitch in (Stitch.EXACT, Stitch.BLEND))
    windows = drawn_windows(exact, network.bands, seed)
    model = network.model()
    got, wide = (engine_of(model, card, recipe).run(*windows) for recipe in (exact, blend))
    part = wide["probabilities"][0][:, 4:12, 4:12]
    clear = clearness(part[None], card)[0] > 1e-6  # where rounding of an exponential could decide, it may
    np.testing.assert_array_equal(classes_of(part, card)[..., clear], got["classes"][0][..., clear])
    off = quantised(confidence_of(part, card)).astype(int) - got["confidence"][0]
    assert np.abs(off[clear]).max(initial=0) <= 1


@given(networks(), recipes(), st.sampled_from(list(Stitch)), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_values_are_what_the_network_says(drawn, recipe, stitch, seed):
    network = replace(drawn[0], padded=True)
    card = network.card(range(network.channels), "none", says="values")
    recipe = replace(recipe, stitch=stitch, confidence=False, probabilities=False)
    windows = drawn_windows(recipe, network.bands, seed)
    got = engine_of(network.model(), card, recipe).run(*windows)
    core = slice(recipe.margin, recipe.margin + recipe.core) if stitch is Stitch.EXACT else slice(None)
    said = said_by_parts(network, card, windows)[:, :, core, core]
    np.testing.assert_allclose(got["values"], said, rtol=1e-2 if network.half else 0, atol=1e-2 if network.half else 0)
    assert (got["values"].dtype, set(got)) == (np.float32, {"values", "finite"})


def test_a_thousand_classes_have_values_of_their_own():
    network, recipe = Network(channels=1000), Recipe(24, 2, 1, "uint8")
    card = network.card(range(65532, 64532, -1), "softmax")
    windows = drawn_windows(recipe, 3, 0)
    got = engine_of(network.model(), card, recipe).run(*windows)["classes"]
    said = said_by_parts(network, card, windows)[0, :, 2:-2, 2:-2]
    np.testing.assert_array_equal(got[0], 65532 - said.argmax(axis=0))
    assert (got.dtype, len(np.unique(got)) > 20) == (np.uint16, True)


def test_ties_go_to_the_lowest_index():
    network = Network(channels=4)
    model = network.model()
    for tensor in model.graph.initializer:
        if tensor.name in ("w2", "b2"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    recipe = Recipe(8, 2, 1, "uint8")
    card = network.card([7, 3, 9, 1], "softmax")
    got = engine_of(model, card, recipe).run(*drawn_windows(recipe, 3, 0))
    assert (got["classes"] == 7).all()
    assert (classes_of(np.full((4, 2, 2), 0.25, np.float32), card) == 7).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stitch", list(Stitch))
@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_not_finite_is_caught_window_by_window(poison, channels, stitch, exclusive):
    network = Network(bands=1, channels=channels)
    card = network.card([0, 1, 2, 3][: channels + 1], "sigmoid", exclusive=exclusive)
    recipe = Recipe(20, 4, 3, "float32", stitch)
    model = network.model()
    engine = engine_of(model, card, recipe)
    for row, col in ((10, 10), (4, 4), (15, 4)):  # in the core, and in its corners
        pixels, valid, shift, factor = drawn_windows(recipe, 1, 5)
        valid[:] = True
        pixels[1, 0, row, col] = poison
        assert engine.run(pixels, valid, shift, factor)["finite"].tolist() == [True, False, True]
        valid[1, row, col] = False  # an invalid pixel is the card's fill, whatever stands there
        assert engine.run(pixels, valid, shift, factor)["finite"].all()
    pixels[1, 0, 0, 0], valid[1, 0, 0] = poison, True
    assert engine.run(pixels, valid, shift, factor)["finite"][1] == (stitch is Stitch.EXACT)  # a reach away: no matter


def test_large_numbers_are_finite():
    network = Network(bands=1)
    recipe = Recipe(24, 2, 1, "float32")
    model = network.model()
    engine = engine_of(model, network.card([0, 1, 2], "softmax"), recipe)
    pixels = np.full((1, 1, 24, 24), 1e37, np.float32)  # the sum of what comes out is beyond float32
    ones = np.ones(1, np.float32)
    assert engine.run(pixels, np.ones((1, 24, 24), bool), 0 * ones, ones)["finite"].all()


@needs_models
def test_a_nuclei_network_of_others_says_what_its_makers_say():
    folder = MODELS / "bioimageio-unet2d-nuclei"
    model = load_model(folder / "weights.onnx")
    image, truth = np.load(folder / "test_input.npy"), np.load(folder / "test_output.npy")
    said = {"name": "nuclei", "bands": ["grey"], "scaling": "scene", "layout": "NCHW", "activation": "sigmoid"}
    card = Card.of(said | {"says": "logits", "classes": ["none", "nucleus"]}, "the test")
    statistics = image.mean(axis=(0, 2, 3), dtype=np.float64), image.std(axis=(0, 2, 3), dtype=np.float64)
    recipe = Recipe(512, 0, 1, "float32", Stitch.BLEND)
    engine = engine_of(model, card, recipe)
    got = engine.run(image, np.ones((1, 512, 512), bool), *card.affine(statistics))
    assert np.abs(got["probabilities"] - truth).max() <= 1e-4


@needs_models
@pytest.mark.parametrize(
    ("file", "output"),
    [
        ("one_output_sigmoid_bsx1x512x512", None),
        ("one_output_softmax_bsx2x512x512", None),
        ("two_outputs_sigmoid_bsx1x512x512", "output2"),
        ("two_outputs_sigmoid_bsx512x512", "output"),
    ],
)
def test_networks_of_rank_3_and_of_two_outputs_from_others(file, output):
    path = MODELS / "deepness" / f"dummy_segmentation_models__{file}.onnx"
    model = load_model(path)
    two = "bsx2x" in file
    card = resolve_card(
        model,
        path,
        {"output": output, "classes": ["none", "some"], "activation": "softmax" if two else "sigmoid"}
        | {
            "bands": ["red", "green", "blue"],
            "scaling": {"kind": "constant", "divide_by": 255},
            "says": "probabilities",
        },
    )
    recipe = Recipe(512, 16, 1, "uint8", confidence=True)
    engine = engine_of(model, card, recipe)
    windows = drawn_windows(recipe, 3, 1)[:2]
    got = engine.run(*windows, *card.affine(None))
    scaled = windows[0].astype(np.float32) * card.affine(None)[1][:, None, None]
    scaled = np.where(windows[1][:, None], scaled, np.float32(0))
    said = bare(model, output or model.graph.output[0].name, scaled)
    said = said.reshape(1, -1, 512, 512)[0][:, 16:-16, 16:-16]
    np.testing.assert_array_equal(got["classes"][0], classes_of(said, card))
    np.testing.assert_array_equal(got["confidence"][0], quantised(confidence_of(said, card)))


@needs_models
def test_a_network_of_others_with_channels_last():
    path = MODELS / "zeiss-toy" / "simple_nuclei_segmodel.onnx"
    model = load_model(path)
    said = {"name": "zeiss", "bands": ["grey"], "scaling": {"kind": "constant", "divide_by": 255}, "layout": "NHWC"}
    card = Card.of(said | {"says": "logits", "activation": "softmax", "classes": ["none", "nucleus"]}, "the test")
    recipe = Recipe(1024, 32, 1, "uint8", confidence=True)
    pixels, valid, *_ = drawn_windows(recipe, 1, 3)
    got = engine_of(model, card, recipe).run(pixels, valid, *card.affine(None))
    scaled = np.where(valid[:, None], pixels * card.affine(None)[1], np.float32(0)).transpose(0, 2, 3, 1)
    bare_said = bare(model, model.graph.output[0].name, scaled).transpose(0, 3, 1, 2)[0][:, 32:-32, 32:-32]
    np.testing.assert_array_equal(got["classes"][0], classes_of(bare_said, card, card.says))
    part = confidence_of(probabilities_of(bare_said[None], card)[0], card)
    assert np.abs(got["confidence"][0] - in_steps(part)).max() <= 0.501
