"""The numbers that a scene is scaled by, held against numpy, and masks that they decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.calibrate import affine_of, calibrated
from pipeline.errors import ModelError, SceneError, SettingsError
from pipeline.network.card import Card
from pipeline.raster.source import open_scene
from pipeline.run import open_run
from pipeline.settings import Job
from pipeline.settle import open_network, settle
from tests.images import noise, quiet, write_image
from tests.oracle import (
    MEAN,
    STD,
    TUNER,
    do_blocks,
    expected_mask,
    opened,
    read_mask,
    run_here,
    save_model,
    save_scene,
    small_card,
    small_unet,
)
from tests.oracle import noise as scenery
from tests.test_plan import scene

pytestmark = quiet
SAID = {
    "name": "drawn",
    "bands": ["red", "green"],
    "classes": ["a", "b"],
    "layout": "NCHW",
    "says": "logits",
    "activation": "softmax",
}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_is_scaled_over_the_scene_is_what_numpy_makes_of_it(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from(["uint8", "int16", "float32"]))
    pixels = noise(2, data.draw(st.integers(2, 40)), data.draw(st.integers(2, 40)), dtype)
    joint, eps = data.draw(st.booleans()), data.draw(st.sampled_from([0.0, 1e-6, 2.0]))
    gain = data.draw(st.sampled_from([[1.0, 1.0], [-2.0, -2.0]] + ([] if joint else [[0.5, -3.0]])))
    offset = [7.0, 7.0] if joint else [7.0, -1.0]
    kind = data.draw(st.sampled_from(["scene", "percentile"]))
    ends = {"low": 2.5, "high": 90} if kind == "percentile" else {}
    scaling = {"kind": kind, "joint": joint, "eps": eps, **ends}
    card = Card.of(SAID | {"scaling": scaling, "gain": gain, "offset": offset}, "test")
    path = write_image(tmp_path_factory.mktemp("c") / "a.tif", pixels)
    shift, factor = (np.array(numbers)[:, None, None] for numbers in affine_of(card, open_scene(str(path), None)))
    physical = pixels.astype(np.float64) * np.array(gain)[:, None, None] + np.array(offset)[:, None, None]
    over = None if joint else (1, 2)
    if kind == "scene":
        middle, width = physical.mean(axis=over, keepdims=True), physical.std(axis=over, keepdims=True)
    else:
        middle = np.percentile(physical, 2.5, axis=over, keepdims=True)
        width = np.percentile(physical, 90, axis=over, keepdims=True) - middle
    width = width + eps
    expected = (physical - middle) / np.where(width == 0, 1, width)
    np.testing.assert_allclose((pixels - shift) * factor, expected, rtol=1e-4, atol=1e-4)


def job_of(folder, **card) -> Job:
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "net.onnx"), "out": folder / "out"}
    return Job(**said, device="cpu", card=card)


def test_a_scene_scaled_by_its_percentiles_gives_the_mask_of_numpys(tmp_path):
    model, pixels = small_unet(), scenery(120, 140)
    save_model(tmp_path / "net.onnx", model)
    save_scene(tmp_path / "scene.tif", pixels)
    run_here(job_of(tmp_path, scaling={"kind": "percentile", "low": 2, "high": 98}))
    low, high = np.percentile(pixels, [2, 98], axis=(1, 2))
    scaled = (pixels - low[:, None, None]) / (high - low)[:, None, None]
    # one_pass undoes and redoes the scaling of the card that it knows
    back = scaled * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]
    found = read_mask(tmp_path / "out" / "scene")
    assert (found == expected_mask(model, back.astype(np.float32))).mean() > 0.9999


def test_a_scaling_by_window_is_blended_and_says_why(tmp_path):
    save_model(tmp_path / "net.onnx", small_unet())
    save_scene(tmp_path / "scene.tif", scenery(150, 140))
    job = job_of(tmp_path, scaling="window")
    assert (
        "its scaling `window` takes the statistics of each window"
        in open_network(tmp_path / "net.onnx", job).field.unbounded
    )
    report = run_here(job)
    assert report["margin"]["kind"] == "blend"
    assert "`window`" in report["margin"]["why"]
    with pytest.raises(ModelError, match="takes the statistics of each window"):
        run_here(job.model_copy(update={"margin": "exact", "out": tmp_path / "other"}))


def test_one_window_alone_is_scaled_by_itself(tmp_path):
    model, pixels = small_unet(), scenery(48, 48, seed=4)
    save_model(tmp_path / "net.onnx", model)
    save_scene(tmp_path / "scene.tif", pixels)
    run_here(job_of(tmp_path, scaling="window", window=64))
    around = np.pad(pixels, [(0, 0), (8, 8), (8, 8)], mode="reflect").astype(np.float64)
    mean, deviation = around.mean(axis=(1, 2)), around.std(axis=(1, 2))
    scaled = (around - mean[:, None, None]) / deviation[:, None, None]
    back = scaled * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]
    inside = (slice(16, -16), slice(16, -16))  # off the window's rim, where the network pads with zeros
    expected = expected_mask(model, back.astype(np.float32))[8:-8, 8:-8]
    assert (read_mask(tmp_path / "out" / "scene") == expected)[inside].mean() > 0.999


def identity(**said):
    return Card.of(small_card().model_dump() | said, "test").identity()


def test_all_that_decides_pixels_is_part_of_the_identity():
    made = [
        identity(),
        identity(clip=[0, 1]),
        identity(clip=[0, 2]),
        *(identity(scaling={"kind": kind}) for kind in ("scene", "percentile", "window")),
        *(identity(scaling={"kind": kind, "joint": True}) for kind in ("scene", "percentile", "window")),
        *(identity(scaling={"kind": kind, "eps": 1e-6}) for kind in ("scene", "percentile", "window")),
        identity(scaling={"kind": "percentile", "low": 2}),
        identity(scaling={"kind": "percentile", "high": 98}),
        identity(scaling="scene", gain=-1),
    ]
    assert all(made.count(one) == 1 for one in made)
    assert identity(scaling="scene", gain=2, offset=3) == identity(scaling="scene")
    eps = {"kind": "scene", "eps": 1e-6}
    assert identity(scaling=eps, gain=2) != identity(scaling=eps)


def reflecting(dtype="uint16", gain=None, offset=None):
    """A scene of two bands, as far as its calibration goes."""
    plain = scene(bands=(1, 2), nodata=(None, None), dtype=dtype)
    return replace(plain, gain=gain, offset=offset)


def test_a_scene_s_own_reflectance_takes_the_place_of_the_card_s():
    card = Card.of(SAID | {"scaling": "none", "units": "reflectance", "gain": 3}, "test")
    own = calibrated(card, reflecting(gain=(2e-5, 1e-4), offset=(-0.1, 0.0)))
    assert (own.gain, own.offset) == ((2e-5, 1e-4), (-0.1, 0.0))
    assert calibrated(card, reflecting()) == card
    assert own.identity() != card.identity()
    other = card.model_copy(update={"units": None})
    assert calibrated(other, reflecting(gain=(2e-5, 1e-4), offset=(-0.1, 0.0))) == other


def test_reflectance_that_nobody_knows_to_make_is_asked_for():
    card = Card.of(SAID | {"scaling": "none", "units": "reflectance"}, "test")
    with pytest.raises(SceneError, match=r"uint16 numbers .* card: \{gain: 0.0001, offset: 0\}"):
        calibrated(card, reflecting())
    assert calibrated(card, reflecting("float32")) == card
    joint = Card.of(SAID | {"scaling": {"kind": "scene", "joint": True}, "units": "reflectance"}, "test")
    with pytest.raises(SettingsError, match="joint statistics need one gain"):
        calibrated(joint, reflecting(gain=(1.0, 2.0), offset=(0.0, 0.0)))


def test_a_scene_that_says_its_reflectance_gives_the_mask_of_a_card_that_says_it(tmp_path):
    save_model(tmp_path / "net.onnx", small_unet())
    save_scene(tmp_path / "scene.tif", scenery(90, 90).astype(np.uint16))
    said = {"units": "reflectance", "scaling": {"kind": "mean_std", "mean": [0.1, 0.2, 0.3], "std": [0.1, 0.2, 0.1]}}
    by_card = job_of(tmp_path, **said, gain=[0.002, 0.004, 0.002], offset=[0.0, -0.1, 0.1])
    run_here(by_card.model_copy(update={"out": tmp_path / "card"}))
    job = job_of(tmp_path, **said)
    network, image = open_network(tmp_path / "net.onnx", job), open_scene(str(tmp_path / "scene.tif"), None)
    own = replace(image, gain=(0.002, 0.004, 0.002), offset=(0.0, -0.1, 0.1))
    with open_run(job, own.name, lambda frozen: settle(job, network, own, TUNER, frozen, 1)) as run:
        do_blocks(run, run.todo)
        run.finish(lambda *_: None)
        assert any("0.004 × raw + -0.1" in note for note in run.settled.notes)
        identity = run.plan.identity
    assert np.array_equal(read_mask(tmp_path / "out/scene"), read_mask(tmp_path / "card/scene"))
    with opened(by_card.model_copy(update={"out": tmp_path / "card"})) as run:
        assert run.plan.identity == identity
    with pytest.raises(SceneError, match="said neither by the image nor by the card"):
        opened(job.model_copy(update={"out": tmp_path / "third"}))
    with rasterio.open(tmp_path / "scene.tif", "r+") as file:  # the file's own tags say it as well
        file.scales, file.offsets = (0.002, 0.004, 0.002), (0.0, -0.1, 0.1)
    run_here(job.model_copy(update={"out": tmp_path / "tags"}))
    assert np.array_equal(read_mask(tmp_path / "tags/scene"), read_mask(tmp_path / "card/scene"))
    raw = job_of(tmp_path, **said | {"units": None}).model_copy(update={"out": tmp_path / "raw"})
    with opened(raw) as run:
        assert any("scaling is of the raw numbers" in note for note in run.settled.notes)
