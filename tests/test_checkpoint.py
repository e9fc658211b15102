"""A checkpoint comes back as it was, and a damaged or foreign file is told from a whole one."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from models.architecture import Architecture  # noqa: E402
from models.checkpoint import Checkpoint, opened, put_sealed  # noqa: E402
from pipeline.errors import ModelError  # noqa: E402
from pipeline.network.card import Card  # noqa: E402

CARD = Card.of(
    {
        "name": "roofs",
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "mean_std", "mean": [1, 2, 3], "std": [0.1, 0.2, 0.3]},
        "classes": ["background", "roof"],
        "layout": "NCHW",
        "says": "logits",
        "activation": "sigmoid",
    },
    "the test",
)


def _checkpoint():
    torch.manual_seed(0)
    architecture = "unet?widths=2,3&norm=batch"
    weights = Architecture.of(architecture).build(3, 1).state_dict()
    return Checkpoint(architecture, CARD, dict(weights), 7, {"IoU roof": 0.5})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    _checkpoint().save(path)
    return path


def test_it_comes_back_as_it_was(written):
    was, now = _checkpoint(), Checkpoint.load(written)
    assert (now.architecture, now.card, now.epoch, now.scores) == (was.architecture, was.card, 7, {"IoU roof": 0.5})
    assert now.weights.keys() == was.weights.keys()
    assert all(torch.equal(now.weights[name], tensor) for name, tensor in was.weights.items())
    Architecture.of(now.architecture).build(3, 1).load_state_dict(now.weights)


def test_the_same_checkpoint_is_the_same_bytes_and_safetensors_reads_it(written, tmp_path):
    _checkpoint().save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == written.read_bytes()
    assert safetensors_torch.load_file(written).keys() == _checkpoint().weights.keys()
    assert list(tmp_path.iterdir()) == [tmp_path / "again.safetensors"]  # nothing half written is left


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_byte_that_changed_or_an_end_that_is_missing_is_refused(written, tmp_path, data):
    whole = written.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    torn = data.draw(st.booleans())
    changed = bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))])
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(whole[:place] if torn else whole[:place] + changed + whole[place + 1 :])
    with pytest.raises(ModelError, match="damaged"):
        Checkpoint.load(path)


def test_what_is_no_checkpoint_of_ours_is_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    safetensors_torch.save_file({"a": torch.zeros(2)}, foreign)
    with pytest.raises(ModelError, match="no word of maskmill's"):
        Checkpoint.load(foreign)
    put_sealed(foreign, "state", {"a": torch.zeros(2)}, {})
    with pytest.raises(ModelError, match="a state of format 1, and a checkpoint of format 1 is read"):
        Checkpoint.load(foreign)
    (tmp_path / "pickled.safetensors").write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        Checkpoint.load(tmp_path / "pickled.safetensors")
    with pytest.raises(ModelError, match="There is no file"):
        Checkpoint.load(tmp_path / "nothing.safetensors")
    put_sealed(foreign, "checkpoint", {"a": torch.zeros(2)}, {"architecture": "unet", "card": {}})
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        Checkpoint.load(foreign)


def test_any_type_and_shape_of_tensor_comes_back_beside_any_document(tmp_path):
    tensors = {
        "none": torch.zeros(0, 3),
        "one": torch.tensor(3),
        "shared": (grid := torch.arange(6).reshape(2, 3)),
        "turned": grid.T,
        "half": torch.ones(2, dtype=torch.bfloat16),
        "true": torch.tensor([True, False]),
    }
    said = {"numbers": [1, 2.5, None], "words": {"é": "ü"}, "large": 2**100}
    put_sealed(tmp_path / "state.safetensors", "state", tensors, said)
    back, document = opened(tmp_path / "state.safetensors", "state")
    assert json.loads(json.dumps(said)).items() <= document.items()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())
