"""A source that changes while it is being done: noticed at the next block, never mixed, never a hole a block."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import time

import pytest
import zarr

from pipeline.errors import SceneError
from pipeline.raster import seal
from pipeline.raster.opening import Wanted, open_image
from pipeline.raster.seal import demand_unchanged, seen
from pipeline.raster.source import open_scene
from pipeline.raster.stage import stage
from pipeline.settings import BandSource, Job
from pipeline.store.record import State
from pipeline.work import close_bench, run_block
from tests.images import noise, quiet, vrt_of, write_image
from tests.oracle import do_blocks, opened, save_model, save_scene, small_unet, tree
from tests.oracle import noise as pixels_of
from tests.served import served
from tests.test_kills import blocks_done, command

pytestmark = quiet


def _later(path):
    now = path.stat()
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + 10_000_000))


def _replaced(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    other.replace(path)


def _fifo(path):
    path.unlink()
    os.mkfifo(path)


HARM = {
    "rewritten": lambda path: path.write_bytes(path.read_bytes()),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "replaced": _replaced,
    "a pipe": _fifo,
}


@pytest.mark.parametrize("harm", HARM)
def test_a_file_that_changed_is_refused_with_what_it_was_and_is(tmp_path, harm):
    path = write_image(tmp_path / "a.tif", noise(1, 30, 40))
    scene = open_scene(str(path), None)
    demand_unchanged(pickle.loads(pickle.dumps(scene)))
    time.sleep(0.02)  # longer than a tick of the kernel's clock
    HARM[harm](path)
    with pytest.raises(SceneError, match=r"a\.tif has changed .* bytes of .* then|a\.tif had \d+ bytes of 20"):
        demand_unchanged(scene)


def test_a_file_that_is_gone_is_refused_and_the_old_one_is_taken_again(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 30, 40))
    scene = open_scene(str(path), None)
    path.rename(tmp_path / "b.tif")
    with pytest.raises(SceneError, match=r"was lost .*No such file.* Put the old file back"):
        demand_unchanged(scene)
    (tmp_path / "b.tif").rename(path)
    demand_unchanged(scene)


def test_what_viewers_leave_beside_an_image_is_no_change(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 30, 40))
    beside = tmp_path / "a.tif.aux.xml"
    beside.write_text("<PAMDataset><Metadata><MDI key='a'>b</MDI></Metadata></PAMDataset>")
    (tmp_path / "a.tif.ovr").write_bytes(write_image(tmp_path / "ovr", noise(1, 15, 20)).read_bytes())
    scene = open_scene(str(path), None)
    beside.write_text(
        "<PAMDataset><Metadata><MDI key='a'>b</MDI><MDI key='STATISTICS_MEAN'>1</MDI></Metadata></PAMDataset>"
    )
    _later(tmp_path / "a.tif.ovr")
    demand_unchanged(scene)
    beside.write_text("<PAMDataset><Metadata><MDI key='a'>c</MDI></Metadata></PAMDataset>")
    with pytest.raises(SceneError, match="has changed"):
        demand_unchanged(scene)


def test_every_file_of_an_image_counts(tmp_path):
    parts = [write_image(tmp_path / name, noise(1, 20, 30)) for name in ("one.tif", "two.tif")]
    (tmp_path / "a.vrt").write_text(vrt_of("one.tif", "two.tif"))
    bands = {name: BandSource(file=f"{name}.tif") for name in ("one", "two")}
    for scene in (
        open_scene(str(tmp_path / "a.vrt"), None),
        open_image(str(tmp_path), Wanted(("one", "two"), files=bands)),
    ):
        before = parts[1].stat()
        told = {name: (size, which) for name, size, which in seen(scene)}
        for part in parts:
            assert told[str(part)] == (part.stat().st_size, str(part.stat().st_mtime_ns))
        demand_unchanged(scene)
        _later(parts[1])
        with pytest.raises(SceneError, match=r"two\.tif had"):
            demand_unchanged(scene)
        os.utime(parts[1], ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_chunk_of_a_zarr_counts(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(40, 40), chunks=(20, 20), dtype="uint8", zarr_format=2)
    array[:] = 7
    scene = open_scene(str(tmp_path / "a.zarr"), None)
    demand_unchanged(scene)
    array[30, 30] = 8
    with pytest.raises(SceneError, match="has changed"):
        demand_unchanged(scene)


def test_an_address_is_known_by_what_its_server_says(tmp_path, monkeypatch):
    monkeypatch.setattr(seal, "PATIENCE", 1.0)
    write_image(tmp_path / "a.tif", noise(1, 30, 40))
    with served(tmp_path, etag='"one"') as server:
        for signature in ("", "?sig=hush"):
            server.etag = '"one"'
            scene = open_scene(f"{server.url}/a.tif{signature}", None)
            demand_unchanged(scene)
            shown = f"{server.url}/a.tif" + ("?***" if signature else "")
            assert seen(scene) == [(shown, (tmp_path / "a.tif").stat().st_size, '"one"')]
            server.etag = '"two"'
            with pytest.raises(SceneError, match=r'bytes of "one" and has .* bytes of "two"') as caught:
                demand_unchanged(scene)
            assert "hush" not in caught.value.message
        (tmp_path / "a.tif").rename(tmp_path / "b.tif")
        with pytest.raises(SceneError, match=r"was lost .*its server does not give it"):
            demand_unchanged(scene)


def test_a_file_that_changes_while_it_is_staged_is_not_staged(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 60, 70))
    scene = open_scene(str(path), None)
    _later(path)
    with pytest.raises(SceneError, match="has changed"):
        stage(scene, tmp_path / "stage")
    assert not list((tmp_path / "stage").iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("seal")
    save_model(place / "model.onnx", small_unet())
    save_scene(place / "scene.tif", pixels_of(700, 900))
    return place


def _job(folder, out):
    said = {"scenes": (str(folder / "scene.tif"),), "model": str(folder / "model.onnx"), "out": folder / out}
    return Job(**said, device="cpu", window=76, block=256)


def test_a_block_of_a_changed_file_ends_the_run_and_the_old_file_goes_on(folder):
    scene = folder / "scene.tif"
    before = scene.stat()
    with opened(_job(folder, "blocks")) as run:
        do_blocks(run, run.todo[:2])
        run_block(run.plan, 2)  # it holds the file open
        scene.rename(folder / "kept.tif")
        save_scene(scene, pixels_of(700, 900, seed=1))
        for _ in range(2):
            with pytest.raises(SceneError, match="has changed since the run was planned"):
                run_block(run.plan, 3)
        (folder / "kept.tif").replace(scene)
        assert run_block(run.plan, 3).state is State.DONE  # of the old file, and not of one that is still open
        close_bench()
    assert scene.stat().st_mtime_ns == before.st_mtime_ns
    _same_as_undisturbed(folder, "blocks")


def _same_as_undisturbed(folder, out):
    for name in ("undisturbed", out):
        with opened(_job(folder, name)) as run:
            do_blocks(run, run.todo)
            assert run.finish(lambda *_: None)["blocks"]["failed"] == 0
    here, there = (folder / name / "scene" for name in (out, "undisturbed"))
    assert tree(here / "mask.zarr") == tree(there / "mask.zarr")
    assert (here / "mask.tif").read_bytes() == (there / "mask.tif").read_bytes()


def test_a_file_that_changes_after_the_last_block_is_not_published(folder):
    scene = folder / "scene.tif"
    before = scene.stat()
    with opened(_job(folder, "last")) as run:
        do_blocks(run, run.todo)
        _later(scene)
        with pytest.raises(SceneError, match="has changed"):
            run.finish(lambda *_: None)
        assert not (run.folder.path / "report.json").exists()
        assert not (run.folder.path / "mask.tif").exists()
    os.utime(scene, ns=(before.st_atime_ns, before.st_mtime_ns))
    _same_as_undisturbed(folder, "last")


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "replaced"])
def test_the_command_refuses_a_file_that_changes_under_it_and_goes_on_with_the_old(folder, tmp_path, harm):
    for name in ("model.onnx", "scene.tif"):
        shutil.copy2(folder / name, tmp_path)
    scene = tmp_path / "scene.tif"
    run = subprocess.Popen(
        [*command(tmp_path, "out"), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while blocks_done(tmp_path, "out") < 10:
            assert run.poll() is None
            time.sleep(0.02)
        shutil.copy2(scene, tmp_path / "kept.tif")
        HARM[harm](scene)
        said, told = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 3, told
    report = json.loads(said.splitlines()[-1])
    (problem,) = report["problems"]
    assert "scene.tif has changed since the run was planned" in problem
    assert "the same command goes on from there" in problem
    assert (report["scenes"][0]["state"], report["scenes"][0]["failed"]) == ("incomplete", 0)
    again = subprocess.run([*command(tmp_path, "out")], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 2
    (tmp_path / "kept.tif").replace(scene)
    for out in ("out", "undisturbed"):
        done = subprocess.run(command(tmp_path, out), capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out/scene/mask.zarr") == tree(tmp_path / "undisturbed/scene/mask.zarr")
