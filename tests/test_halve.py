"""A network in float16: the same outputs, finite, and nearly the same classes; what is around it stays in float32."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import DeviceError
from pipeline.grid import Stitch
from pipeline.network.engine import Engine
from pipeline.network.field import field_of
from pipeline.network.fuse import fuse
from pipeline.network.halve import halved
from pipeline.network.host import Recipe, precision_of
from pipeline.network.relax import relaxed
from pipeline.network.rule import unit
from pipeline.settings import Job
from pipeline.settle import open_network
from pipeline.work import build_engine
from tests.oracle import save_model, small_card, small_unet
from tests.test_engine import CARD, unet, windows
from tests.tiny import drawn_windows, engine_of, networks, recipes


@given(networks(), st.sampled_from(list(Stitch)).flatmap(recipes), st.integers(0, 99))
@settings(max_examples=30)
def test_any_network_says_the_same_to_rounding(drawn, recipe, seed):
    from dataclasses import replace

    network, card = drawn
    batch = drawn_windows(recipe, network.bands, seed)
    single = engine_of(network.model(), card, recipe).run(*batch)
    half = engine_of(network.model(), card, replace(recipe, precision="fp16")).run(*batch)
    assert {name: (values.shape, values.dtype) for name, values in half.items()} == {
        name: (values.shape, values.dtype) for name, values in single.items()
    }
    assert (half["finite"] == single["finite"]).all()
    if recipe.stitch is Stitch.BLEND:
        answers = [said[card.answer] for said in (single, half)]
        assert np.abs(answers[0] - answers[1]).max() <= 2e-2 * unit(answers, card)


@pytest.mark.parametrize("opset", [10, 13, 17])
def test_a_network_that_resizes_agrees(opset):
    model = unet(width=16)
    model.opset_import[0].version = opset
    if opset == 10:
        resize = next(node for node in model.graph.node if node.op_type == "Resize")
        del resize.input[1]
        del resize.attribute[:]
        resize.attribute.append(helper.make_attribute("mode", "nearest"))
    batch, said = windows(2, 128), {}
    for precision in ("fp32", "fp16"):
        recipe = Recipe(128, 4, 2, "uint8", confidence=True, probabilities=True, precision=precision)
        said[precision] = Engine(fuse(model, CARD, recipe, field_of(model)), "cpu").run(*batch)
    assert said["fp16"]["finite"].all()
    assert (said["fp32"]["classes"] == said["fp16"]["classes"]).mean() >= 0.99
    for product in ("confidence", "probabilities"):
        apart = said["fp32"][product].astype(int) - said["fp16"][product]
        assert np.abs(apart).max() <= 5  # of 250 steps


def test_only_the_network_is_halved_and_the_graph_stays_in_order():
    model = unet()
    fused = onnx.load_from_string(fuse(model, CARD, Recipe(32, 4, 1, "uint8", precision="fp16"), field_of(model)))
    onnx.checker.check_model(fused, full_check=True)
    assert precision_of(fused) == "fp16"
    kinds = {port.name: port.type.tensor_type.elem_type for port in (*fused.graph.input, *fused.graph.output)}
    assert kinds["maskmill/shift"] == kinds["maskmill/factor"] == TensorProto.FLOAT
    assert next(prop.value for prop in fused.metadata_props if prop.key == "precision") == "fp32-as-fp16"
    engine = Engine(fused.SerializeToString(), "cpu")
    assert engine.numeric_class.startswith("cpu fp32-as-fp16 ")
    assert precision_of(model) == "fp32"  # the model itself is left alone


def test_casts_come_after_what_they_cast():
    """Min is left in float32: the converter appends its casts after all other nodes."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[1, 1]),
        helper.make_node("Min", ["a", "most"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["y"], kernel_shape=[1, 1]),
    ]
    weights = [
        numpy_helper.from_array(np.eye(3, dtype=np.float32)[..., None, None], "w"),
        numpy_helper.from_array(np.float32(0.5), "most"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 16, 16]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    made = halved(relaxed(model, 16, 16, 1))
    onnx.checker.check_model(made, full_check=True)
    assert [node.op_type for node in made.graph.node].count("Cast") >= 2


def test_what_float16_does_not_hold_is_not_finite():
    """Scaled pixels beyond 65504 become infinite on the way in: the block fails, and its mask is not made of it."""
    model = unet()
    engine = Engine(fuse(model, CARD, Recipe(32, 4, 1, "uint8", precision="fp16"), field_of(model)), "cpu")
    pixels, valid, _, _ = windows(1, 32)
    said = engine.run(pixels, valid, np.zeros(3, np.float32), np.full(3, 1e4, np.float32))
    assert not said["finite"].any()


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_the_cpu_refuses_what_is_for_gpus(tmp_path, precision):
    path = save_model(tmp_path / "net.onnx", small_unet(), small_card())
    network = open_network(path, Job(scenes=("scene.tif",), model=str(path), out=tmp_path))
    with pytest.raises(DeviceError, match=rf"`precision: {precision}` is for GPUs, .* take fp32"):
        build_engine(network, Recipe(64, 16, 1, "uint8", precision=precision), "cpu")
