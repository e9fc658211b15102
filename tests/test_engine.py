"""The engine: the same bytes for any batch, the device that was asked for, and sentences where neither can be had."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import BlockError, DeviceError, ModelError
from pipeline.grid import Stitch
from pipeline.network import providers
from pipeline.network.card import Card
from pipeline.network.engine import Engine, EngineOutOfMemory, agreement, largest_batch
from pipeline.network.field import field_of
from pipeline.network.fuse import fuse
from pipeline.network.host import Recipe

no_cuda = pytest.mark.skipif(providers.why_no_cuda() is None, reason="there is a GPU here")


def unet(width=8, classes=3, *, stubborn=False):
    """A small U-Net of one pooling; a stubborn one reshapes to a batch of 1."""
    random, tensors, nodes = np.random.default_rng(7), [], []

    def keep(name, array):
        tensors.append(numpy_helper.from_array(array, name))
        return name

    def add(operator, *inputs, **attributes):
        nodes.append(helper.make_node(operator, inputs, [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def conv(value, into, out, side=3):
        weights = (random.normal(size=(out, into, side, side)) * np.sqrt(2 / into) / side).astype(np.float32)
        return add("Conv", value, keep(f"w{len(nodes)}", weights), kernel_shape=[side] * 2, pads=[side // 2] * 4)

    if stubborn:
        kept = add("Reshape", "x", keep("flat", np.array([1, 3, -1])))
        kept = add("Reshape", kept, keep("shape", np.array([1, 3, 32, 32])))
    else:
        kept = "x"
    fine = add("Relu", conv(kept, 3, width))
    coarse = add("Relu", conv(add("MaxPool", fine, kernel_shape=[2, 2], strides=[2, 2]), width, 2 * width))
    scales = keep("scales", np.array([1, 1, 2, 2], np.float32))
    said = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    upper = add("Concat", add("Resize", coarse, "", scales, **said), fine, axis=1)
    value = conv(add("Relu", conv(upper, 3 * width, width)), width, classes, 1)
    shapes = [[None, 3, None, None], [None, classes, None, None]]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("x", value), shapes, strict=True)
    ]
    graph = helper.make_graph(nodes, "unet", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CARD = Card.of(
    {"name": "t", "bands": ["r", "g", "b"], "scaling": "none", "layout": "NCHW", "says": "logits"}
    | {"activation": "softmax", "classes": ["a", "b", "c"]},
    "the test",
)


def built(batch, window=32, device="cpu", model=None, **more):
    model = model or unet()
    recipe = Recipe(window, 4, batch, "uint8", **more)
    return Engine(fuse(model, CARD, recipe, field_of(model)), device)


def windows(count, side, seed=0):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 3, side, side), np.uint8)
    return pixels, random.random((count, side, side)) < 0.95, np.full(3, 100.0), np.full(3, 0.02)


@pytest.fixture(scope="module")
def engines():
    return {
        (stitch, batch): built(batch, stitch=stitch, confidence=True, probabilities=True)
        for stitch in Stitch
        for batch in (1, 2, 4)
    }


@given(st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("stitch", list(Stitch))
def test_a_batch_changes_no_byte(engines, stitch, count, seed):
    pixels, valid, *scaling = windows(count, 32, seed)
    one = engines[stitch, 1]
    alone = [one.run(pixels[[i]], valid[[i]], *scaling) for i in range(count)]
    for batch in (2, 4):
        for start in range(0, count, batch):
            part = slice(start, min(count, start + batch))
            together = engines[stitch, batch].run(pixels[part], valid[part], *scaling)
            for name, values in together.items():
                assert len(values) == part.stop - start
                assert values.tobytes() == b"".join(said[name].tobytes() for said in alone[part])


@given(st.permutations(range(4)), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_window_says_the_same_in_any_place_of_the_batch(engines, order, seed):
    pixels, valid, *scaling = windows(4, 32, seed)
    engine = engines[Stitch.BLEND, 4]
    straight, mixed = engine.run(pixels, valid, *scaling), engine.run(pixels[order], valid[order], *scaling)
    for name, values in straight.items():
        assert values[order].tobytes() == mixed[name].tobytes()


def test_too_many_windows_and_too_few_threads_are_refused(engines):
    with pytest.raises(ValueError, match="1 to 2 windows, not 3"):
        engines[Stitch.EXACT, 2].run(*windows(3, 32))
    with pytest.raises(ValueError, match="at least one thread"):
        Engine(b"", "cpu", threads=0)


def test_the_cpu_says_what_it_is(engines):
    engine = engines[Stitch.EXACT, 1]
    assert engine.provider == "CPUExecutionProvider"
    assert engine.fallback is None
    assert set(engine.nodes) == {"CPUExecutionProvider"}
    assert engine.nodes["CPUExecutionProvider"] > 8
    assert engine.numeric_class == f"cpu fp32 ort-{ort.__version__} {providers.instruction_set()}"
    assert (engine.batch, engine.bands, engine.window) == (1, 3, 32)
    recipe, model = Recipe(32, 4, 1, "uint8"), unet()
    assert Engine(fuse(model, CARD, recipe, field_of(model)), "cpu", 2).numeric_class.endswith(" threads-2")


@no_cuda
def test_cuda_that_is_not_there_is_an_error_and_auto_says_why(capfd):
    with pytest.raises(DeviceError, match=r"CUDA does not start: .*; (install|run)") as caught:
        built(1, device="cuda")
    engine = built(1, device="auto")
    assert engine.provider == "CPUExecutionProvider"
    assert engine.fallback == caught.value.message
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(providers.why_no_cuda() is not None, reason="there is no GPU here")
def test_cuda_runs_the_convolutions_and_agrees_with_the_cpu():
    batch = windows(2, 64)
    cpu, cuda = (built(2, 64, device, stitch=Stitch.BLEND) for device in ("cpu", "cuda"))
    assert cuda.provider == "CUDAExecutionProvider"
    assert cuda.numeric_class.startswith("cuda fp32")
    said = [engine.run(*batch)["probabilities"] for engine in (cpu, cuda)]
    assert (said[0].argmax(axis=1) == said[1].argmax(axis=1)).mean() >= 0.999
    assert np.abs(said[0] - said[1]).max() <= 2e-2


@pytest.mark.parametrize("stitch", list(Stitch))
def test_engines_agree_where_they_say_the_same(engines, stitch):
    model, recipe, batch = unet(), Recipe(32, 4, 2, "uint8", stitch), windows(2, 32)
    said = engines[stitch, 2].run(*batch)
    assert agreement(said, Engine(fuse(model, CARD, recipe, field_of(model)), "cpu", threads=2).run(*batch)) == 1.0
    other = Engine(fuse(unet(width=9), CARD, recipe, field_of(model)), "cpu").run(*batch)
    assert agreement(other, said) < 0.999
    lost = {name: values.copy() for name, values in said.items()}
    lost["finite"][1] = False
    assert agreement(lost, said) == 0.5
    assert agreement(said, lost) == 1.0


def test_what_is_no_network_is_a_sentence():
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network: .*protobuf"):
        Engine(b"nonsense", "cpu")


def test_a_network_that_refuses_a_batch_runs_with_one_and_says_so():
    engine, said = largest_batch(lambda batch: built(batch, model=unet(stubborn=True)), 3)
    assert engine.batch == 1
    assert said.startswith("The network refuses a batch of 3, so it runs with 1: ")
    engine, said = largest_batch(built, 3)
    assert (engine.batch, said) == (3, None)


def test_a_network_that_refuses_even_one_is_an_error():
    def hopeless(batch):
        return built(batch, 48, model=unet(stubborn=True))  # it reshapes to 32 × 32

    with pytest.raises((BlockError, ModelError)):
        largest_batch(hopeless, 2)


def test_memory_that_does_not_hold_a_batch_is_a_sentence_and_half_of_it_is_tried():
    script = """
        import psutil, resource
        from tests.test_engine import built, windows, EngineOutOfMemory, largest_batch
        engine = built(8, 1024)
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 700 * 2**20,) * 2)
        try:
            engine.run(*windows(8, 1024))
        except EngineOutOfMemory as error:
            print(error.message)
        del engine
        engine, said = largest_batch(lambda batch: built(batch, 1024), 8)
        print(engine.batch, said)
    """
    command, root = [sys.executable, "-c", textwrap.dedent(script)], Path(__file__).parents[1]
    done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True, timeout=120)
    assert "A batch of 8 windows of 1024 pixels does not fit into memory: halve the batch to 4." in done.stdout, done
    assert done.stdout.splitlines()[-1].startswith(("1 ", "2 ", "4 "))


def test_the_fused_nodes_cost_little():
    """The README states the share for the demo's network; here only that nothing has gone badly wrong."""
    model, side = unet(width=16), 256
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    bare = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = np.zeros((1, 3, side, side), np.float32)
    engine, batch = built(1, side, model=model), windows(1, side)
    both = [lambda: bare.run(None, {"x": image}), lambda: engine.run(*batch)]
    best = [min(timed(call) for _ in range(8)) for call in both]
    assert best[1] < 1.5 * best[0]


