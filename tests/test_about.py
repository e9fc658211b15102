"""What is noted of a result: as it was when a run last opened it."""

import json
import os

from pipeline.about import FILE, read
from pipeline.settings import Job
from tests.oracle import opened, run_here
from tests.results import make_one


def test_a_run_that_finds_nothing_to_do_notes_what_the_files_are_like_now(tmp_path):
    out = make_one(tmp_path)
    ledger, image = out / "scene" / "ledger", tmp_path / "scene.tif"
    before = read(ledger)
    assert [(one["size"], one["version"]) for one in before["scene"]["files"]] == [
        (image.stat().st_size, str(image.stat().st_mtime_ns))
    ]
    written = (ledger / FILE).stat().st_mtime_ns
    job = Job(scenes=(str(image),), model=str(tmp_path / "model.onnx"), out=out)
    run_here(job)
    assert (ledger / FILE).stat().st_mtime_ns == written, "what is right is not written again"
    os.utime(image, ns=(10**18, 10**18))
    said = json.loads((ledger / FILE).read_bytes()) | {"software": {"maskmill": "of then"}}
    (ledger / FILE).write_text(json.dumps(said))
    run_here(job)
    after = read(ledger)
    assert after["scene"]["files"][0]["version"] == str(10**18)
    assert after["software"] == {"maskmill": "of then"}, "no block was done by the software of now"


def test_what_is_damaged_is_nothing(tmp_path):
    for data in (b"", b"[]", b"{}", b'{"format": 99}'):
        (tmp_path / FILE).write_bytes(data)
        assert read(tmp_path) is None


def test_it_is_noted_before_the_first_block(tmp_path):
    out = make_one(tmp_path)
    (out / "scene" / "ledger" / FILE).unlink()
    with opened(Job(scenes=(str(tmp_path / "scene.tif"),), model=str(tmp_path / "model.onnx"), out=out)):
        assert read(out / "scene" / "ledger")["scene"]["shape"] == [70, 90]
