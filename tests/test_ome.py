"""The mask of a slide as an OME-Zarr 0.5 image-label, by the rules of the specification, and as others read it."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rioxarray  # noqa: F401 - it gives xarray its `rio`
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid import Grid, Rect
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product, create, levels
from pipeline.store.ome import image_label
from pipeline.store.sink import Sink

GRID = Grid(1501, 1100, stride=4, core=128, margin=4, block=512)
CLASSES = [(0, "stroma", "#ff8000"), (1, "tumour", "#0000ff"), (7, "other", "#102030")]
SLIDE = Georef(None, (0.5, 0.0, 0.0, 0.0, 0.25, 0.0), slide=True)


def lay_out(folder, place):
    path = folder / "mask.zarr"
    create(path, GRID, [Product("mask"), Product("confidence")], 128, georef=place, classes=CLASSES)
    return path


def check_rules(path):
    """What OME-NGFF 0.5 demands of a group that is a multiscale image and an image-label."""
    group = zarr.open_group(path, mode="r")
    said = group.attrs["ome"]
    assert said["version"] == "0.5"
    (image,) = said["multiscales"]
    axes = image["axes"]
    assert 2 <= len(axes) <= 5
    assert len({axis["name"] for axis in axes}) == len(axes)
    assert [axis["type"] for axis in axes] == ["space", "space"]
    assert [axis["name"] for axis in axes] == ["y", "x"]
    arrays = [group[entry["path"]] for entry in image["datasets"]]
    for entry, array in zip(image["datasets"], arrays, strict=True):
        assert array.ndim == len(axes)
        assert array.metadata.zarr_format == 3
        assert list(array.metadata.dimension_names) == [axis["name"] for axis in axes]
        assert array.dtype.kind in "ui"  # of a label image
        first, *rest = entry["coordinateTransformations"]
        assert first["type"] == "scale"
        assert len(first["scale"]) == array.ndim
        assert [(one["type"], len(one["translation"])) for one in rest] == [("translation", array.ndim)]
    sides = [array.shape for array in arrays]
    assert sides == sorted(sides, reverse=True)
    label = said["image-label"]
    for key in ("colors", "properties"):
        values = [entry["label-value"] for entry in label[key]]
        assert values == [value for value, _, _ in CLASSES]
    assert all(len(entry["rgba"]) == 4 and max(entry["rgba"]) <= 255 for entry in label["colors"])
    return image


def test_the_mask_of_a_slide_is_an_image_label(tmp_path):
    image = check_rules(lay_out(tmp_path, SLIDE))
    assert [entry["path"] for entry in image["datasets"]] == ["mask", "1/mask", "2/mask"]
    assert all(axis["unit"] == "micrometer" for axis in image["axes"])
    assert image["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [0.5, 1.0]},
        {"type": "translation", "translation": [0.125, 0.25]},
    ]


def test_the_rules_hold_for_a_slide_that_does_not_say_its_micrometres(tmp_path):
    image = check_rules(lay_out(tmp_path, Georef(slide=True)))
    assert not any("unit" in axis for axis in image["axes"])


@pytest.mark.slow
def test_the_models_of_the_specification_take_it(tmp_path):
    """In an environment of their own, for they do not bear our pydantic."""
    python = tmp_path / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "ome-zarr-models>=1.7"], capture_output=True)
    if installed.returncode:
        pytest.skip(f"ome-zarr-models cannot be had: {installed.stderr[-200:]}")
    code = "import sys, zarr; from ome_zarr_models.v05 import ImageLabel; "
    code += "print(ImageLabel.from_zarr(zarr.open_group(sys.argv[1], mode='r')).attributes.ome.version)"
    done = subprocess.run([python, "-c", code, lay_out(tmp_path, SLIDE)], capture_output=True, text=True)
    assert done.stdout.strip() == "0.5", done.stderr


@given(st.integers(1, 9), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_centre_has_the_same_place_at_every_level(count, down, across):
    said = image_label([str(level) for level in range(count)], (down, across), CLASSES)
    for level, entry in enumerate(said["multiscales"][0]["datasets"]):
        scale, shift = (one[one["type"]] for one in entry["coordinateTransformations"])
        # The centre of pixel k of a level is the middle of the pixels of level 0 that it covers.
        for axis, side in enumerate((down, across)):
            first, last = 3 * 2**level, 4 * 2**level - 1
            assert np.isclose(3 * scale[axis] + shift[axis], (first + last) / 2 * side)


def test_only_slides_are_images_of_microscopy(tmp_path):
    said = json.loads((lay_out(tmp_path, Georef(None, SLIDE.transform)) / "zarr.json").read_text())["attributes"]
    assert "ome" not in said


def test_xarray_reads_a_slide_in_micrometres(tmp_path):
    path = lay_out(tmp_path, SLIDE)
    pixels = np.random.default_rng(0).integers(0, 3, (512, 512)).astype(np.uint8)
    Sink(path).put("mask", Rect(0, 0, 512, 512), pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)
        found = xarray.open_zarr(path, decode_coords="all", chunks=None, consolidated=False)
    assert found["mask"].x.attrs["units"] == "micrometer"
    assert np.allclose(found["mask"].x[:2], [0.25, 0.75])
    assert np.allclose(found["mask"].y[:2], [0.125, 0.375])
    assert found["mask"].rio.crs is None
    assert tuple(found["mask"].rio.transform())[:6] == SLIDE.transform
    assert np.array_equal(found["mask"][:512, :512], pixels)
    assert len(levels(GRID.height, GRID.width)) == 3
