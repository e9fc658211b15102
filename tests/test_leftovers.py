"""Cleaning removes what kills leave, never a result, and a run that goes on afterwards makes the same bytes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SceneError
from pipeline.leftovers import QUIET_SECONDS, clean
from pipeline.store.lease import Lease
from pipeline.store.ledger import JOURNAL
from tests.oracle import do_blocks, noise, opened, run_here, save_model, save_scene, small_unet, tree
from tests.test_folder import beside, forget_publishing, job, unpublish

PARTIAL = ".mask.tif.0123456789abcdef0123456789abcdef.partial"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leftovers")
    save_model(folder / "model.onnx", small_unet())
    save_scene(folder / "scene.tif", noise(150, 200))
    for out, fill in (("a", 0.0), ("b", 1.0)):
        assert run_here(job(folder, folder / out, fill))["complete"]
    with opened(job(folder, folder / "half")) as run:
        do_blocks(run, run.todo[:2])
    return folder


@pytest.fixture
def out(place, tmp_path):
    shutil.copytree(place / "a", tmp_path / "out")
    return tmp_path / "out"


def paths(cleaning) -> set[str]:
    return {one.path.name for one in cleaning.removed}


def staged_source(place: Path, out: Path) -> None:
    (out / "scene" / ".stage" / "layer-0").mkdir(parents=True)
    (out / "scene" / ".stage" / "source.tif").write_bytes(b"tiles")
    (out / "scene" / ".stage" / "layer-0" / "source.tif.partial").write_bytes(b"tiles")


def half_written(place: Path, out: Path) -> None:
    for folder in (out / "scene", out / "scene" / "ledger", out / "scene" / ".stage", out / "scene" / "mask.zarr"):
        if folder.is_dir():
            (folder / PARTIAL).write_bytes(b"half")


def replacing(place: Path, out: Path) -> None:
    beside(place, out)


def unfinished_beside(place: Path, out: Path) -> None:
    shutil.copytree(place / "half" / "scene", out / ".scene.new")


def exchanged_by_half(place: Path, out: Path) -> None:
    beside(place, out)
    (out / "scene").rename(out / ".scene.old")


def exchanged(place: Path, out: Path) -> None:
    exchanged_by_half(place, out)
    (out / ".scene.new").rename(out / "scene")


def moved_away(place: Path, out: Path) -> None:
    (out / "scene").rename(out / ".scene.old")


def publishing(place: Path, out: Path) -> None:
    unpublish(out / "scene", 1)


def published_untold(place: Path, out: Path) -> None:
    forget_publishing(out / "scene")


def copied_by_half(place: Path, out: Path) -> None:
    (out / "scene" / ".stage" / "mask.zarr.copy" / "mask").mkdir(parents=True)


SCENES = [
    [],
    [staged_source],
    [copied_by_half],
    [publishing],
    [published_untold],
    [published_untold, copied_by_half],
]  # what kills leave in a scene's folder
EXCHANGES = [None, replacing, unfinished_beside, exchanged_by_half, exchanged, moved_away]  # and beside it


@given(
    kills=st.sampled_from(SCENES),
    exchange=st.sampled_from(EXCHANGES),
    torn=st.booleans(),
    start=st.sampled_from(["a", "half"]),
)
@settings(max_examples=12, deadline=None)
def test_whatever_was_killed_a_result_stays_and_a_run_makes_the_same_bytes(
    place, tmp_path_factory, kills, exchange, torn, start
):
    out = tmp_path_factory.mktemp("kills") / "out"
    shutil.copytree(place / start, out)
    for kill in kills if start == "a" else [half_written]:
        kill(place, out)
    for kill in filter(None, [half_written if torn else None, exchange]):
        kill(place, out)
    found_by_users = start == "a" and publishing not in kills
    before = tree(out)
    would = clean(out, dry=True)
    assert tree(out) == before
    cleaned = clean(out)
    assert {one.path for one in cleaned.removed} >= {one.path for one in would.removed}
    assert clean(out).removed == []
    final, new = out / "scene", exchange in (exchanged_by_half, exchanged)
    if found_by_users or new:
        assert_whole(final, place / ("b" if new else "a") / "scene")
    assert run_here(job(place, out, 1.0 if new else 0.0))["complete"]
    assert_whole(final, place / ("b" if new else "a") / "scene")


def assert_whole(final: Path, like: Path) -> None:
    assert tree(final / "mask.zarr") == tree(like / "mask.zarr")
    for name in ("mask.tif", "quicklook.png"):
        assert (final / name).read_bytes() == (like / name).read_bytes()


def test_a_finished_result_has_no_leftover(out):
    before = tree(out)
    assert clean(out).as_dict() == {"removed": [], "held": [], "foreign": [], "bytes": 0}
    assert tree(out) == before


def test_what_goes_is_named_with_its_bytes_and_why(place, out):
    staged_source(place, out)
    half_written(place, out)
    would, said = clean(out, dry=True).as_dict(), clean(out).as_dict()
    assert would == said
    assert said["bytes"] == 10 + 4 * 4
    assert {one["reason"] for one in said["removed"]} == {
        "what was staged for a result that is published",
        "a file that was never finished",
    }
    assert not (out / "scene" / ".stage").exists()


def test_what_a_run_holds_is_left(place, out):
    staged_source(place, out)
    before = tree(out / "scene")
    with Lease.acquire(out / ".leases" / "scene", "a run of scene"):
        said = clean(out)
    assert (said.removed, len(said.held)) == ([], 1)
    assert tree(out / "scene") == before
    assert paths(clean(out)) == {".stage"}


def test_a_ledger_without_a_plan_goes_unless_somebody_put_a_file_there(out):
    (out / "begun" / "ledger").mkdir(parents=True)
    (out / "begun" / "ledger" / JOURNAL).write_bytes(b"")
    (out / "mine" / "ledger").mkdir(parents=True)
    (out / "mine" / "ledger" / "accounts.ods").write_bytes(b"mine")
    (out / "yours" / "ledger").mkdir(parents=True)
    (out / "yours" / "notes.txt").write_bytes(b"yours")
    assert paths(clean(out)) == {"begun"}
    assert not (out / ".leases" / "begun").exists()
    assert (out / "mine" / "ledger" / "accounts.ods").exists()
    assert (out / "yours" / "notes.txt").exists()


def test_leases_of_scenes_that_are_gone_go(out):
    shutil.rmtree(out / "scene")
    assert paths(clean(out)) == {"scene"}
    assert not (out / ".leases" / "scene").exists()


def test_what_is_not_ours_is_named_and_left(place, out, tmp_path):
    (out / "holiday.jpg").write_bytes(b"mine")
    (out / "photos").mkdir()
    (out / "scene" / "notes.txt").write_bytes(b"mine")
    (out / ".x.new").mkdir()
    outside = tmp_path / "outside"
    shutil.copytree(out / "scene", outside)
    (outside / PARTIAL).write_bytes(b"half")
    (out / "linked").symlink_to(outside)
    before = tree(tmp_path)
    said = clean(out)
    assert said.removed == []
    assert {Path(one).name for one in said.foreign} == {"holiday.jpg", "photos", "notes.txt", ".x.new", "linked"}
    assert tree(tmp_path) == before


def test_half_written_reports_go_when_nobody_can_be_writing_them(out):
    young, old = out / PARTIAL, out / PARTIAL.replace("0", "1")
    for path in (young, old):
        path.write_bytes(b"half")
    then = time.time() - QUIET_SECONDS - 60
    os.utime(old, (then, then))
    assert paths(clean(out)) == {old.name}
    assert young.exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(SceneError, match="holds no results of maskmill"):
        clean(tmp_path)
