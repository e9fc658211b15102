"""Scenes in a bucket: a real server is listed, and what was listed is opened there with the same settings."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from flows.listing import listed
from flows.sources.bucket import Prefix
from flows.sources.listed import LeftOut
from flows.tasks import run_job
from pipeline.document import load_job
from pipeline.errors import SceneError
from pipeline.origin import BucketOrigin
from pipeline.raster.endpoint import Endpoint
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.settings import Job
from tests.images import noise, quiet, write_image
from tests.mill import world
from tests.oracle import read_mask
from tests.stored import SECRET, kept, stored

pytestmark = quiet
OLD = time.time() - 3600
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with the bucket `images`, and what the environment says of its server."""
    folder = tmp_path_factory.mktemp("shelf")
    with stored(folder) as said:
        (folder / "images").mkdir()
        yield folder, said


@pytest.fixture
def bucket(shelf, monkeypatch):
    folder, said = shelf
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    return folder / "images"


def put(path, at=OLD, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at, at))


def job_of(*scenes, **more):
    return Job(scenes=scenes, model="m", out="out", **more)


@pytest.fixture(scope="module")
def ranges():
    with kept("images") as (said, store):
        yield said, store


@pytest.fixture
def store(ranges, monkeypatch):
    """A bucket that GDAL reads; what is put there is new."""
    for name, value in ranges[0].items():
        monkeypatch.setenv(name, value)
    return ranges[1]


def test_what_is_listed_below_a_prefix_is_opened_there(store, tmp_path):
    path = write_image(tmp_path / "a.tif", noise(2, 300, 300), **TILED)
    for name in ("one/a.tif", "one/deep/a b.tif", "one/notes.txt", "other/a.tif"):
        store.put(name, path)
    found = list(listed(job_of("s3://images/one/", settle=0)))
    assert [one.entry.uri for one in found] == ["s3://images/one/a.tif", "s3://images/one/deep/a b.tif"]
    assert found[0].entry.name == "a"
    assert found[1].entry.name.startswith("deep--a_b-")
    for one in found:
        assert one.stamp.size == path.stat().st_size
        assert abs(one.stamp.modified - time.time()) < 60
        assert one.stamp.etag
        with Reader(open_scene(one.entry.uri, None)) as reader:
            pixels, _ = reader.read(reader.scene.rect)
        np.testing.assert_array_equal(pixels, noise(2, 300, 300))


def test_a_pattern_says_which_and_deliveries_are_no_single_scenes(bucket):
    for name in ("a.png", "b/a.png", "b/a.tif", "S.SAFE/GRANULE/B04.jp2", "LC08_1_SR_B4.TIF", "z.zarr/0.tif"):
        put(bucket / "two" / name)
    left = LeftOut()
    assert [one.entry.name for one in listed(job_of("s3://images/two/"), left)] == ["a.png", "b--a.png", "b--a"]
    assert left.notes()[0].startswith("3 files in s3://images/two belong to deliveries")
    for said in ("s3://images/two/**/*.png", {"prefix": "s3://images/two", "pattern": "**/*.png"}):
        assert [one.entry.name for one in listed(job_of(said))] == ["a", "b--a"]
    assert [one.entry.name for one in listed(job_of("s3://images/two/b/*.tif"))] == ["a"]
    assert list(listed(job_of({"prefix": "s3://images/nothing/"}), left)) == []
    assert "There is no scene in s3://images/nothing/." in left.notes()
    with pytest.raises(SceneError, match="There is no scene in s3://images/nothing/: check it"):
        list(listed(job_of("s3://images/nothing/")))


def test_what_a_store_has_got_a_moment_ago_waits(bucket):
    put(bucket / "three/new.tif", at=time.time())
    put(bucket / "three/old.tif")
    left = LeftOut()
    assert [one.entry.name for one in listed(job_of("s3://images/three/"), left)] == ["old"]
    assert left.waiting == 1
    assert abs(Prefix("s3", "images", "").clock()() - time.time()) < 5


def test_what_cannot_be_listed_is_one_sentence_without_a_secret(bucket, monkeypatch):
    def complaint(said="s3://images/one/"):
        with pytest.raises(SceneError) as caught:
            list(listed(job_of(said)))
        assert SECRET not in caught.value.message
        assert "\n" not in caught.value.message
        return caught.value.message

    assert complaint("s3://nowhere/x/").startswith("The bucket nowhere cannot be listed: ")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all")
    assert "not-the-secret" not in (said := complaint())
    assert said.startswith("The bucket images cannot be listed: ")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert complaint() == "The bucket images cannot be listed: no server answers there."


def test_one_environment_says_the_same_to_all():
    at = Endpoint.of({"AWS_ENDPOINT_URL": "http://minio:9000/"})
    assert (at.url, at.virtual) == ("http://minio:9000", False)
    assert at.for_gdal() == {"AWS_S3_ENDPOINT": "minio:9000", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "NO"}
    assert Endpoint.of({"AWS_S3_ENDPOINT": "minio:9000", "AWS_HTTPS": "NO"}).url == "http://minio:9000"
    assert Endpoint.of({"AWS_S3_ENDPOINT": "a", "AWS_ENDPOINT_URL": "https://b"}).url == "https://a"
    assert Endpoint.of({}).for_gdal() == {}
    assert Endpoint.of({"AWS_SKIP_SIGNATURE": "true"}).for_gdal() == {"AWS_NO_SIGN_REQUEST": "YES"}
    assert Prefix.of(BucketOrigin(prefix="s3://b")) == Prefix("s3", "b", "")


@pytest.mark.slow
def test_a_prefix_is_done_as_the_same_files_are_here(store, tmp_path):
    said = world(tmp_path, scenes=1)
    store.put("four/scene0.tif", tmp_path / "scene0.tif")
    common = {**said, "model": str(tmp_path / "net.onnx"), "cluster": "inline", "settle": 0}
    for scenes, out in (("s3://images/four/", "far"), (str(tmp_path / "scene0.tif"), "near")):
        report = run_job(load_job(None, {**common, "scenes": [scenes], "out": tmp_path / out}))
        assert report.exit_code == 0, report.problems
    np.testing.assert_array_equal(*(read_mask(tmp_path / out / "scene0") for out in ("far", "near")))
