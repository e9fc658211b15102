"""The exported graph says what torch says, at sides the exporter never saw, and carries no trace of the machine."""

import numpy as np
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from models import earth_water  # noqa: E402
from models.export import exported, noise, spoken  # noqa: E402
from models.parity import compared, speaker  # noqa: E402
from models.unet import UNet  # noqa: E402
from pipeline.errors import ModelError  # noqa: E402
from pipeline.network.card import Card  # noqa: E402
from pipeline.network.field import field_of  # noqa: E402
from pipeline.network.mlm import embed  # noqa: E402
from pipeline.network.resolve import resolve_card  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    made = UNet(3, 3, (4, 8, 8), "batch", "nearest")
    made.train()
    with torch.no_grad():
        for _ in range(3):  # so that batch norm has seen something
            made(torch.randn(4, 3, 32, 32))
    return made.eval()


@pytest.fixture(scope="module")
def model(network):
    made = exported(network, 3)
    assert made.fixed is None
    return made.model


def parity(network, model):
    return compared(spoken(network), speaker(model), noise(model, 3, network.stride), "noise")


@pytest.mark.parametrize("sides", [(1, 16, 16), (2, 4, 64), (5, 20, 12)])
def test_onnx_runtime_says_what_torch_says(network, model, sides):
    import onnxruntime

    count, rows, cols = sides
    pixels = np.random.default_rng(rows).normal(size=(count, 3, rows, cols)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": pixels})[0], expected, atol=1e-4)


def test_a_graph_that_says_something_else_is_refused_with_the_difference(network, model):
    other = type(model)()
    other.CopyFrom(model)
    head = next(each for each in other.graph.initializer if each.name == "head.bias")
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) + np.float32([0.5, 0, 0]), head.name))
    found = parity(network, other)
    assert 0 < found.flips < found.pixels
    with pytest.raises(ModelError, match=rf"0\.\d+ from torch's; at most 0\.0001 is allowed\. {found.flips} of"):
        found.demand()


def test_all_sides_but_the_channels_are_open_and_named(model):
    port = model.graph.input[0]
    assert port.name == "image"
    assert [side.dim_param or side.dim_value for side in port.type.tensor_type.shape.dim] == ["n", 3, "rows", "cols"]


def test_sides_are_doubled_by_constant_scales(model):
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    doublings = [node for node in model.graph.node if node.op_type == "Resize"]
    assert len(doublings) == 2
    for node in doublings:
        assert len(node.input) == 3  # sizes would be the fourth
        np.testing.assert_array_equal(constants[node.input[2]], [1, 1, 2, 2])
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "MaxPool", "Resize", "Concat"}


def test_no_word_of_the_machine_is_left(model):
    written = model.SerializeToString()
    assert b"/" + b"models/unet.py" not in written
    assert b"site-packages" not in written


def test_the_card_travels_in_the_file(model, tmp_path):
    card = earth_water.card({"IoU sea": 0.5})
    assert isinstance(card, Card)
    assert resolve_card(embed(model, card), tmp_path / "file.onnx", None) == card


def test_a_pixel_changes_nothing_beyond_the_reach_that_is_read_off_the_graph(network, model):
    field = field_of(model)
    assert field.bounded
    assert field.inexact is None
    assert field.stride == network.stride
    side, middle = 96, 48
    touched = torch.zeros(field.stride, 3, side, side)
    for place in range(field.stride):  # each place within a stride has a reach of its own
        touched[place, :, middle + place, middle + place] = 1e6
    with torch.no_grad():
        changed = (network(touched) != network(torch.zeros_like(touched))).any(1)
    far = max(int((torch.nonzero(each) - middle - place).abs().max()) for place, each in enumerate(changed))
    assert field.stride < far <= field.reach


def test_an_answer_that_is_not_finite_is_refused(network, model):
    other = type(model)()
    other.CopyFrom(model)
    head = next(each for each in other.graph.initializer if each.name == "head.bias")
    head.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), head.name))
    with pytest.raises(ModelError, match="nan from torch's"):
        parity(network, other).demand()
