"""Margins found by measuring: what is tried, that what is found holds, and that it is found once."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DeviceError
from pipeline.grid import Grid, Rect
from pipeline.network.field import field_of
from pipeline.plan import Kind
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.settle import open_network
from pipeline.tune import CROPS, TOLERANCE, Trial, Tuner, candidates, crops, try_agreement, try_margins
from tests.oracle import (
    do_blocks,
    noise,
    one_pass,
    opened,
    read_mask,
    run_here,
    save_model,
    save_scene,
)
from tests.strategies import unet
from tests.test_plan import scene

DEEP = unet(widths=(8, 8, 8, 8, 8), seed=1)  # four poolings: the exact margin of 112 px more than doubles the work
PIXELS = noise(420, 520)


@given(st.integers(1, 64), st.integers(0, 500))
def test_margins_are_tried_from_one_stride_on_in_growing_steps_up_to_the_exact(stride, exact):
    tried = list(candidates(stride, exact))
    assert all(pixels % stride == 0 for pixels in tried)
    assert all(pixels < exact for pixels in tried)
    assert tried[:1] == ([stride] if stride < exact else [])
    for one, other in pairwise(tried):
        assert one < other <= 1.25 * one + stride
    assert not tried or 1.25 * tried[-1] + stride >= exact


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 700))
def test_crops_are_cores_of_the_scene_and_spread_over_it(height, width, side):
    grid = Grid(height, width, side, side, 0, side)
    found = crops(scene(height, width), side)
    for crop in found:
        assert crop.shape == (side, side)
        assert crop.top % side == crop.left % side == 0
        assert crop.intersect(grid.scene).area
    assert len(found) == len(set(found)) <= CROPS
    assert len({crop.top for crop in found}) == min(CROPS, grid.cores[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tune")
    save_model(place / "deep.onnx", DEEP)
    save_scene(place / "scene.tif", PIXELS)
    return place


def job(folder: Path, out: str, **said: object) -> Job:
    paths = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "deep.onnx"), "out": folder / out}
    return Job(**paths, device="cpu", **said)


@pytest.fixture(scope="module")
def report(folder):
    """A run in which the margin is left to be found, interrupted once."""
    with opened(job(folder, "auto")) as run:
        frozen = json.loads((run.folder.ledger / "plan.json").read_text())["choices"]["margin"]
        do_blocks(run, run.todo[:1])
    with opened(job(folder, "auto")) as run:
        assert len(run.todo) == len(run.plan.grid) - 1
        assert run.plan.choices.as_dict()["margin"] == frozen
        do_blocks(run, run.todo)
        return run.finish(lambda *_: None)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the first axis."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def differences(margin: int) -> list[float]:
    """|Δp| of every crop's window against one pass over the whole image, by the oracle."""
    whole, side = probabilities(one_pass(DEEP, PIXELS, 128, 16)), 256
    padded = np.pad(PIXELS, [(0, 0), (256, 512), (256, 512)], mode="reflect")
    found = []
    for crop in crops(scene(*PIXELS.shape[1:]), side):
        window = crop.grown(margin)
        rows, cols = (
            slice(start + 256, stop + 256) for start, stop in ((window.top, window.bottom), (window.left, window.right))
        )
        seen = probabilities(one_pass(DEEP, padded[:, rows, cols], 0, 16))[:, margin:-margin, margin:-margin]
        inside = crop.intersect(Rect(0, 0, *PIXELS.shape[1:]))
        part = seen[:, : inside.height, : inside.width]
        found.append(float(np.abs(part - whole[:, *inside.slices()]).max()))
    return found


def test_a_deep_encoders_margin_is_measured_and_keeps_the_tolerance_on_the_crops(report):
    margin, field = report["margin"], field_of(DEEP)
    assert field.margin == 112
    assert margin["kind"] == "measured"
    assert margin["pixels"] < field.margin
    assert margin["pixels"] in set(candidates(field.stride, field.margin))
    assert "more than double the work" in margin["why"]
    assert max(differences(margin["pixels"])) <= TOLERANCE + 1e-6
    assert margin["difference"] <= TOLERANCE


def test_no_smaller_margin_that_was_tried_would_have_done(folder, report):
    network = open_network(folder / "deep.onnx", job(folder, "auto"))
    affine = (tuple(map(float, numbers)) for numbers in network.card.affine(None))
    trial = Trial(network, open_scene(str(folder / "scene.tif"), None), *affine, device="cpu")
    found = try_margins(trial, None)
    assert (found.pixels, found.difference) == (report["margin"]["pixels"], report["margin"]["difference"])
    *_, below = (pixels for pixels in candidates(16, 112) if pixels < found.pixels)
    assert try_margins(trial, below).difference > TOLERANCE


def test_a_measured_margin_is_part_of_the_identity(report):
    assert report["identity"]["settings"]["margin in pixels"] == report["margin"]["pixels"]
    assert report["identity"]["settings"]["core"] == report["grid"]["core"]


def test_exact_is_exact_for_a_deep_encoder_too(folder, report):
    exact = run_here(job(folder, "exact", margin="exact"))
    assert (exact["margin"]["kind"], exact["margin"]["pixels"]) == ("exact", 112)
    expected = (10 * one_pass(DEEP, PIXELS, 128, 16).argmax(axis=0)).astype(np.uint8)
    assert np.array_equal(read_mask(folder / "exact" / "scene"), expected)
    assert (read_mask(folder / "auto" / "scene") == expected).mean() > 0.999


def test_places_without_a_valid_pixel_measure_nothing(folder, tmp_path):
    save_scene(tmp_path / "empty.tif", np.zeros_like(PIXELS), nodata=0)
    network = open_network(folder / "deep.onnx", job(folder, "auto"))
    empty = Trial(network, open_scene(str(tmp_path / "empty.tif"), None), (0.0,) * 3, (1.0,) * 3, device="cpu")
    margin = try_margins(empty, None)
    assert (margin.kind, margin.pixels) == (Kind.EXACT, 112)
    assert try_margins(empty, 16).difference == 0


def trial_of(place: Path, device: str, precision: str, factor: float = 0.02) -> Trial:
    asked = job(place, "none")
    network = open_network(Path(asked.model), asked)
    image = open_scene(asked.scenes[0], network.card.file_bands)
    return Trial(network, image, (100.0,) * 3, (factor,) * 3, device, precision)


def test_a_precision_is_held_against_fp32_on_pixels_of_the_scene(folder):
    assert try_agreement(trial_of(folder, "cpu", "fp32"), 288) == 1.0
    assert 0.99 <= try_agreement(trial_of(folder, "cpu", "fp16"), 288) < 1.0
    # what float16 does not hold is not finite, and agrees nowhere
    assert try_agreement(trial_of(folder, "cpu", "fp16", factor=1e5), 288) == 0.0


def test_where_no_pixel_is_valid_noise_is_compared(folder, tmp_path):
    save_scene(tmp_path / "scene.tif", np.zeros((3, 64, 64), np.uint8), nodata=0)
    shutil.copy(folder / "deep.onnx", tmp_path)
    assert 0.9 <= try_agreement(trial_of(tmp_path, "cpu", "fp16"), 288) <= 1.0


def test_too_little_agreement_is_an_error_that_names_it(folder):
    with pytest.raises(DeviceError, match=r"in fp16 and the CPU in fp32 agree on 0\.000% of .* take `precision: fp32`"):
        Tuner().agreement(trial_of(folder, "cpu", "fp16", factor=1e5), 288)
