"""A model's file: read whole with what lies beside it, refused in one sentence where it is not what it should be."""

import contextlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelError
from pipeline.network.digest import model_digest
from pipeline.network.model_file import LIMIT, find_model, load_model
from tests.cards import network

OTHERS = Path(__file__).parents[2] / "shared" / "data" / "models"


def _saved(path, model=None, **external):
    """Save a network; with `external`, its weights beside it."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model or network(3, 2))
    if external:
        external = {"save_as_external_data": True, "size_threshold": 0, "location": "weights.bin", **external}
    onnx.save(kept, path, **external)
    return path


def _with_location(path, **said):
    """Rewrite where a saved network says that its weights lie, and how many bytes they take."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data} | said
        del tensor.external_data[:]
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_is_read_as_it_was_saved(tmp_path):
    assert load_model(_saved(tmp_path / "a.onnx")) == network(3, 2)


def test_weights_beside_the_model_are_read_in(tmp_path):
    model = load_model(_saved(tmp_path / "a.onnx", all_tensors_to_one_file=True))
    (tmp_path / "weights.bin").unlink()  # what was loaded needs no file any more
    assert numpy_helper.to_array(model.graph.initializer[0]).shape == (2, 3, 1, 1)
    assert model_digest(model) == model_digest(network(3, 2))
    onnx.checker.check_model(model)


def test_weights_in_attributes_and_subgraphs_are_read_in(tmp_path):
    branches = {}
    for name, value in (("then_branch", 1.0), ("else_branch", 2.0)):
        constant = helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.full((2, 2), value, np.float32), "held")
        )
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2])
        branches[name] = helper.make_graph([constant], name, [], [out])
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["y"], **branches)],
        "g",
        [helper.make_tensor_value_info("which", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = load_model(_saved(tmp_path / "a.onnx", model, convert_attribute=True))
    assert model_digest(loaded) == model_digest(model)
    assert loaded.graph.node[0].attribute[0].g.node[0].attribute[0].t.raw_data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "hold no graph"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "page of HTML"),
        (b"\n  <html></html>", "page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(64), "PyTorch"),
        (b"hello, world", "is not an ONNX"),
        (bytes(1000), "is not an ONNX"),
    ],
)
def test_what_is_not_a_model_is_refused(tmp_path, content, words):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_model(tmp_path / "a.onnx")


@settings(max_examples=60)
@given(st.data())
def test_a_model_cut_short_is_refused(tmp_path_factory, data):
    path = _saved(tmp_path_factory.mktemp("cut") / "a.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ModelError):
        load_model(path)


@settings(max_examples=150)
@given(st.booleans(), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_model_is_read_or_refused(tmp_path_factory, beside, damage):
    path = tmp_path_factory.mktemp("damaged") / "a.onnx"
    _saved(path, **({"all_tensors_to_one_file": True} if beside else {}))
    content = bytearray(path.read_bytes())
    for place, byte in damage:
        content[place % len(content)] = byte
    path.write_bytes(content)
    with contextlib.suppress(ModelError):  # and nothing else
        model_digest(load_model(path))


def test_weights_that_do_not_fill_their_shape_are_refused(tmp_path):
    model = network(3, 2)
    model.graph.initializer[0].dims[0] = 1
    with pytest.raises(ModelError, match="is not a valid ONNX model: cannot reshape"):
        load_model(_saved(tmp_path / "a.onnx", model))


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_model_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load_model(path)


def test_a_graph_that_onnx_refuses_is_refused(tmp_path):
    model = network(3, 2)
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match=r"is not a valid ONNX model: .*nowhere") as caught:
        load_model(_saved(tmp_path / "a.onnx", model))
    assert "\n" not in str(caught.value)


def test_a_file_beyond_two_gib_is_refused_unread(tmp_path):
    path = tmp_path / "a.onnx"
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)  # a hole: it takes no room
    with pytest.raises(ModelError, match=r"takes 2.0 GiB"):
        load_model(path)


def test_weights_beyond_two_gib_are_refused_unread(tmp_path):
    path = _saved(tmp_path / "a.onnx", all_tensors_to_one_file=True)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[:] = [2, 2**30]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="more than 2 GiB"):
        load_model(path)


def test_missing_weights_are_named(tmp_path):
    path = _saved(tmp_path / "a.onnx", all_tensors_to_one_file=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"are missing: it names the file 'weights.bin'"):
        load_model(path)


@pytest.mark.parametrize("how", ["absolute", "above", "link", "linked folder", "folder", "pipe", "none"])
def test_weights_outside_the_folder_are_refused(tmp_path, how):
    (tmp_path / "model").mkdir()
    path = _saved(tmp_path / "model" / "a.onnx", all_tensors_to_one_file=True)
    inside, outside = tmp_path / "model" / "weights.bin", tmp_path / "secret.bin"
    inside.rename(outside)
    location = {
        "absolute": str(outside),
        "above": "../secret.bin",
        "linked folder": "up/secret.bin",
        "folder": ".",
        "none": "",
    }.get(how, "weights.bin")
    if how == "link":
        inside.symlink_to(outside)
    elif how == "linked folder":
        (tmp_path / "model" / "up").symlink_to(tmp_path)
    elif how == "pipe":
        os.mkfifo(inside)
    with pytest.raises(ModelError, match="no file inside the model's own folder"):
        load_model(_with_location(path, location=location))


def test_a_link_inside_the_folder_is_followed(tmp_path):
    path = _saved(tmp_path / "a.onnx", all_tensors_to_one_file=True)
    (tmp_path / "weights.bin").rename(tmp_path / "real.bin")
    (tmp_path / "weights.bin").symlink_to("real.bin")
    assert model_digest(load_model(path)) == model_digest(network(3, 2))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"offset": 8}, "was cut short"),
        ({"offset": 10_000}, "was cut short"),
        ({"offset": -1}, "cannot be read"),
        ({"length": 20}, "20 bytes from byte 0"),
        ({"length": "many"}, "cannot be read"),
        ({"location": "weights.bin\0"}, "cannot be read"),
    ],
)
def test_weights_of_another_length_are_refused(tmp_path, said, words):
    path = _saved(tmp_path / "a.onnx", all_tensors_to_one_file=True)
    with pytest.raises(ModelError, match=words):
        load_model(_with_location(path, **said))


def test_weights_of_a_circle_of_links_are_refused(tmp_path):
    path = _saved(tmp_path / "a.onnx", all_tensors_to_one_file=True)
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "weights.bin").symlink_to("weights.bin")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(path)


def test_a_model_is_found_by_file_or_folder(tmp_path):
    with pytest.raises(ModelError, match=r"holds 0 .onnx files"):
        find_model(tmp_path)
    path = _saved(tmp_path / "a.onnx")
    assert find_model(str(path)) == find_model(tmp_path) == path
    _saved(tmp_path / "b.onnx")
    with pytest.raises(ModelError, match=r"holds 2 .onnx files \(a.onnx, b.onnx\)"):
        find_model(tmp_path)
    with pytest.raises(ModelError, match="There is no model at"):
        find_model(tmp_path / "c.onnx")


def test_an_unreadable_path_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        load_model(tmp_path)


@pytest.mark.skipif(not OTHERS.is_dir(), reason="the models made by others are not here")
def test_models_of_others_load():
    digests = {path: model_digest(load_model(path)) for path in sorted(OTHERS.rglob("*.onnx"))}
    assert len(set(digests.values())) == len(digests)
