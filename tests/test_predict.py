"""Blocks of drawn networks, over drawn scenes and grids, are one pass over the whole image: no pixel differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pipeline.lay import lay_grid, stated_margin
from pipeline.network.card import Card
from pipeline.network.field import layout_of
from pipeline.network.mlm import embed
from pipeline.network.rule import classes_of
from pipeline.plan import Choices, Plan, identity_of, products_of, recipe_of
from pipeline.predict import Stopwatch, predict_block
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from pipeline.settle import open_network
from pipeline.work import bench, build_engine, close_bench
from tests.oracle import noise, save_scene
from tests.passes import Runner, bands_of, padded
from tests.strategies import bounded_networks


def card_of(model: onnx.ModelProto, classes: int) -> Card:
    said = {
        "name": "drawn",
        "bands": [f"band {number}" for number in range(1, bands_of(model) + 1)],
        "scaling": {"kind": "constant", "divide_by": 255},
        "classes": [f"class {number}" for number in range(classes)],
        "layout": layout_of(model),
        "says": "logits",
        "activation": "softmax",
    }
    return Card.of(said, "the drawn card")


def plan_of(folder: Path, window_less_margins: int, cores: int, extra: int) -> Plan:
    """A plan as `settle` makes it, without the probe in a child process."""
    asked = Job(scenes=(str(folder / "scene.tif"),), model=str(folder / "model.onnx"), out=folder / "out")
    network = open_network(folder / "model.onnx", asked)
    stride = network.field.stride
    core = -(-window_less_margins // stride) * stride
    margin = network.field.margin + extra * stride
    sides = {"margin": margin, "window": core + 2 * margin, "block": core * cores}
    asked = asked.model_copy(update=sides)
    scene = open_scene(str(folder / "scene.tif"), network.card.file_bands)
    stated = stated_margin(asked, network)
    grid = lay_grid(asked, network, scene, stated)
    recipe = recipe_of(grid, scene, asked, 1)
    shift, factor = (tuple(map(float, numbers)) for numbers in network.card.affine(None))
    numeric_class = build_engine(network, recipe, "cpu").numeric_class
    choices = Choices(grid.core, grid.block, stated, shift, factor, "cpu", numeric_class)
    identity = identity_of(asked, network, scene, choices)
    return Plan(scene, network, grid, stated, recipe, choices, products_of(asked, network.card), identity, str(folder))


def one_pass(model: onnx.ModelProto, pixels: np.ndarray, plan: Plan) -> np.ndarray:
    """Logits over the whole image at once, padded by reflection to a multiple of the stride and of 16 coarsest px."""
    stride, margin = plan.grid.stride, plan.network.field.margin
    rows, cols = pixels.shape[1:]
    around = [-(-(side + 2 * margin) // stride) * stride + 16 * stride for side in (rows, cols)]
    shift, factor = (
        np.array(numbers, np.float32)[:, None, None] for numbers in (plan.choices.shift, plan.choices.factor)
    )
    scaled = (pixels.astype(np.float32) - shift) * factor
    said = Runner(model)(padded(scaled, -margin, -margin, *around))
    return said[:, margin : margin + rows, margin : margin + cols]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=bounded_networks(same=True, classes=3),
    rows=st.integers(1, 90),
    cols=st.integers(1, 90),
    core=st.integers(1, 50),
    cores=st.integers(1, 3),
    extra=st.integers(0, 2),
    seed=st.integers(0, 9),
)
def test_blocks_are_one_pass(tmp_path, drawn, rows, cols, core, cores, extra, seed):
    model, description = drawn
    note(description)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    pixels = noise(rows, cols, seed, bands_of(model))
    save_scene(tmp_path / "scene.tif", pixels)
    onnx.save(embed(model, card_of(model, 3)), tmp_path / "model.onnx")
    # A coarsest map of 16 px at least: below that ONNX Runtime sums in another order.
    plan = plan_of(tmp_path, max(core, 16 * stride_of(tmp_path)), cores, extra)
    mask = np.full((rows, cols), 255, np.uint8)
    for block in range(len(plan.grid)):
        owned = plan.grid.owned(block)
        mask[owned.slices()] = predict_block(bench(plan), block, Stopwatch()).rasters["mask"]
    close_bench()
    expected = classes_of(one_pass(model, pixels, plan), plan.network.card, "logits")
    assert np.array_equal(mask, expected)


def stride_of(folder: Path) -> int:
    asked = Job(scenes=("x",), model="x", out=folder)
    return open_network(folder / "model.onnx", asked).field.stride
