"""Images at addresses: read by ranges, known again by what the server says, and never by accident."""

from __future__ import annotations

import json
import socket
import time
import zipfile

import numpy as np
import pytest

from flows.tasks import run_job
from pipeline.document import load_job
from pipeline.errors import BlockError, SceneError
from pipeline.grid import Rect
from pipeline.raster.address import address_of, kept, shown
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from tests.images import noise, quiet, vrt_of, write_image
from tests.oracle import read_mask, save_model, save_scene, small_unet
from tests.served import served

pytestmark = quiet
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256}


def _read(scene, rect=None):
    with Reader(scene) as reader:
        return reader.read(rect or scene.rect)[0]


def test_a_window_costs_a_window(tmp_path):
    pixels = noise(3, 2048, 2048)
    path = write_image(tmp_path / "a.tif", pixels, **TILED)
    with served(tmp_path) as server:
        scene = open_scene(f"{server.url}/a.tif", None)
        window = Rect(1000, 1000, 1200, 1300)
        np.testing.assert_array_equal(_read(scene, window), pixels[:, 1000:1200, 1000:1300])
        assert server.given < path.stat().st_size / 8
        assert all(asked == "/a.tif" for _, asked, _ in server.asked)  # no sidecar is looked for
    assert (scene.name, scene.driver, scene.rect.shape) == ("a", "GTiff", (2048, 2048))
    assert any("read at an address" in note for note in scene.notes)


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "JP2OpenJPEG", "WEBP", "BMP"])
def test_other_formats_are_read_at_addresses_as_they_are_here(tmp_path, driver):
    path = write_image(tmp_path / "a.img", noise(3, 60, 70), driver=driver)
    with served(tmp_path) as server:
        scene = open_scene(f"{server.url}/a.img", None)
        np.testing.assert_array_equal(_read(scene), _read(open_scene(str(path), None)))


def test_the_fingerprint_is_of_what_the_server_says(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 300, 300), **TILED)
    found = {}
    for etag in ('"one"', '"two"'):
        with served(tmp_path, etag=etag) as server:
            found[etag] = open_scene(f"{server.url}/a.tif", None).fingerprint
    with served(tmp_path, etag='"one"') as server:
        assert open_scene(f"{server.url}/a.tif?signature=other", None).fingerprint == found['"one"']
        before = server.given
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    with served(tmp_path, etag='"one"') as server:
        found["changed"] = open_scene(f"{server.url}/a.tif", None).fingerprint
    assert len(set(found.values())) == 3
    assert before > 0


def test_a_signature_is_used_and_not_told(tmp_path):
    write_image(tmp_path / "a.tif", noise(3, 900, 900), **TILED)
    with served(tmp_path) as server:
        uri = f"{server.url}/a.tif?X-Amz-Signature=hush&b=c"
        scene = open_scene(uri, None)
        assert any("hush" in asked for _, asked, _ in server.asked)
        assert not any(method == "HEAD" for method, _, _ in server.asked)  # which a signature for reading refuses
    assert scene.name == "a"
    assert "hush" not in scene.shown + kept(scene.uri) + str(scene.notes)
    with pytest.raises(BlockError) as caught:
        _read(scene)
    assert "hush" not in caught.value.message
    with pytest.raises(SceneError, match="without its signature"):
        open_scene(kept(scene.uri), None)
    assert shown("s3://bucket/a.tif?hush and https://me:hush@host/") == "s3://bucket/a.tif?*** and https://me:***@host/"


def _closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_what_cannot_be_reached_is_one_sentence_in_bounded_time(tmp_path):
    began = time.monotonic()
    with pytest.raises(
        SceneError, match=r"cannot be reached: .*(no server answers there|Could not connect to server)\.$"
    ):
        open_scene(f"http://127.0.0.1:{_closed_port()}/a.tif", None)
    with pytest.raises(SceneError, match=r"cannot be reached: Could not resolve host: nowhere\.invalid\.$"):
        open_scene("https://nowhere.invalid/a.tif", None)
    for status, said in ((404, "HTTP response code: 404"), (403, "HTTP response code: 403")):
        with served(tmp_path, status=status) as server, pytest.raises(SceneError, match=said):
            open_scene(f"{server.url}/a.tif", None)
    assert time.monotonic() - began < 30


