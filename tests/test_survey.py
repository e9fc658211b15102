"""Files of others are opened in a child: what kills it is a sentence here, and the next file is opened as ever."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time

import numpy as np
import psutil
import pytest
import rasterio

from pipeline import survey as module
from pipeline.child import Child, Ended, in_child, limit
from pipeline.errors import ModelError, RoomError, SceneError, SettingsError
from pipeline.raster.opening import Wanted
from pipeline.raster.source import LARGEST_TILE, open_scene
from pipeline.settings import Job
from pipeline.survey import Survey
from tests.images import noise, quiet, write_image

pytestmark = quiet
GREY = Wanted(("grey",), (1,))


def crash(*_args):
    ctypes.string_at(0)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def loop(*_args):
    while True:
        pass


def gorge(*_args):
    return [np.ones(1 << 27) for _ in range(99)]  # a GiB each


def spend(seconds):
    """Use the processor for longer than it may be used."""
    limit(1 << 30, seconds)
    loop()


def room_left():
    """The soft limits of this process: address space beyond what it has, seconds beyond what it used."""
    limit(1 << 30, 7)
    return resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CPU)[0]


@pytest.fixture(scope="module")
def child():
    with Child() as process:
        yield process


@pytest.mark.parametrize(
    ("work", "args", "said"),
    [
        (crash, (), "was ended by SIGSEGV"),
        (os._exit, (3,), "ended with code 3"),
        (os.abort, (), "was ended by SIGABRT"),
        (spend, (1,), "more time of the processor than is allowed"),
    ],
)
def test_what_ends_a_process_is_told_and_the_next_call_has_a_new_one(child, work, args, said):
    with pytest.raises(Ended, match=said) as caught:
        child.ask(work, *args)
    assert not caught.value.by_system
    assert child.ask(os.getpid) != os.getpid()


def test_one_process_serves_many_calls_and_a_kill_is_the_systems(child):
    first = child.ask(os.getpid)
    assert child.ask(os.getpid) == first
    with pytest.raises(Ended) as caught:
        child.ask(os.kill, first, signal.SIGKILL)
    assert caught.value.by_system
    with pytest.raises(Ended, match=r"took more than 0\.5 s"):
        child.ask(loop, seconds=0.5)
    assert not psutil.pid_exists(first)


def test_its_memory_and_its_time_are_limited_afresh_for_each_call(child):
    space, seconds = child.ask(room_left)
    assert 1 << 30 < space < 1 << 36
    assert 7 <= seconds < 60
    child.ask(limit, 1 << 30, 60)
    with pytest.raises(MemoryError):
        child.ask(gorge)


@pytest.fixture
def dying(monkeypatch):
    """A survey whose child does something else with each file."""

    def make(work):
        monkeypatch.setattr(module, "_surveyed", work)
        monkeypatch.setattr(module, "_networked", work)
        monkeypatch.setattr(module, "_met", work)
        return Survey()

    return make


@pytest.mark.parametrize(
    ("work", "said"), [(crash, "was ended by SIGSEGV: it is damaged, or made to do harm"), (gorge, "cannot be read")]
)
def test_each_has_its_sentence(dying, monkeypatch, tmp_path, work, said):
    with dying(work) as survey:
        if work is gorge:
            survey.child.ask(limit, 1 << 30, 60)
        with pytest.raises(SceneError, match=said):
            survey.scene("https://host/a.tif?sig=hush", GREY, None)
        if work is gorge:
            survey.child.ask(limit, 1 << 30, 60)
        with pytest.raises(ModelError, match=r"model .*a\.onnx"):
            survey.network(tmp_path / "a.onnx", None)
        if work is gorge:
            survey.child.ask(limit, 1 << 30, 60)
        with pytest.raises(SettingsError, match=r"area a\.gpkg"):
            survey.area(Job(scenes=("a",), model="b", out=tmp_path, aoi="a.gpkg"), None)


def test_a_survey_gives_the_scene_that_is_there_and_its_errors(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(3, 600, 700), tiled=True, compress="deflate")
    with Survey() as survey:
        assert survey.scene(str(path), Wanted(("blue", "red"), (3, 1)), "x") == open_scene(str(path), [3, 1], "x")
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            survey.scene(str(path), GREY, None)
            taken.append(time.perf_counter() - began)
        assert min(taken) < 0.05
        with pytest.raises(SceneError, match="no band 9"):
            survey.scene(str(path), Wanted(("grey",), (9,)), None)
        with pytest.raises(ModelError, match="no model at"):
            survey.network(tmp_path / "a.onnx", None)


def test_a_tile_that_no_memory_should_hold_is_refused_before_it_is_decoded(tmp_path):
    size = {"blockxsize": 32768, "blockysize": 32768, "tiled": True, "sparse_ok": True, "bigtiff": "yes"}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", "GTiff", 32768, 32768, 4, dtype="uint8", interleave="pixel", **size):
        pass
    assert LARGEST_TILE < 32768**2 * 4
    with Survey() as survey, pytest.raises(SceneError, match=r"are decoded whole|cannot be opened"):
        survey.scene(str(path), GREY, None)


def die_half_done(_scene, folder):
    (folder / "source.tif.partial").write_bytes(b"half")
    crash()


def test_a_crash_while_an_image_is_staged_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    pixels = noise(3, 70, 80)
    scene = open_scene(str(write_image(tmp_path / "a.png", pixels, driver="PNG")), None)
    folder = tmp_path / "stage"
    assert module.staged(scene, folder).driver == "GTiff"
    (folder / "source.tif").unlink()
    monkeypatch.setattr(module, "stage", die_half_done)
    with pytest.raises(SceneError, match=r"staged the image .*a\.png was ended by SIGSEGV"):
        module.staged(scene, folder)
    assert list(folder.iterdir()) == []


def test_a_crash_of_the_network_is_a_matter_of_the_model():
    with pytest.raises(ModelError, match="crashes ONNX Runtime"):
        in_child(crash)
    with pytest.raises(RoomError):
        in_child(die)
