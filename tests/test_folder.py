"""A scene's folder after a kill at any instant of publishing or replacing, each state built by hand; and strangers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import IdentityError, SceneError, SettingsError
from pipeline.folder import Folder, exchange_interrupted
from pipeline.settings import Job
from pipeline.store.ledger import JOURNAL
from tests.oracle import do_blocks, noise, opened, run_here, save_model, save_scene, small_unet, tree

FILES = ("mask.tif", "quicklook.png", "report.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    save_model(folder / "model.onnx", small_unet())
    save_scene(folder / "scene.tif", noise(150, 200))
    for out, fill in (("a", 0.0), ("b", 1.0)):
        assert run_here(job(folder, folder / out, fill))["complete"]
    return folder


def job(place: Path, out: Path, fill: float = 0.0, **said: object) -> Job:
    """A job whose result depends on `fill`."""
    sides = {"window": 76, "block": 128, "card": {"fill": fill}, "device": "cpu"}
    return Job(scenes=(str(place / "scene.tif"),), model=str(place / "model.onnx"), out=out, **sides, **said)


@pytest.fixture
def out(place, tmp_path):
    """A folder with a finished result."""
    shutil.copytree(place / "a", tmp_path / "out")
    return tmp_path / "out"


def assert_finished(out: Path, like: Path) -> None:
    """What users find is a result, whole, and nothing else lies there."""
    assert tree(out / "scene" / "mask.zarr") == tree(like / "scene" / "mask.zarr")
    assert (out / "scene" / "mask.tif").read_bytes() == (like / "scene" / "mask.tif").read_bytes()
    assert {entry.name for entry in out.iterdir()} == {".leases", "scene"}
    assert {entry.name for entry in (out / "scene").iterdir()} == {"ledger", "mask.zarr", *FILES}


def forget_publishing(scene: Path) -> None:
    """Take the last line out of a finished journal."""
    *lines, last = (scene / "ledger" / JOURNAL).read_bytes().splitlines(keepends=True)
    assert b"published" in last
    (scene / "ledger" / JOURNAL).write_bytes(b"".join(lines))


def unpublish(scene: Path, moved: int) -> None:
    """Back to an instant of the first publishing, when `moved` files had been moved into place."""
    forget_publishing(scene)
    products = scene / ".stage" / "products"
    products.mkdir(parents=True)
    (scene / "mask.zarr").rename(scene / ".stage" / "mask.zarr")
    for name in FILES[moved:]:
        (scene / name).rename(products / name)


@pytest.mark.parametrize("moved", range(len(FILES) + 1))
def test_a_kill_between_the_files_of_a_publishing_is_recovered(place, out, moved):
    unpublish(out / "scene", moved)
    assert run_here(job(place, out))["complete"]
    assert_finished(out, place / "a")


@pytest.mark.parametrize("stage", [True, False])
def test_a_kill_after_the_last_rename_of_a_publishing_is_recovered(place, out, stage):
    forget_publishing(out / "scene")
    if stage:
        (out / "scene" / ".stage" / "products").mkdir(parents=True)
    assert run_here(job(place, out))["complete"]
    assert_finished(out, place / "a")


def test_a_kill_while_a_published_hierarchy_is_copied_is_recovered(place, out):
    (out / "scene" / "mask.tif").unlink()
    copy = out / "scene" / ".stage" / "mask.zarr.copy"
    shutil.copytree(out / "scene" / "mask.zarr" / "mask", copy / "mask")
    assert run_here(job(place, out))["complete"]
    assert_finished(out, place / "a")


def test_a_kill_between_the_two_renames_of_a_hierarchy_that_is_published_again_is_recovered(place, out):
    scene = out / "scene"
    (scene / ".stage").mkdir()
    shutil.copytree(scene / "mask.zarr", scene / ".stage" / "mask.zarr")
    (scene / "mask.zarr").rename(scene / ".stage" / "mask.zarr.replaced")
    assert run_here(job(place, out))["complete"]
    assert_finished(out, place / "a")


def test_a_kill_before_the_stage_of_a_second_publishing_is_cleared_leaves_nothing_for_ever(place, out):
    scene = out / "scene"
    shutil.copytree(scene / "mask.zarr", scene / ".stage" / "mask.zarr.replaced")
    assert run_here(job(place, out))["complete"]
    assert_finished(out, place / "a")


# One result in the place of another


def beside(place: Path, out: Path) -> Path:
    """A finished result beside the one that is there, as --overwrite makes it."""
    shutil.copytree(place / "b" / "scene", out / ".scene.new")
    return out / ".scene.new"


def kill_before_the_exchange(place: Path, out: Path) -> None:
    beside(place, out)


def kill_while_an_older_one_is_cleared_away(place: Path, out: Path) -> None:
    beside(place, out)
    (out / ".scene.old" / "mask.zarr").mkdir(parents=True)


def kill_between_the_renames(place: Path, out: Path) -> None:
    beside(place, out)
    (out / "scene").rename(out / ".scene.old")


def kill_before_the_old_one_is_cleared_away(place: Path, out: Path) -> None:
    (out / "scene").rename(out / ".scene.old")
    beside(place, out).rename(out / "scene")


def kill_while_the_old_one_is_cleared_away(place: Path, out: Path) -> None:
    kill_before_the_old_one_is_cleared_away(place, out)
    shutil.rmtree(out / ".scene.old" / "mask.zarr")


KILLS = [
    kill_before_the_exchange,
    kill_while_an_older_one_is_cleared_away,
    kill_between_the_renames,
    kill_before_the_old_one_is_cleared_away,
    kill_while_the_old_one_is_cleared_away,
]


@pytest.mark.parametrize("kill", KILLS)
def test_a_replacing_that_was_killed_is_finished_by_the_same_command(place, out, kill):
    kill(place, out)
    assert run_here(job(place, out, 1.0, overwrite=True))["complete"]
    assert_finished(out, place / "b")


@pytest.mark.parametrize("kill", KILLS)
def test_after_a_replacing_that_was_killed_users_find_one_of_the_two_whole(place, out, kill):
    kill(place, out)
    stands = "a" if kill in KILLS[:2] else "b"
    assert run_here(job(place, out, 0.0 if stands == "a" else 1.0))["complete"]
    shutil.rmtree(out / ".scene.new", ignore_errors=True)
    assert not exchange_interrupted(out, "scene")
    assert_finished(out, place / stands)


def test_an_unfinished_replacement_of_another_identity_is_discarded(place, out):
    with opened(job(place, out, overlap=0.5, overwrite=True)) as run:
        do_blocks(run, run.todo[:2])
    assert (out / ".scene.new").exists()
    assert run_here(job(place, out, 1.0, overwrite=True))["complete"]
    assert_finished(out, place / "b")


# Strangers


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_a_scenes_place_is_refused_and_stays(place, tmp_path, overwrite):
    (tmp_path / "scene").write_text("a letter")
    with pytest.raises(SettingsError, match="scene is a file"):
        opened(job(place, tmp_path, overwrite=overwrite))
    assert tree(tmp_path) == {"scene": b"a letter"}


def test_a_folder_that_holds_something_else_is_refused_and_stays(place, tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "letter.txt").write_text("dear")
    with pytest.raises(IdentityError, match=r"holds letter\.txt and no ledger"):
        opened(job(place, tmp_path))
    assert tree(tmp_path) == {"scene/letter.txt": b"dear"}


def test_an_empty_folder_is_taken(place, tmp_path):
    (tmp_path / "scene").mkdir()
    assert run_here(job(place, tmp_path))["complete"]
    assert_finished(tmp_path, place / "a")


@pytest.mark.parametrize("harm", ["", "{}", '{"identity": {}}', "[1]", "{", "[" * 9000])
def test_a_damaged_plan_is_told_and_can_be_replaced(place, out, harm):
    file = out / "scene" / "ledger" / "plan.json"
    file.write_text(harm)
    with pytest.raises(IdentityError, match=r"plan\.json is damaged.*--overwrite"):
        opened(job(place, out))
    with pytest.raises(SettingsError, match="holds no result"):
        Folder(out, "scene").asked()
    assert run_here(job(place, out, overwrite=True))["complete"]
    assert_finished(out, place / "a")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", ".scene.new", "x" * 201])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(SceneError, match="cannot be called"):
        Folder(tmp_path, name)


def test_what_is_frozen_comes_back(place):
    folder = Folder(place / "a", "scene")
    identity, choices = folder.choices()
    assert identity == json.loads((place / "a" / "scene" / "report.json").read_text())["identity"]
    assert (choices.core, choices.block) == (64, 128)
    asked = Job.model_validate(folder.asked())
    assert asked.model_copy(update={"scenes": (str(place / "scene.tif"),)}) == job(place, place / "a")
    assert Path(asked.scenes[0].uri).is_absolute()


def test_a_plan_of_another_format_is_refused_with_both_numbers(place, out):
    file = out / "scene" / "ledger" / "plan.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    for look in (Folder(out, "scene").choices, Folder(out, "scene").asked):
        with pytest.raises(IdentityError, match="is of format 2 and this version reads 1"):
            look()
    assert run_here(job(place, out, overwrite=True))["complete"]
    assert_finished(out, place / "a")