def test_a_page_a_vrt_and_a_cut_png_at_an_address_are_refused(tmp_path):
    (tmp_path / "page.tif").write_text("<html>Sign in</html>")
    (tmp_path / "a.vrt").write_text(vrt_of("/etc/passwd"))
    content = write_image(tmp_path / "a.png", noise(3, 60, 60), driver="PNG").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with served(tmp_path) as server:
        for name, said in (("page.tif", "not an image"), ("a.vrt", "copy it here"), ("cut.png", "cut short")):
            with pytest.raises(SceneError, match=said):
                open_scene(f"{server.url}/{name}", None)


def test_an_image_here_fetches_nothing_whatever_lies_beside_it(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 30, 30))
    with served(tmp_path) as server:
        mask = f"<SourceFilename>/vsicurl/{server.url}/a.tif</SourceFilename>"
        for text in (
            f'<PAMDataset><Metadata domain="SUBDATASETS"><MDI key="SUBDATASET_1_NAME">/vsicurl/{server.url}/a.tif</MDI>'
            "</Metadata></PAMDataset>",
            f'<PAMDataset><PAMRasterBand band="1"><MaskBand>{mask}</MaskBand></PAMRasterBand></PAMDataset>',
        ):
            (tmp_path / "a.tif.aux.xml").write_text(text)
            _read(open_scene(str(path), None))
        (tmp_path / "a.vrt").write_text(vrt_of(f"/vsicurl/{server.url}/a.tif"))
        with pytest.raises(SceneError):
            open_scene(str(tmp_path / "a.vrt"), None)
        assert server.asked == []


def test_images_in_archives_are_read_here_and_at_addresses(tmp_path):
    pixels = noise(2, 80, 90)
    path = write_image(tmp_path / "a.tif", pixels)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "deep/a.tif")
        archive.writestr("deep/a.vrt", vrt_of("../../outside.tif"))
    here = open_scene(f"/vsizip/{tmp_path}/all.zip/deep/a.tif", None)
    np.testing.assert_array_equal(_read(here), pixels)
    assert address_of(here.uri).uri == here.uri
    with pytest.raises(SceneError, match="is a VRT"):
        open_scene(f"/vsizip/{tmp_path}/all.zip/deep/a.vrt", None)
    with pytest.raises(SceneError, match=r"has \.\. in its name"):
        open_scene(f"/vsizip/{tmp_path}/all.zip/../a.tif", None)
    with pytest.raises(SceneError, match="cannot be reached"):
        open_scene(f"/vsizip/{tmp_path}/all.zip/none.tif", None)
    with served(tmp_path) as server:
        there = open_scene(f"/vsizip//vsicurl/{server.url}/all.zip/deep/a.tif", None)
        np.testing.assert_array_equal(_read(there), pixels)
    assert there.fingerprint != here.fingerprint


def test_a_mask_of_an_address_is_the_mask_of_the_file(tmp_path):
    (tmp_path / "site").mkdir()
    save_scene(tmp_path / "site/scene.tif", noise(3, 200, 300))
    save_model(tmp_path / "model.onnx", small_unet())
    with served(tmp_path / "site") as server:
        for name, uri in (("there", f"{server.url}/scene.tif?sig=hush"), ("here", str(tmp_path / "site/scene.tif"))):
            said = {"scenes": [uri], "model": str(tmp_path / "model.onnx"), "out": tmp_path / name, "device": "cpu"}
            assert run_job(load_job(None, said)).exit_code == 0
    np.testing.assert_array_equal(read_mask(tmp_path / "there/scene"), read_mask(tmp_path / "here/scene"))
    texts = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert not any(b"hush" in path.read_bytes() for path in texts)
    assert json.loads((tmp_path / "there/scene/report.json").read_text())["complete"]
