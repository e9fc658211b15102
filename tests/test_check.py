"""`models check` shows all that is known of a model, whether it is enough or not, and runs one window where it is."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cards import network
from tests.images import noise, write_image
from tests.mill import last_json, maskmill, world, write_job


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")

    def go(*arguments, code=0):
        done = maskmill("models", "check", *arguments, "--device", "cpu", "--json", cwd=folder)
        assert done.returncode == code, done.stderr
        assert all(line.startswith("maskmill: ") for line in done.stderr.splitlines()), done.stderr
        return last_json(done), done.stderr

    world(folder)
    return go, folder


def _by_entry(found):
    return {row["entry"]: row for row in found["card"]}


def test_a_model_is_checked_on_noise_without_a_scene(check):
    go, folder = check
    before = sorted(folder.iterdir())
    found, said = go("net.onnx")
    assert not said
    assert found["problem"] is None
    rows = _by_entry(found)
    assert (rows["name"]["value"], rows["name"]["from"]) == ("colder", "net.yaml")
    assert rows["layout"]["from"] == "the graph"
    assert rows["threshold"]["from"] == "default"
    assert found["field"]["exact"]
    assert (found["field"]["stride"], found["field"]["reach"]) == (1, 0)
    assert (found["margin"]["pixels"], found["margin"]["computed_per_pixel"]) == (0, 1.0)
    assert found["output"]["classes"] == {"0": "red", "1": "blue"}
    assert found["ran"]["provider"] == "CPUExecutionProvider"
    assert found["ran"]["on"] == "noise"
    assert sum(found["ran"]["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert sorted(folder.iterdir()) == before, "nothing is written"


def test_a_model_is_checked_on_the_middle_of_a_scene_with_the_job_s_card(check):
    go, folder = check
    write_image(folder / "long.tif", noise(3, 2000, 40))
    card = {"fill": 3, "activation": "sigmoid", "classes": ["none", "red", "blue"]}
    write_job(folder, {"scenes": ["elsewhere.tif"], "model": "none", "out": "out", "card": card})
    found, _ = go("net.onnx", "long.tif", "--job", "job.yaml", "--bands", "3,2,1")
    rows = _by_entry(found)
    assert (rows["fill"]["value"], rows["fill"]["from"]) == (3, "the job's `card`")
    top, bottom = found["ran"]["rows"]
    assert top <= 1000 <= bottom
    assert found["ran"]["on"].endswith("long.tif")
    assert found["output"]["says"] == "logits, sigmoid"
    assert not (folder / "out").exists()


def test_what_is_missing_is_shown_with_its_line_and_all_the_rest_with_it(check):
    go, folder = check
    onnx.save(network(3, 2, last="Relu"), folder / "bare.onnx")
    found, said = go("bare.onnx", code=2)
    assert set(found["missing"]) == {"scaling", "classes", "says"}
    for entry, line in found["missing"].items():
        assert line.startswith(f"{entry}: ")
        assert f"`{line}`" in said
    rows = _by_entry(found)
    assert rows["says"]["value"] is None
    assert "missing" in rows["says"]["from"]
    assert rows["bands"]["from"].startswith("guessed")
    assert found["field"]["reach"] == 0
    assert found["output"]["shape"] == "(?, 2, ?, ?)"
    assert any("is a guess" in note for note in found["notes"])
    assert found["ran"] == {}
    shown = maskmill("models", "check", "bare.onnx", cwd=folder)
    assert shown.returncode == 2
    assert "missing: add `says: logits`" in shown.stdout
    assert "guess" in shown.stdout
    assert "[red, green, blue]" in shown.stdout


def test_the_node_that_unbounds_a_network_is_named_and_a_scene_that_does_not_fit_is_told(check):
    go, folder = check
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"], name="squeeze"),
        helper.make_node("Sub", ["image", "mean"], ["mask"]),
    ]
    image, mask = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, "h", "w"]) for name in ("image", "mask")
    )
    graph = helper.make_graph(nodes, "graph", [image], [mask])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "all.onnx")
    card = {"scaling": "none", "classes": ["a", "b"], "says": "logits", "activation": "softmax"}
    (folder / "all.yaml").write_text(json.dumps(card))
    found, _ = go("all.onnx")
    assert not found["field"]["bounded"]
    assert "squeeze" in found["field"]["unbounded_because"]
    assert found["margin"]["kind"] == "blend"
    assert found["margin"]["computed_per_pixel"] > 1
    found, said = go("all.onnx", "scene0.tif", "--bands", "1,2,3", code=2)
    assert "eats 2 bands" in said
    assert "squeeze" in found["field"]["unbounded_because"], "all the rest is shown"


def test_a_network_that_says_nan_is_told(check):
    go, folder = check
    weights = np.full((2, 3, 1, 1), np.nan, np.float32)
    onnx.save(network(3, 2, weights=weights), folder / "nan.onnx")
    (folder / "nan.yaml").write_text((folder / "net.yaml").read_text())
    found, said = go("nan.onnx", code=1)
    assert not found["ran"]["finite"]
    assert "NaN or infinity" in said
