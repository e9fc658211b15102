"""What a hostile and a clumsy user give: one clear sentence each, and nothing left behind."""

import json
import os
import shutil
import struct

import numpy as np
import onnx
import pytest
import rasterio
from PIL import Image

from pipeline.network.mlm import embed
from tests.oracle import noise, read_mask, save_model, save_scene, small_card, small_unet


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder of good and bad files; whatever else a test finds in it was left behind."""
    folder = tmp_path_factory.mktemp("shop")
    good = save_scene(folder / "good.tif", noise(200, 300)).read_bytes()
    for name, content in {
        "text.tif": b"hello",
        "empty.tif": b"",
        "header.tif": good[:60],
        "noise.tif": good[:8] + np.random.default_rng(0).bytes(1000),
        "zero.tif": _no_pixels(),
        "half.tif": good[: len(good) // 2],
        "page.onnx": b"<html>Not found</html>",
        "empty.onnx": b"",
    }.items():
        (folder / name).write_bytes(content)
    save_scene(folder / "complex.tif", np.zeros((3, 80, 80), np.complex64))
    save_scene(folder / "int64.tif", np.zeros((3, 80, 80), np.int64))
    save_scene(folder / "grey.tif", noise(80, 80, bands=1))
    _pictures(folder)
    _models(folder)
    for name in ("nothing", "two", "other"):
        (folder / name).mkdir()
    shutil.copy(folder / "good.tif", folder / "other/good.tif")
    shutil.copy(folder / "good.tif", folder / ".hidden.tif")
    shutil.copy(folder / "good.tif", folder / f"{'n' * 240}.tif")
    for name in "ab":
        shutil.copy(folder / "good.onnx", folder / f"two/{name}.onnx")
    return folder


def _no_pixels():
    """A TIFF of width and height 0."""
    tags = [(256, 3, 1, 0), (257, 3, 1, 0), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


def _pictures(folder):
    Image.fromarray(noise(100, 100).transpose(1, 2, 0)).save(folder / "whole.png")
    Image.fromarray(noise(100, 100).transpose(1, 2, 0)).save(folder / "picture.gif")
    Image.fromarray(noise(2100, 2100).transpose(1, 2, 0)).save(folder / "whole.jpg")
    for name in ("png", "jpg"):
        content = (folder / f"whole.{name}").read_bytes()
        (folder / f"cut.{name}").write_bytes(content[: len(content) // 2])
    vast = {"width": 10**6, "height": 10**6, "count": 3, "dtype": "uint8", "sparse_ok": True, "bigtiff": "yes"}
    with rasterio.open(folder / "vast.tif", "w", driver="GTiff", tiled=True, blockxsize=4096, blockysize=4096, **vast):
        pass


def _models(folder):
    save_model(folder / "good.onnx", small_unet())
    save_model(folder / "mixing.onnx", small_unet(pooled=True))
    save_model(folder / "uint16.onnx", small_unet(), small_card().model_copy(update={"dtype": "uint16"}))
    onnx.save(small_unet(), folder / "cardless.onnx")
    content = (folder / "good.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(content[: len(content) // 2])
    for name, location in (("missing", "gone.bin"), ("outside", "../outside.bin"), ("absolute", "/etc/passwd")):
        _with_weights_at(folder / f"{name}.onnx", location)
    (folder / "../outside.bin").write_bytes(bytes(100_000))


def _with_weights_at(path, location):
    model = embed(small_unet(), small_card())
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())


def refused(warm, shop, tmp_path, *arguments):
    """Run a command that must not start; returns its one sentence."""
    before = _files(shop)
    done = warm.run(*arguments, cwd=shop, TMPDIR=tmp_path, HOME=tmp_path)
    (sentence,) = done.stderr.splitlines()
    assert done.returncode == 2, sentence
    assert sentence.startswith("maskmill: ")
    assert sentence.endswith((".", "?", "…"))
    assert _files(shop) == before
    assert not list(tmp_path.iterdir())
    assert not done.left
    if "--json" in arguments:
        said = json.loads(done.stdout.splitlines()[-1])
        assert said["exit_code"] == 2
        assert sentence in (f"maskmill: {said['error']}" if "error" in said else sentence)
    return sentence


def _files(shop):
    """What lies in the shop, but for the logs, of which every minute that a command is started in has one."""
    return sorted(path for path in shop.rglob("*") if path.parent.name != "logs")


def run_of(scene, *flags, model="good.onnx", out="out"):
    return ("run", "--model", model, "--out", out, "--device", "cpu", *flags, "--json", "--", scene)


SCENES = {
    "nowhere.tif": "'nowhere.tif' does not exist",
    "nothing": "There is no scene in nothing: check it, or say it in a job file as a mapping if it may be empty",
    "": "A scene cannot be called ''",
    "/dev/zero": "'/dev/zero' is not a file",
    "~": "'~' does not exist",
    f"{'n' * 300}.tif": "1 to 200 of the characters",
    "-": "'-' does not exist",
    "a\nb.tif": r"'a\nb.tif' does not exist",
    "no*.such": "No file matches no*.such",
    "[n]" * 100: "No file matches",
    "ftp://me:hush@host/a.tif": "ftp://me:***@host/a.tif is an address of a kind that is not read",
    "http://me:hush@127.0.0.1:1/a.tif?sig=hush": "http://me:***@127.0.0.1:1/a.tif?*** cannot be reached",
    "/vsimem/a.tif": "is an address of a kind that is not read",
    "text.tif": "not an image that can be read here",
    "picture.gif": "not an image that can be read here",
    "empty.tif": "empty file (0 bytes)",
    "header.tif": "may be cut short",
    "noise.tif": "cannot be opened",
    "zero.tif": "cannot be opened",
    "complex.tif": "holds complex numbers",
    "int64.tif": "holds int64",
    "cut.png": "is a PNG that is cut short",
    "grey.tif": "There is no band 2",
    ".hidden.tif": "no leading dot",
    f"{'n' * 240}.tif": "1 to 200 of the characters",
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_bad_scene_is_refused(warm, shop, tmp_path, scene):
    assert SCENES[scene] in refused(warm, shop, tmp_path, *run_of(scene))


MODELS = {
    "nowhere.onnx": "There is no model at nowhere.onnx",
    "nobody": "neither a file nor a folder nor a name in the zoo",
    "m" * 300: "neither a file nor a folder",
    "": "`model` cannot be ''",
    "page.onnx": "a page of HTML",
    "empty.onnx": "0 bytes hold no graph",
    "cut.onnx": "not an ONNX file, or it was cut short",
    "good.tif": "not an ONNX file",
    "nothing": "holds 0 .onnx files",
    "two": "holds 2 .onnx files (a.onnx, b.onnx)",
    "missing.onnx": "are missing: it names the file 'gone.bin'",
    "outside.onnx": "no file inside the model's own folder",
    "absolute.onnx": "no file inside the model's own folder",
    "cardless.onnx": "does not say `scaling`, `classes`",
    "uint16.onnx": "its pixels are uint8, and the model was made for uint16",
}


@pytest.mark.parametrize("model", MODELS)
def test_a_bad_model_is_refused(warm, shop, tmp_path, model):
    assert MODELS[model] in refused(warm, shop, tmp_path, *run_of("good.tif", model=model))


FLAGS = [
    (("--bands", "9,1,2"), "There is no band 9"),
    (("--bands", "1,2"), "eats 3 bands (red, green, blue) and 2 are chosen (1, 2)"),
    (("--bands", "1,1,1,1"), "4 are chosen"),
    (("--bands", "0,1,2"), "`bands` cannot be 0"),
    (("--window", "0"), "`window` cannot be 0"),
    (("--window", "13"), "cannot be 13 px"),
    (("--window", "1000000"), "may be taken. Take a smaller --window"),
    (("--batch", "100000"), "100000 windows of 524 px"),
    (("--margin", "100000"), "may be taken"),
    (("--margin", "-3"), "`margin` cannot be '-3'"),
    (("--block", "100"), "a whole number of cores of 512: take 512 or 1024"),
    (("--overlap", "nan"), "`overlap` cannot be nan"),
    (("--workers", "0"), "`workers` cannot be 0"),
    (("--memory", "0"), "`memory` cannot be 0"),
    (("--products", ""), "`products` cannot be ''"),
    (("--device", "gpu"), "`device` cannot be 'gpu'"),
    (("--out", ""), "`out` cannot be ''"),
    (("--out", "text.tif"), "text.tif is a file; --out must name a folder"),
    (("--out", "text.tif/below"), "text.tif is a file; --out must name a folder"),
    (("--out", "o" * 300), "File name too long"),
    (("--job", "nothing"), "Is a directory"),
]


@pytest.mark.parametrize(
    ("flags", "said"), FLAGS, ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else ""
)
def test_an_impossible_flag_is_refused(warm, shop, tmp_path, flags, said):
    assert said in refused(warm, shop, tmp_path, *run_of("good.tif", *flags))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (run_of("good.tif", "--memory", "100M"), "1 workers of"),
        (run_of("good.tif", "--block", "1048576"), "Take a smaller --block"),
        (run_of("vast.tif"), "its disk has"),
        (run_of("cut.jpg", out="deep/er/out"), "Premature end of JPEG file"),
        (run_of("good.tif", out=f"new/{'o' * 300}"), "File name too long"),
        (run_of("good.tif", "--margin", "exact", model="mixing.onnx"), "squeeze"),
        (("plan", "vast.tif", "--model", "good.onnx", "--out", "out", "--device", "cpu", "--json"), "would be refused"),
    ],
    ids=["memory", "block", "disk", "staging", "lease", "exact", "plan"],
)
def test_what_would_not_fit_is_refused_with_the_numbers(warm, shop, tmp_path, arguments, said):
    assert said in refused(warm, shop, tmp_path, *arguments)


JOBS = {
    "scenes: [good.tif]\nscenes: [grey.tif]\n": "`scenes` is said twice",
    "{{{": "is not YAML",
    "a: " + "[" * 5000: "is not YAML",
    "- a\n- b": "must hold keys and values",
    "": "must hold keys and values",
    "!!python/object/apply:os.system [ls]": "is not YAML",
    "scnees: [good.tif]": "did you mean `scenes`?",
    "scenes: good.tif": "say a list of paths or globs",
    "scenes: []": "say a list of paths or globs",
    "window: true": "`window` cannot be True",
    "bands: 3": "say a list of band numbers",
    "memory: much": "say a size such as 800M or 8G",
    'out: ""': "`out` cannot be ''",
    'out: "a\\0b"': "`out` cannot be",
    'model: "./a\\0b.onnx"': "`model` cannot be",
    "card: {bnads: [red]}": "did you mean `bands`?",
    "card: {classes: [sea, land]}": "names 2 classes (sea, land)",
    "card: {output: nothing}": "no output `nothing`",
    "card: {fill: .nan}": "a finite number",
    "card: {scaling: {kind: mean_std, mean: [1, 2, 3], std: [1, 0, 3]}}": "a standard deviation is above 0",
    "scenes: [good.tif, other/good.tif]": "Two scenes would be called good",
    "scenes: [{uri: good.tif}]": "say a list of paths or globs",
    **{
        f"scenes: [{{name: {json.dumps(name)}, uri: good.tif}}]": "A scene cannot be called"
        for name in ("../evil", "/etc", "..", ".hidden", "a/b", "a\nb", "a\0b", "", "é", "n" * 300)
    },
}


@pytest.mark.parametrize("text", JOBS, ids=lambda text: text[:50])
def test_a_bad_job_file_is_refused(warm, shop, tmp_path, text):
    said = {"scenes": ["good.tif"], "model": "./good.onnx", "out": "out"}
    whole = (
        text
        if text[:1] in "{-!a"
        else text + "".join(f"\n{key}: {json.dumps(said[key])}" for key in said if f"{key}:" not in text)
    )
    (shop / "job.yaml").write_text(whole)
    sentence = refused(warm, shop, tmp_path, "run", "--job", "job.yaml", "--json")
    assert JOBS[text] in sentence


@pytest.mark.parametrize("command", ["status", "verify"])
@pytest.mark.parametrize("place", ["nowhere", "nothing", "good.tif", ".", "p" * 300])
def test_a_place_without_a_result_is_named(warm, shop, tmp_path, command, place):
    assert place[:80] in refused(warm, shop, tmp_path, command, place, "--json")


def test_of_several_scenes_the_good_are_done_and_the_bad_named(warm, shop, tmp_path):
    arguments = ("--model", "good.onnx", "--out", tmp_path / "out", "--device", "cpu", "--json")
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    scenes = ("text.tif", "good.tif", "./good.tif", shop / "good.tif", "nowhere.tif")
    done = warm.run("run", *scenes, *arguments, cwd=shop, HOME=home, TMPDIR=scratch)
    assert done.returncode == 3, done.stderr
    assert not done.left
    report = json.loads(done.stdout.splitlines()[-1])
    assert {row["scene"]: row["state"] for row in report["scenes"]} == {
        "text": "refused",
        "good": "complete",
        "nowhere": "refused",
    }
    assert ["refused" in problem for problem in report["problems"]] == [True, True]
    lines = done.stderr.splitlines()
    assert all(line.startswith("maskmill: ") for line in lines), lines
    assert not set("\r\x1b") & set(done.stderr)
    assert sum("(100 %)" in line and line.startswith("maskmill: good:") for line in lines) == 1
    assert not list(home.iterdir())  # no library keeps anything there, or sends it
    assert [path.name for path in scratch.iterdir()] in ([], ["dask-scratch-space"])
    assert "None of 2 scenes could start" in refused(
        warm, shop, scratch_of(tmp_path), "run", "text.tif", "grey.tif", *arguments
    )


def scratch_of(folder):
    """An empty folder of its own."""
    empty = folder / "empty"
    empty.mkdir()
    return empty


def test_what_is_missing_of_an_image_is_a_hole_and_a_later_run_tries_only_that(warm, shop, tmp_path):
    arguments = ("--model", "good.onnx", "--out", tmp_path / "out", "--device", "cpu", "--json")
    sides = ("--block", "64", "--window", "76", "--workers", "1")
    done = warm.run("run", "half.tif", *arguments, *sides, cwd=shop)
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["scenes"][0]["state"] == "holes"
    failed = report["scenes"][0]["failed"]
    assert 0 < failed < 20
    assert sum("half has a hole: block" in line for line in done.stderr.splitlines()) == failed
    holes = json.loads((tmp_path / "out/half/report.json").read_text())["failures"]
    with rasterio.open(shop / "half.tif") as image:
        for hole in holes:
            (top, bottom), (left, right) = hole["rows"], hole["cols"]
            x, y = image.transform @ (left, top)
            right_x, bottom_y = image.transform @ (right, bottom)
            place = f"(x {x:.10g} to {right_x:.10g}, y {bottom_y:.10g} to {y:.10g}, {image.crs.to_string()})"
            named = f"rows {top} to {bottom}, columns {left} to {right} {place}, failed 3 times: Rows "
            assert any(named in line for line in done.stderr.splitlines())
    mask = read_mask(tmp_path / "out/half")
    assert (mask == 253).any()
    assert (mask != 253).any()
    before = _shards(tmp_path / "out/half")
    again = warm.run("run", "half.tif", *arguments, cwd=shop)
    assert again.returncode == 3, again.stderr
    after = _shards(tmp_path / "out/half")
    assert sum(after[path] != before[path] for path in before) == failed


def _shards(scene):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in scene.glob("mask.zarr/mask/c/*/*")}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda folder: save_model(folder / "model.onnx", small_unet(seed=1)), "model: "),
        (lambda folder: save_scene(folder / "scene.tif", noise(100, 90, 7)), "source: "),
        (lambda folder: (folder / "out/scene/ledger/plan.json").write_text("{"), "plan.json is damaged"),
        (lambda folder: shutil.rmtree(folder / "out/scene/ledger"), "and no ledger"),
    ],
    ids=["model", "scene", "plan", "ledger"],
)
def test_what_changed_between_two_runs_is_named(warm, result, tmp_path, change, part):
    folder = tmp_path / "copy"
    shutil.copytree(result, folder)
    change(folder)
    (tmp_path / "empty").mkdir()
    run = ("run", "scene.tif", "--model", "model.onnx", "--out", "out", "--device", "cpu", "--json")
    assert part in refused(warm, folder, tmp_path / "empty", *run)


@pytest.fixture(scope="module")
def result(warm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    save_scene(folder / "scene.tif", noise(100, 90))
    save_model(folder / "model.onnx", small_unet())
    run = ("run", "scene.tif", "--model", "model.onnx", "--out", "out", "--device", "cpu")
    done = warm.run(*run, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_disk_that_fills_ends_the_scene_with_a_sentence_and_a_later_run_completes_it(warm, tmp_path):
    save_scene(tmp_path / "scene.tif", noise(600, 600))
    save_model(tmp_path / "model.onnx", small_unet())
    run = ("run", "scene.tif", "--model", "model.onnx", "--out", "out", "--device", "cpu", "--window", "140", "--json")
    products = ("--products", "confidence,probabilities")
    done = warm.run(*run, *products, cwd=tmp_path, largest_file=20_000)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["scenes"][0]["state"] == "incomplete"
    assert "There is no room" in said["problems"][0]
    done = warm.run(*run, *products, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_may_not_be_written_is_refused(warm, shop, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    (tmp_path / "empty").mkdir()
    assert "cannot be written" in refused(warm, shop, tmp_path / "empty", *run_of("good.tif", out=closed / "out"))
