"""Tricks: files and names made to read, write or reach elsewhere. Each ends in a sentence and leaves nothing."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
import rasterio

from pipeline.document import load_job
from pipeline.errors import InputError, SceneError
from pipeline.network.mlm import embed
from pipeline.raster.naming import RESERVED
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from tests.images import quiet, vrt_of, write_image
from tests.oracle import noise, save_model, save_scene, small_card, small_unet

pytestmark = quiet


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    save_scene(folder / "good.tif", noise(80, 90))
    save_scene(tmp_path / "secret.tif", noise(80, 90, seed=9))
    save_model(folder / "good.onnx", small_unet())
    return folder


def _run(warm, shop, scene, *flags, model="good.onnx", **environment):
    said = ("run", "--model", model, "--out", "out", "--device", "cpu", *flags, "--json", "--", scene)
    before = sorted(shop.parent.rglob("*"))
    done = warm.run(*said, cwd=shop, **environment)
    assert "Traceback" not in done.stderr
    if done.returncode == 2:
        assert sorted(shop.parent.rglob("*")) == before
    return done


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [touch pwned]",
        "scenes: !!python/name:os.system\nmodel: m\nout: o",
        "scenes: [!!python/object/new:os.system [touch pwned]]",
        "!!python/module:os",
        "scenes: &a [*a]\nmodel: m\nout: o",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n"
            for before, name in zip("abcdef", "bcdefg", strict=True)
        )
        + "scenes: *g\nmodel: m\nout: o",
        "scenes: [!!timestamp never]",
        "scenes: [!!bool perhaps]",
        "scenes: [!!int '']",
        "scenes: [2026-13-45]",
        "a: " + "9" * 5000,
        "? {a: b}\n: c",
    ],
    ids=range(12),
)
def test_a_job_file_makes_nothing_and_grows_to_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(InputError, match="is not YAML") as caught:
        load_job(tmp_path / "job.yaml", {})
    assert len(caught.value.message) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "..", ".", "", "a\\b", "/etc/x", "a\0b", "~", ".hidden", "é", "x" * 201]
)
def test_a_scenes_name_is_no_path(shop, name):
    with pytest.raises(SceneError, match="A scene cannot be called"):
        open_scene(str(shop / "good.tif"), None, name)


@pytest.mark.slow
def test_a_linked_image_is_the_image_and_its_result_lies_where_it_was_asked_for(warm, shop):
    (shop / "link.tif").symlink_to(shop.parent / "secret.tif")
    assert _run(warm, shop, "link.tif").returncode == 0  # a link that the user names is the user's
    there = {path.name for path in (shop / "out").iterdir() if not path.name.startswith(".")}
    assert there - RESERVED == {"link"}


@pytest.mark.slow
def test_results_are_not_written_through_a_link_in_the_output(warm, shop, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("precious")
    (shop / "out").mkdir()
    (shop / "out/good").symlink_to(elsewhere)
    done = _run(warm, shop, "good.tif", "--overwrite")
    assert (elsewhere / "mine").read_text() == "precious"
    assert done.returncode in {0, 2}


def test_weights_through_a_link_to_elsewhere_are_refused(warm, shop, tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 20))
    (shop / "a").mkdir()
    (shop / "weights.bin").symlink_to(tmp_path / "weights.bin")
    for name, location in (("link", "weights.bin"), ("up", "../weights.bin"), ("deep", "a/../../weights.bin")):
        model = embed(small_unet(), small_card())
        for tensor in model.graph.initializer:
            onnx.external_data_helper.set_external_data(tensor, location)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
        (shop / f"{name}.onnx").write_bytes(model.SerializeToString())
        done = _run(warm, shop, "good.tif", model=f"{name}.onnx")
        assert done.returncode == 2
        assert "own folder" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GDAL_SKIP": "GTiff"}, "cannot be opened"),
        ({"GDAL_VRT_ENABLE_PYTHON": "YES", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}, None),
        ({"CPL_VSIL_CURL_ALLOWED_FILENAME": "/vsicurl/http://127.0.0.1:1/a", "GDAL_NUM_THREADS": "ALL_CPUS"}, None),
        ({"GDAL_CACHEMAX": "1", "VRT_SHARED_SOURCE": "1", "CPL_DEBUG": "ON"}, None),
    ],
    ids=["skip", "python", "curl", "cache"],
)
def test_an_environment_for_gdal_changes_no_answer(warm, shop, environment, said):
    done = _run(warm, shop, "good.tif", **environment)
    assert done.returncode == (2 if said else 0), done.stderr
    assert said is None or said in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "/vsizip/../secret.zip/secret.tif",
        "/vsisubfile/0_99999,../secret.tif",
        "/vsicached?file=../secret.tif",
        "vrt://../secret.tif",
        "GTIFF_DIR:1:../secret.tif",
        "/vsicurl/file:///etc/passwd",
        "..//secret.tif",
        "./inner/../../secret.tif",
        "secret\\..\\..\\secret.tif",
    ],
)
def test_a_vrt_reaches_nothing_outside_its_folder(shop, name):
    (shop / "inner").mkdir()
    for relative in (0, 1):
        (shop / "a.vrt").write_text(vrt_of(name, size=(80, 90), relative=relative))
        with pytest.raises(SceneError, match=r"a\.vrt names"):
            open_scene(str(shop / "a.vrt"), None)


def test_a_vrt_may_name_what_the_job_allows(shop, tmp_path):
    (shop / "a.vrt").write_text(vrt_of("../secret.tif", size=(80, 90)))
    with pytest.raises(SceneError, match=r"allow: \[folder\]"):
        open_scene(str(shop / "a.vrt"), None)
    scene = open_scene(str(shop / "a.vrt"), None, allow=[str(tmp_path)])
    with Reader(scene) as reader:
        np.testing.assert_array_equal(reader.read(scene.rect)[0][0], noise(80, 90, seed=9)[0])
    before = scene.fingerprint
    save_scene(tmp_path / "secret.tif", noise(80, 90, seed=8))
    assert open_scene(str(shop / "a.vrt"), None, allow=[str(tmp_path)]).fingerprint != before
    with pytest.raises(SceneError, match="outside its folder"):
        open_scene(str(shop / "a.vrt"), None, allow=[str(shop / "inner")])


@pytest.mark.parametrize(
    "name",
    [
        "good.tif.ovr",
        "good.tif.msk",
        "good.tif.aux.xml",
        "good.tfw",
        "good.rpb",
        "good_RPC.TXT",
        "good.IMD",
        "good.xml",
    ],
)
def test_a_sidecar_that_is_a_device_is_not_read_without_end(shop, name):
    (shop / name).symlink_to("/dev/zero")
    with suppress(SceneError):
        scene = open_scene(str(shop / "good.tif"), None)
        with Reader(scene) as reader:
            reader.read(scene.rect)
    (shop / name).unlink()
    assert open_scene(str(shop / "good.tif"), None).height == 80


def test_a_tile_of_nothing_is_not_a_bomb(tmp_path):
    """A small file of a great many pixels is planned, not decoded."""
    vast = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "bigtiff": "yes"}
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 10**6, 10**6, 1, dtype="uint8", **vast):
        pass
    assert open_scene(str(tmp_path / "a.tif"), None).rect.area == 10**12
    write_image(tmp_path / "b.tif", np.zeros((1, 3000, 3000), np.uint8), compress="deflate")
    assert (tmp_path / "b.tif").stat().st_size < 100_000