def timed(call):
    start = time.thread_time()
    call()
    return time.thread_time() - start


def test_out_of_memory_is_a_block_error_that_pickles():
    import pickle

    error = pickle.loads(pickle.dumps(EngineOutOfMemory("A batch of 4 does not fit.")))
    assert isinstance(error, BlockError)
    assert error.message == "A batch of 4 does not fit."


def test_a_graph_that_cannot_be_is_a_model_error():
    model = onnx.helper.make_model(
        helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "g", [], []), ir_version=8
    )
    with pytest.raises(ModelError, match="cannot run the network"):
        Engine(model.SerializeToString(), "cpu")


@pytest.mark.parametrize("stitch", list(Stitch))
def test_buffers_that_are_bound_change_no_byte(engines, stitch):
    model = unet()
    recipe = Recipe(32, 4, 4, "uint8", stitch, confidence=True, probabilities=True)
    bound = Engine(fuse(model, CARD, recipe, field_of(model)), "cpu", bound=True)
    kept = []
    for seed, count in enumerate((4, 1, 3, 2)):  # what a run leaves in its buffers must not show in the next
        batch = windows(count, 32, seed)
        kept.append((bound.run(*batch), engines[stitch, 4].run(*batch)))
    for ours, plain in kept:
        assert {name: values.tobytes() for name, values in ours.items()} == {
            name: values.tobytes() for name, values in plain.items()
        }
        assert all(values.shape == plain[name].shape for name, values in ours.items())


@pytest.mark.parametrize("bound", [False, True])
def test_windows_may_come_as_views_and_from_several_threads(bound):
    from concurrent.futures import ThreadPoolExecutor

    model = unet()
    engine = Engine(fuse(model, CARD, Recipe(32, 4, 4, "uint8"), field_of(model)), "cpu", bound=bound)
    batches = [windows(3, 32, seed) for seed in range(12)]
    alone = [engine.run(*batch)["classes"].tobytes() for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        views = [(list(pixels), list(valid), *rest) for pixels, valid, *rest in batches]
        assert [said["classes"].tobytes() for said in threads.map(lambda batch: engine.run(*batch), views)] == alone


@pytest.mark.parametrize("bound", [False, True])
def test_pixels_of_another_type_are_no_answer(bound):
    model = unet()
    engine = Engine(fuse(model, CARD, Recipe(32, 4, 1, "uint16"), field_of(model)), "cpu", bound=bound)
    with pytest.raises((BlockError, TypeError)):
        engine.run(*windows(1, 32))
