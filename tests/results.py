"""A folder of results to be catalogued, one real run under several names; and the catalogue as a client sees it."""

import json
import shutil
from pathlib import Path
from urllib.parse import urljoin

import pyarrow.parquet as pq

from pipeline.index import NAME
from pipeline.settings import Job
from tests.oracle import noise, run_here, save_model, save_scene, small_unet


def make_one(place, name="scene", **profile):
    """Run a small scene for real; returns the folder of results."""
    save_model(place / "model.onnx", small_unet())
    save_scene(place / f"{name}.tif", noise(70, 90), **profile)
    run_here(Job(scenes=(str(place / f"{name}.tif"),), model=str(place / "model.onnx"), out=place / "out", window=76))
    return place / "out"


def copy_result(out, there, name, **scene):
    """A result like another, under another name; `scene` replaces what is noted of the scene."""
    shutil.copytree(there, out / name)
    note(out, name, **scene)
    return name


def note(out, name, **scene):
    """Change what is noted of a result's scene."""
    file = Path(out) / name / "ledger" / "about.json"
    said = json.loads(file.read_text())
    said["scene"] |= scene
    file.write_text(json.dumps(said))


def walk(out):
    """Items by name, found from the root by links alone; every link must lead to a file."""
    found = {}

    def follow(path):
        said = json.loads(path.read_bytes())
        for link in said["links"]:
            there = Path(urljoin(str(path), link["href"]))
            if link["rel"] in {"child", "item", "root", "parent"}:
                assert there.is_file(), f"{path}: {link}"
            if link["rel"] == "child":
                follow(there)
            if link["rel"] == "item":
                item = json.loads(there.read_bytes())
                assert item["id"] == link["title"]
                for each in item["links"]:
                    if each["rel"] in {"root", "parent"} or each.get("type") == "application/geo+json":
                        assert (there.parent / each["href"]).is_file(), f"{there}: {each}"
                found.setdefault(item["id"], []).append(item)

    root = out / "catalogue" / "catalog.json"
    if root.exists():
        follow(root)
    return found


def rows(out):
    """The index's rows, by name; None where there is no index."""
    file = out / NAME
    return {row["id"]: row for row in pq.read_table(file).to_pylist()} if file.exists() else None


def files(out):
    """Every file of the catalogue but half-written ones, by its path; and the index's rows."""
    there = {path for path in (out / "catalogue").rglob("*") if path.is_file() and not path.name.endswith(".partial")}
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(there)}, rows(out)
