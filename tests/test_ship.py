"""A checkpoint becomes one file that says what torch says, or no file at all."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

from models import export  # noqa: E402
from models import ship as shipping  # noqa: E402
from models.architecture import Architecture  # noqa: E402
from models.checkpoint import Checkpoint  # noqa: E402
from models.ship import KEY, ship  # noqa: E402
from pipeline.errors import ModelError, SettingsError  # noqa: E402
from pipeline.network.card import Card  # noqa: E402
from pipeline.network.field import field_of  # noqa: E402
from pipeline.network.model_file import load_model  # noqa: E402
from pipeline.network.resolve import resolve_card  # noqa: E402
from tests.oracle import save_scene  # noqa: E402

pytestmark = pytest.mark.slow
ARCHITECTURE = "unet?widths=6,12&norm=batch"
CARD = {
    "name": "made",
    "bands": ["red", "green", "blue"],
    "dtype": "uint8",
    "scaling": {"kind": "constant", "divide_by": 255},
    "classes": ["a", "b", "c"],
    "layout": "NCHW",
    "says": "logits",
    "activation": "softmax",
    "window": 64,
}
SIGMOID = {"classes": ["none", "roof"], "activation": "sigmoid", "threshold": 0.4}


def checkpoint(path, card=CARD, weights=None):
    torch.manual_seed(1)
    made = Card.of(card, "test")
    network = Architecture.of(ARCHITECTURE).build(3, made.channels)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(4, 3, 32, 32))
    state = dict(network.state_dict()) | (weights or {})
    Checkpoint(ARCHITECTURE, made, state, 3, {"IoU b": 0.5}).save(path)
    return network.eval()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 150, 100), np.uint8)
    return save_scene(tmp_path_factory.mktemp("image") / "field.tif", pixels)


@pytest.mark.parametrize("changed", [{}, SIGMOID])
def test_the_file_holds_the_card_and_answers_in_probabilities(tmp_path, image, changed):
    network = checkpoint(tmp_path / "a.safetensors", CARD | changed)
    found = ship(tmp_path / "a.safetensors", tmp_path / "a.onnx", image)
    model = load_model(tmp_path / "a.onnx")
    card = resolve_card(model, tmp_path / "elsewhere.onnx")
    assert card == Card.of(CARD | changed | {"says": "probabilities", "scores": {"IoU b": 0.5}}, "test") == found.card
    pixels = np.random.default_rng(1).random((2, 3, 36, 44), np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels))
    expected = (logits.sigmoid() if changed else logits.softmax(1)).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": pixels})[0], expected, atol=1e-5)
    told, field = found.as_dict(), field_of(model)
    assert (told["opset"], told["input"]) == (model.opset_import[0].version, ["open", 3, "open", "open"])
    assert (told["stride"], told["reach"]) == (field.stride, field.reach)
    assert [one["on"] for one in told["parity"]] == ["noise", "field"]
    assert all(one["worst"] < 1e-5 for one in told["parity"])
    kept = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(kept[KEY])["parity"] == told["parity"]


def test_with_a_side_the_file_is_one_that_qgis_opens(tmp_path):
    checkpoint(tmp_path / "a.safetensors")
    found = ship(tmp_path / "a.safetensors", tmp_path / "a.onnx", side=128)
    model = load_model(tmp_path / "a.onnx")
    sides = [
        [side.dim_value for side in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    ]
    assert sides == [[0, 3, 128, 128], [0, 3, 128, 128]]
    kept = {entry.key: entry.value for entry in model.metadata_props}
    assert (json.loads(kept["model_type"]), json.loads(kept["tile_size"])) == ("Segmentor", 128)
    assert json.loads(kept["class_names"]) == {"0": "a", "1": "b", "2": "c"}
    assert resolve_card(model, tmp_path / "elsewhere.onnx").window == 128
    assert not any("QGIS" in note for note in found.notes)
    with pytest.raises(ModelError, match="multiple of its stride, 2"):
        ship(tmp_path / "a.safetensors", tmp_path / "b.onnx", side=127)


def test_float16_is_half_the_size_and_takes_float32(tmp_path, image):
    checkpoint(tmp_path / "a.safetensors")
    whole = ship(tmp_path / "a.safetensors", tmp_path / "a.onnx", image).as_dict()
    half = ship(tmp_path / "a.safetensors", tmp_path / "h.onnx", image, half=True)
    model = load_model(tmp_path / "h.onnx")
    weights = [each for each in model.graph.initializer if len(each.dims) == 4]
    assert {each.data_type for each in weights} == {onnx.TensorProto.FLOAT16}
    ends = {port.type.tensor_type.elem_type for port in (*model.graph.input, *model.graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    assert half.as_dict()["bytes"] < 0.75 * whole["bytes"]
    assert half.parity[-1].on == "field, float16"
    assert 1e-6 < half.parity[-1].worst < 0.02
    assert (half.field.stride, half.field.reach) == (whole["stride"], whole["reach"])


def test_float16_that_says_something_else_is_refused(tmp_path):
    # Beyond float16's range all are its last number, and none is the largest any more.
    large = {"head.weight": torch.zeros(3, 6, 1, 1), "head.bias": torch.tensor([70_000.0, 70_001.0, 70_002.0])}
    checkpoint(tmp_path / "a.safetensors", weights=large)
    with pytest.raises(ModelError, match="agrees with itself on"):
        ship(tmp_path / "a.safetensors", tmp_path / "h.onnx", half=True)
    assert not (tmp_path / "h.onnx").exists()


def test_a_graph_that_says_something_else_leaves_no_file(tmp_path, monkeypatch):
    checkpoint(tmp_path / "a.safetensors")

    def wrong(*given):
        graph = export.exported(*given)
        bias = next(each for each in graph.model.graph.initializer if each.name.endswith("head.bias"))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32([1, 0, 0]), bias.name))
        return graph

    monkeypatch.setattr(shipping, "exported", wrong)
    with pytest.raises(ModelError, match=r"from torch's; at most 0\.0001 is allowed"):
        ship(tmp_path / "a.safetensors", tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_cannot_be_exported_is_named(tmp_path, image):
    checkpoint(tmp_path / "a.safetensors", weights={"head.bias": torch.zeros(7)})
    with pytest.raises(ModelError, match=r"are not those of unet.*head\.bias"):
        ship(tmp_path / "a.safetensors", tmp_path / "a.onnx")
    with pytest.raises(SettingsError, match=r"ends in \.onnx"):
        ship(tmp_path / "a.safetensors", tmp_path / "a.pt")


class _Objects(torch.nn.Module):
    def forward(self, pixels):
        return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)} for _ in pixels]


class _Smaller(torch.nn.Module):
    def forward(self, pixels):
        return pixels[..., ::2, ::2]


@pytest.mark.parametrize(
    ("network", "why"), [(_Objects(), "boxes, labels, scores: it finds objects"), (_Smaller(), "has the image's batch")]
)
def test_what_answers_with_no_raster_is_refused(network, why):
    with pytest.raises(ModelError, match=why):
        export.exported(network, 3)


def test_the_command_writes_the_file_and_says_so(warm, tmp_path, image):
    checkpoint(tmp_path / "a.safetensors")
    done = warm.run("export", "a.safetensors", "--out", "a.onnx", "--on", str(image), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["bytes"] == (tmp_path / "a.onnx").stat().st_size
    assert done.stderr == ""
    gone = warm.run("export", "none.safetensors", "--out", "b.onnx", "--json", cwd=tmp_path)
    assert gone.returncode == 2
    assert json.loads(gone.stdout.splitlines()[-1])["error"] == "There is no file none.safetensors."
    assert not (tmp_path / "b.onnx").exists()
