"""A block where memory is short: the same bytes by smaller windows, or a sentence with the numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.child import Child, limit
from pipeline.errors import RoomError
from pipeline.lay import narrower
from pipeline.settings import Job
from pipeline.work import do_block
from tests.oracle import noise, opened, run_here, save_model, save_scene, tree

WIDE = 96  # channels: 384 bytes for each pixel of a window


def wide_network() -> onnx.ModelProto:
    """Two convolutions with a wide map between them: it takes memory by the window, and little time."""
    rng = np.random.default_rng(0)
    weights = {"w1": rng.normal(0, 0.3, (WIDE, 3, 3, 3)), "w2": rng.normal(0, 0.3, (3, WIDE, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"], kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("work")
    save_model(place / "model.onnx", wide_network())
    save_scene(place / "scene.tif", noise(1500, 1024))
    return place


def _job(folder, out, **said):
    given = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "out": folder / out}
    return Job(**{**given, "device": "cpu", "block": 1024, "window": 1026, **said})


def _in_little_memory(plan, block, room):
    """Do a block in a process that may have so many bytes more than it has with its imports."""
    with Child() as child:
        child.warm("pipeline.work", "rasterio", "zarr")
        child.ask(limit, room, 600)
        return child.ask(do_block, plan, block, 1)


def test_windows_that_memory_does_not_hold_are_made_smaller_and_the_bytes_are_the_same(folder):
    run_here(_job(folder, "plenty"))
    with opened(_job(folder, "little", batch=2)) as run:
        records = [_in_little_memory(run.plan, block, 330 << 20) for block in run.todo]
        for record in records:
            run.take(record)
        report = run.finish(lambda *_: None)
    assert {record.held for record in records} <= {(512, 1), (256, 1)}
    (less,) = report["memory"]["held_less"]
    assert less == {"core": records[0].held[0], "batch": 1, "blocks": 2}
    window = less["core"] + 2
    assert f"2 of 2 blocks were done with windows of {window} px, 1 at once." in " ".join(report["notes"])
    assert tree(folder / "little/scene/mask.zarr") == tree(folder / "plenty/scene/mask.zarr")


def test_windows_that_are_blended_are_not_made_smaller(folder):
    with opened(_job(folder, "blended", margin="blend", block=None)) as run:
        outcome = _in_little_memory(run.plan, 0, 330 << 20)
    assert isinstance(outcome, RoomError)
    assert "does not hold one window of 1026 px: this process had" in outcome.message
    assert "Smaller ones would change pixels" in outcome.message


def test_a_memory_that_holds_not_even_the_least_window_is_a_sentence(folder):
    with opened(_job(folder, "least")) as run:
        plan, least = run.plan, run.plan
        while less := narrower(least):
            least = less
        outcome = _in_little_memory(plan, 0, 2 << 20)
    assert isinstance(outcome, Exception), outcome
    assert "memory" in outcome.message.lower(), outcome
    assert least.grid.window < 40
