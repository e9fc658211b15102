"""Scenes from patterns, folders and lists: which there are, what they are called, which must wait."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.listing import listed
from flows.sources.listed import LeftOut
from flows.sources.names import Taken, name_of
from flows.tasks import run_job
from pipeline.document import load_job
from pipeline.errors import SceneError, SettingsError
from pipeline.raster.naming import demand_name
from pipeline.settings import Job
from tests.mill import world

OLD = time.time() - 3600


def touched(folder, *names, at=OLD):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        for place in (path, *path.parents):
            if place == folder:
                break
            os.utime(place, (at, at))
    return folder


def job_of(*scenes, **more):
    return Job(scenes=scenes, model="m", out=more.pop("out", "out"), **more)


def names(*scenes, left=None, **more):
    return [one.entry.name for one in listed(job_of(*scenes, **more), left)]


# Names

PARTS = st.text("ab-_. é", min_size=1, max_size=5).filter(lambda part: part.strip(". ") == part)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@given(PATHS, PATHS)
def test_a_name_is_a_paths_own_and_fit_for_a_folder(one, other):
    demand_name(name_of(f"{one}.tif"))
    assert (name_of(f"{one}.tif") == name_of(f"{other}.tif")) == (one == other)
    assert (name_of(f"{one}.png", ending=True) == name_of(f"{other}.png", ending=True)) == (one == other)


def test_names_are_readable_where_nothing_forbids_it():
    assert name_of("a.tif") == "a"
    assert name_of("north/2026/a.TIFF") == "north--2026--a"
    assert (name_of("a.png"), name_of("a.png", ending=True)) == ("a.png", "a")
    assert name_of("x/S2A_1.SAFE") == "x--S2A_1"
    assert name_of("LC09_1_MTL.txt") == "LC09_1"
    assert name_of("a b.tif").startswith("a_b-")
    assert len(name_of("a" * 300 + ".tif")) == 200
    assert name_of("a.tif", before="north") == "north--a"


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 2)), max_size=4000))
def test_a_name_is_given_once(asked):
    taken, given_to = Taken(), {}
    for name, thing in asked:
        expected = True if name not in given_to else None if given_to[name] == thing else False
        given_to.setdefault(name, thing)
        assert taken.give(str(name), str(thing)) is expected


# Patterns

TREES = st.sets(
    st.lists(st.sampled_from(["a", "b", ".h", "a.tif", "b.tif", "[1].tif"]), min_size=1, max_size=3).map("/".join)
)
PATTERNS = st.sampled_from(
    ["*.tif", "**/*.tif", "a/*.tif", "*/a.tif", "**/a.tif", "a/**/b.tif", "*/*/?.tif", "**/.h/*.tif", "[ab]/*.tif"]
)


@given(TREES, PATTERNS)
def test_a_pattern_takes_what_glob_takes(tmp_path_factory, tree, pattern):
    folder = tmp_path_factory.mktemp("tree")
    for name in sorted(tree, key=len, reverse=True):
        path = folder / name
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    said = f"{folder}/{pattern}"
    meant = {path for path in glob.glob(said, recursive=True) if Path(path).is_file()}  # noqa: PTH207  # the oracle
    left = LeftOut()
    scenes = listed(job_of(said, settle=0), left)
    if not meant:
        with pytest.raises(SceneError, match=r"No file matches|does not exist|is not a folder"):
            list(scenes)
        return
    found = [one.entry.uri for one in scenes]
    assert len(found) == len(set(found))
    assert set(found) == meant
    assert not left.problems


# Folders


def test_a_folder_is_walked_and_what_is_one_scene_is_one(tmp_path):
    touched(
        tmp_path,
        *("a.tif", "a.tif.aux.xml", "a.tif.ovr", "notes.txt", "b/a.tif", "b/.hidden.tif", ".trash/x.tif", "b/c.png"),
        *("S2A.SAFE/MTD_MSIL2A.xml", "S2A.SAFE/GRANULE/T/IMG_DATA/B04.jp2", "half.SAFE/GRANULE/B04.jp2"),
        *("LC09_1/LC09_1_MTL.txt", "LC09_1/LC09_1_B4.TIF"),
        *("two/LC08_1_MTL.txt", "two/LC08_1_MTL.json", "two/LC08_1_B4.TIF", "two/LC08_2_MTL.txt", "two/LC08_2_B4.TIF"),
        *("coming/LC08_3_B4.TIF", "coming/LC08_3_SR_B5.TIF"),  # its MTL file is not there yet
        *("slide/1.dcm", "slide/2.dcm", "s.mrxs", "s/Slidedat.ini", "v.vms", "v_1.jpg", "w.jpg", "z.zarr/zarr.json"),
        *("done/ledger/plan.json", "done/mask.zarr/zarr.json", "done/mask.tif", "out/x/mask.tif"),
    )
    (tmp_path / "b/loop").symlink_to(tmp_path)
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere")
    left = LeftOut()
    found = {one.entry.name: one.entry.uri for one in listed(job_of(str(tmp_path), out=tmp_path / "out"), left)}
    assert not left.problems
    assert " ".join(sorted(found)) == (
        "LC09_1 S2A a b--a b--c.png half s.mrxs slide two--LC08_1 two--LC08_2 v.vms w.jpg z.zarr"
    )
    assert found["slide"] == f"{tmp_path}/slide/1.dcm"
    assert found["two--LC08_1"] == f"{tmp_path}/two/LC08_1_MTL.txt"
    assert found["LC09_1"] == f"{tmp_path}/LC09_1"


def test_a_new_file_renames_no_other(tmp_path):
    before = set(names(str(touched(tmp_path, "a.tif", "b/a.tif"))))
    assert before < set(names(str(touched(tmp_path, "a.png", "c/a.tif", "b-a.tif", "b--a.tif"))))


def test_a_folder_that_is_one_scene_is_that_scene(tmp_path):
    touched(tmp_path, "A.SAFE/MTD_MSIL2A.xml", "slide/2.dcm", "slide/1.dcm", "bands/x_red.tif", "more/n/x_red.tif")
    assert names(str(tmp_path / "A.SAFE"), str(tmp_path / "slide")) == ["A", "slide"]
    bands = {"red": {"file": "*_red.tif"}}
    assert names(str(tmp_path / "bands"), str(tmp_path / "more"), bands=bands) == ["bands", "n"]


def test_a_source_may_stand_before_its_names(tmp_path):
    touched(tmp_path, "n/a.tif", "s/a.tif")
    north, south = {"folder": str(tmp_path / "n")}, {"folder": str(tmp_path / "s")}
    left = LeftOut()
    assert names(north, south, left=left) == ["a"]
    assert ["is left out: another scene is called a already" in said for said in left.problems] == [True]
    assert names(north, {**south, "name": "south"}) == ["a", "south--a"]
    assert names(str(tmp_path / "n/*.tif"), north, str(tmp_path / "n/a.tif")) == ["a"]  # one scene, said three times
    assert names({**north, "pattern": "*.png"}, left=left) == []
    assert f"There is no scene in {tmp_path / 'n'}." in left.notes()


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(SceneError, match="does not exist: check the path"):
        names({"folder": str(tmp_path / "none")})
    touched(tmp_path, "a.tif", "b/a.tif")
    with pytest.raises(SettingsError, match="Two scenes would be called a"):
        names(str(tmp_path / "a.tif"), str(tmp_path / "b/a.tif"))


# What waits


def test_what_has_just_changed_waits_and_that_is_said(tmp_path):
    now = time.time()
    touched(tmp_path, "old.tif", "A.SAFE/MTD_MSIL2A.xml")
    touched(tmp_path, "new.tif", "A.SAFE/GRANULE/B04.jp2", at=now - 60)
    touched(tmp_path, "wrong.tif", at=now + 10**7)  # a clock that says nothing
    touched(tmp_path, "ahead.tif", at=now + 600)
    left = LeftOut()
    assert names({"folder": str(tmp_path)}, left=left) == ["old", "wrong"]
    assert left.waiting == 3
    assert left.counts_at == pytest.approx(now + 900, abs=1)
    (note,) = left.notes()
    assert note.startswith("3 scenes have changed a moment ago")
    assert "A, ahead, new. `settle: 0` takes them now." in note
    assert datetime.fromtimestamp(left.counts_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") in note
    assert len(names(f"{tmp_path}/*.tif", settle=0)) == 4
    assert names(f"{tmp_path}/*.tif", settle=0.5) == ["new", "old", "wrong"]
    new = str(tmp_path / "new.tif")
    assert names(new) == ["new"]  # who names a file means it
    assert names(new, settle=5) == []


def test_files_in_a_folder_are_stamped(tmp_path):
    touched(tmp_path, "a.tif", "A.SAFE/MTD_MSIL2A.xml", "A.SAFE/x.jp2")
    stamps = {one.entry.name: one.stamp for one in listed(job_of(str(tmp_path)))}
    assert stamps["a"].modified == pytest.approx(OLD, abs=1e-3)
    assert (stamps["a"].size, stamps["A"].size) == (1, 2)


# Lists


def test_a_list_names_scenes_relative_to_itself(tmp_path):
    touched(tmp_path, "in/a.tif", "b.tif")
    text = tmp_path / "scenes.txt"
    text.write_text(f"# all\n\nin/a.tif\n  {tmp_path}/b.tif\ns3://bucket/north/c.tif\n../d.tif\n")
    found = list(listed(job_of(str(text))))
    assert [one.entry.name for one in found] == ["in--a", "b", "c", "d"]
    assert [one.entry.uri for one in found][:3] == [
        f"{tmp_path}/in/a.tif",
        f"{tmp_path}/b.tif",
        "s3://bucket/north/c.tif",
    ]
    assert [one.stamp.size for one in found] == [1, 1, None, None]


def test_a_table_says_names_and_times(tmp_path):
    rows = {"uri": ["a.tif", "b.tif"], "name": ["north", None], "taken": ["2026-05-01T10:00:00+02:00", None]}
    pq.write_table(pa.table(rows), tmp_path / "scenes.parquet")
    (tmp_path / "scenes.csv").write_text("name,uri,taken\nnorth,a.tif,2026-05-01T10:00:00+02:00\n,b.tif,\n")
    for file in ("scenes.parquet", "scenes.csv"):
        found = list(listed(job_of({"list": str(tmp_path / file)})))
        assert [(one.entry.name, Path(one.entry.uri).name) for one in found] == [("north", "a.tif"), ("b", "b.tif")]
        assert [one.taken for one in found] == [datetime(2026, 5, 1, 8, tzinfo=UTC), None]


def test_a_row_that_is_wrong_is_left_out_and_told(tmp_path):
    path = tmp_path / "scenes.csv"
    path.write_text("uri,name,taken\na.tif,../x,\n,,\nc.tif,,soon\nd.tif,d,\n/other/d.tif,,\n")
    left = LeftOut()
    assert names(str(path), left=left) == ["d"]
    assert [said.partition(":")[0] for said in left.problems[:3]] == [
        f"Row {row} of the list {path} is left out" for row in (2, 3, 4)
    ]
    assert "another scene is called d already" in left.problems[3]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"name,file\nx,y\n", "has no column `uri`: it has name, file"),
        ("a.csv", b"", "has no column `uri`"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_what_is_no_list_is_one_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneError, match=said):
        names(str(tmp_path / name))


@pytest.mark.slow
def test_a_million_scenes_are_listed_in_flat_memory(tmp_path):
    path = tmp_path / "scenes.txt"
    with path.open("w") as lines:
        lines.writelines(f"s3://bucket/{'x' * 60}/{number}.tif\n" for number in range(10**6))
    code = """if True:
        import resource, sys
        from flows.listing import listed
        from pipeline.settings import Job
        for count, _ in enumerate(listed(Job(scenes=(sys.argv[1],), model="m", out="out")), start=1):
            if count in (10_000, 1_000_000):
                print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    few, many = (int(line) << 10 for line in done.stdout.split())
    # Two tables of 64-bit numbers, and their growing; the paths alone would take 140 MiB.
    assert many - few < 64 << 20


# From the job file to the masks


def test_a_folder_is_done_and_what_waits_is_for_another_run(tmp_path, caplog):
    said = world(tmp_path, scenes=2)
    for number, at in ((0, OLD), (1, time.time())):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
        image = (tmp_path / f"scene{number}.tif").rename(tmp_path / "in" / str(number) / "scene.tif")
        os.utime(image, (at, at))
    flags = {**said, "scenes": [{"folder": str(tmp_path / "in")}], "model": str(tmp_path / "net.onnx")}
    job = load_job(None, {**flags, "out": tmp_path / "out", "cluster": "inline"})
    report = run_job(job)
    assert [scene["scene"] for scene in report.scenes] == ["0--scene"]
    assert report.exit_code == 0
    assert (tmp_path / "out/0--scene/mask.tif").is_file()
    assert "1 scene has changed a moment ago" in caplog.text
    (tmp_path / "in/0/scene.tif").rename(tmp_path / "scene.tif")
    empty = run_job(job)
    assert (empty.scenes, empty.exit_code) == ((), 0)
