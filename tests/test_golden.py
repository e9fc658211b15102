"""The golden scene comes out as it did, or no block of the night is begun."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
import rasterio

from pipeline.grid import Rect
from pipeline.store.sink import Sink
from pipeline.verify import compare_stores
from tests.cards import network
from tests.mill import last_json, maskmill, world, write_job


@pytest.fixture
def night(tmp_path, warm):
    """A job of one scene, with a golden result that is right, and a way to run it."""
    job = world(tmp_path, scenes=2) | {"cluster": "inline"}
    write_job(tmp_path, {**job, "scenes": ["scene1.tif"], "out": "trusted"})
    done = warm.run("run", "--job", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "archive").mkdir()
    shutil.move(tmp_path / "scene0.tif", tmp_path / "archive")
    return Night(tmp_path, {**job, "scenes": ["archive/scene0.tif"], "golden": "trusted/scene1"}, warm)


class Night:
    def __init__(self, folder, job, warm):
        self.folder, self.job, self.warm = folder, job, warm
        self.out, self.golden = folder / "out", folder / "trusted" / "scene1"

    def run(self, *arguments, **more):
        write_job(self.folder, self.job | more)
        return self.warm.run("run", "--job", "job.yaml", "--json", *arguments, cwd=self.folder)

    def refused(self, match, **more):
        done = self.run(**more)
        assert done.returncode == 2, done.stdout
        assert match in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("Nothing is begun.") == 1
        assert not (self.out / "scene0").exists()
        assert not list(self.out.glob(".golden-*"))


def forge(golden, how_many):
    """Change some pixels of a result as another network would have made it."""
    sink = Sink(golden / "mask.zarr")
    rect = Rect(0, 0, 32, 32)
    pixels = sink.read("mask", rect)
    pixels.ravel()[:how_many] = 1 - pixels.ravel()[:how_many]
    sink.put("mask", rect, pixels)


def test_a_night_begins_when_it_comes_out_as_it_did(night):
    done = night.run()
    assert done.returncode == 0, done.stderr
    assert [row["scene"] for row in last_json(done)["scenes"]] == ["scene0"]
    assert (night.out / "scene0" / "mask.tif").is_file()
    assert not list(night.out.glob(".golden-*"))


def test_one_pixel_that_differs_is_enough(night):
    forge(night.golden, 1)
    night.refused("1 of 9216 pixels differ, and 0 may")


def test_another_network_is_refused_with_what_is_another(night):
    weights = np.array([[-1, 0, 1], [1, 0, -1]], np.float32).reshape(2, 3, 1, 1)
    onnx.save(network(3, 2, weights=weights), night.folder / "net.onnx")
    night.refused("Not the same as then: model.")


def test_on_another_numeric_class_it_has_to_agree(night):
    plan = night.golden / "ledger" / "plan.json"
    said = json.loads(plan.read_text())
    said["identity"]["numeric class"] = "another machine"
    plan.write_text(json.dumps(said))
    forge(night.golden, 9)
    assert night.run().returncode == 0
    shutil.rmtree(night.out)
    forge(night.golden, 19)  # ten more: the first nine are as they were
    night.refused("10 of 9216 pixels differ, and 9 may")


def test_another_image_is_seen(night):
    with rasterio.open(night.folder / "scene1.tif", "r+") as image:
        image.write(255 - image.read())
    night.refused("Not the same as then: source")


def test_what_cannot_be_compared_is_told(night):
    night.refused("holds no result", golden="nowhere")
    (night.folder / "scene1.tif").unlink()
    night.refused("The golden scene scene1 cannot be done")
    shutil.rmtree(night.golden / "mask.zarr")
    night.refused("scene1")


@pytest.mark.slow
def test_prefect_proves_it_too_and_once(night, tmp_path):
    shutil.copy(night.folder / "archive" / "scene0.tif", night.folder / "archive" / "more.tif")
    # Two parts, for what has bands of its own is one by itself:
    file = str(night.folder / "archive" / "more.tif")
    bands = {name: {"file": file, "band": place} for place, name in enumerate(("red", "green", "blue"), 1)}
    scenes = ["archive/scene0.tif", {"name": "more", "uri": "archive", "bands": bands}]
    write_job(night.folder, night.job | {"scenes": scenes})
    run = ("run", "--job", "job.yaml", "--json", "--prefect")
    done = maskmill(*run, cwd=night.folder, PREFECT_HOME=str(tmp_path / "prefect"))
    assert done.returncode == 0, done.stderr
    assert {row["scene"] for row in last_json(done)["scenes"]} == {"scene0", "more"}
    shutil.rmtree(night.out)
    forge(night.golden, 1)
    done = maskmill(*run, cwd=night.folder, PREFECT_HOME=str(tmp_path / "prefect"))
    assert done.returncode == 2, done.stderr
    assert "1 of 9216 pixels differ" in done.stderr
    assert not (night.out / "scene0").exists()
    assert not (night.out / "more").exists()


def test_stores_of_other_sizes_are_not_compared(night):
    from pipeline.errors import IdentityError

    job = {**night.job, "scenes": ["small.tif"], "out": "small"}
    del job["golden"]
    with rasterio.open(night.folder / "scene1.tif") as image:
        profile = image.profile | {"width": 64}
        with rasterio.open(night.folder / "small.tif", "w", **profile) as small:
            small.write(image.read()[..., :64])
    write_job(night.folder, job)
    assert night.warm.run("run", "--job", "job.yaml", cwd=night.folder).returncode == 0
    stores = night.golden / "mask.zarr", night.folder / "small" / "small" / "mask.zarr"
    assert compare_stores(stores[0], stores[0], exact=True) == (96 * 96, 0)
    with pytest.raises(IdentityError, match="96 × 96, and what is made of its image now 96 × 64"):
        compare_stores(*stores, exact=True)


def test_values_may_round_otherwise_on_another_numeric_class():
    from pipeline.verify import _differ

    had = np.array([[0.0, 1.0, np.nan]], np.float32)
    new = had + np.float32(1e-3)
    assert _differ("values", new, had, exact=True).tolist() == [[True, True, False]]
    assert not _differ("values", new, had, exact=False).any()
