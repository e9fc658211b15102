"""Masks scored in pieces against whole arrays: every pixel is accounted for, and a piece's rim changes nothing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models import scoring
from models.boundary import met, near
from models.evaluate import confusion, iou, kappa
from models.evaluation import How, Trio, evaluate
from pipeline.errors import SettingsError
from tests.evaluated import boundary_f1, put_labels, put_mask

CLASSES = {0: "sea", 1: "land", 7: "ice"}
VALUES = list(CLASSES)


@pytest.fixture
def pieces_of(monkeypatch):
    """Set the size of the pieces that a mask is scored in."""

    def set_size(rows, cols):
        monkeypatch.setattr(scoring, "ROWS", rows)
        monkeypatch.setattr(scoring, "COLS", cols)

    return set_size


def scored(folder, mask, labels, classes=CLASSES, how=None, **profile):
    files = put_mask(folder / "mask.tif", mask, classes), put_labels(folder / "labels.tif", labels, **profile)
    return evaluate([Trio("scene", files[0], str(files[1]))], how or How())


def blobs(draw, shape, values):
    """Values in patches, so that outlines are lines and not everywhere."""
    coarse = draw(hnp.arrays(np.uint8, (-(-shape[0] // 3), -(-shape[1] // 3)), elements=st.sampled_from(values)))
    fine = coarse.repeat(3, 0).repeat(3, 1)[: shape[0], : shape[1]].copy()
    for row, col in draw(st.lists(st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1)), max_size=4)):
        fine[row, col] = draw(st.sampled_from(values))
    return fine


@given(st.data())
@settings(max_examples=40)
def test_scores_of_pieces_are_those_of_the_whole(tmp_path_factory, data):
    shape = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    mask, labels = blobs(data.draw, shape, [*VALUES, 253, 254, 255]), blobs(data.draw, shape, [*VALUES, 255])
    tolerance = data.draw(st.integers(0, 3))
    sizes = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    told = (labels != 255) & (mask < 253)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "ROWS", sizes[0])
        patch.setattr(scoring, "COLS", sizes[1])
        how = How(ignored=("255",), tolerance=tolerance)
        if not told.any():
            with pytest.raises(SettingsError, match="No pixel has both"):
                scored(tmp_path_factory.mktemp("none"), mask, labels, how=how)
            return
        found = scored(tmp_path_factory.mktemp("pieces"), mask, labels, how=how)
    said = found.as_dict()
    places = np.zeros(256, np.uint8)
    places[VALUES] = range(3)
    matrix = confusion(places[labels[told]], places[mask[told]], 3)
    assert found.scenes[0].tally.scored[0].tolist() == matrix.tolist()
    assert said["scored"] == told.sum()
    assert said["kappa"] == pytest.approx(kappa(matrix), nan_ok=True) or np.isnan(kappa(matrix))
    for at, one in enumerate(said["classes"]):
        assert one["iou"] == (None if np.isnan(iou(matrix)[at]) else pytest.approx(iou(matrix)[at]))
        expected = boundary_f1(labels, mask, told, VALUES[at], tolerance)
        assert one["boundary_f1"] == (None if expected is None else pytest.approx(expected))
    counted = {
        "labels: ignored": labels == 255,
        **{
            f"mask: {name}": (mask == value) & (labels != 255)
            for name, value in (("failed", 253), ("outside", 254), ("nodata", 255))
        },
    }
    assert said["apart"] == {name: int(where.sum()) for name, where in counted.items() if where.any()}
    assert said["scored"] + sum(said["apart"].values()) == said["pixels"] == mask.size


@given(st.data())
@settings(max_examples=25)
def test_bands_of_classes_that_overlap_are_each_scored_alone(tmp_path_factory, data):
    shape = 9, 11
    bands = np.stack([blobs(data.draw, shape, [0, 1, 255]) for _ in range(2)])
    labels = blobs(data.draw, shape, [0, 1, 2])
    if not ((bands < 2).all(axis=0)).any():
        return
    found = scored(tmp_path_factory.mktemp("bands"), bands, labels, {1: "tree", 2: "path"})
    for band, one in enumerate(found.as_dict()["classes"]):
        known = bands[band] != 255
        # nodata is where every band says so: one alone is of that band
        real, told = labels[known] == band + 1, bands[band][known] == 1
        both, either = (real & told).sum(), (real | told).sum()
        assert one["iou"] == (pytest.approx(both / either) if either else None)
        assert one["class"] == ["tree", "path"][band]
        where = np.where(labels == band + 1, 1, 0).astype(np.uint8)
        expected = boundary_f1(where, bands[band], known, 1, 2)
        assert one["boundary_f1"] == (None if expected is None else pytest.approx(expected))


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(0, 9))
def test_near_is_a_disc_around_each_pixel(marked, tolerance):
    rows, cols = np.mgrid[: marked.shape[0], : marked.shape[1]]
    expected = np.zeros_like(marked)
    for row, col in np.argwhere(marked):
        expected |= (rows - row) ** 2 + (cols - col) ** 2 <= tolerance**2
    np.testing.assert_array_equal(near(marked, tolerance), expected)


def test_the_rim_of_the_image_and_of_a_hole_is_no_outline():
    codes = np.zeros((6, 6), np.int32)
    found = codes.copy()
    found[2:4, 2:4] = 5  # a hole
    whole = slice(0, 6), slice(0, 6)
    assert not met(codes, found, 3, 2, whole).any()


def test_scenes_add_up(tmp_path):
    rng = np.random.default_rng(1)
    trios, arrays = [], []
    for name in "abc":
        mask, labels = (rng.choice(np.array(VALUES, np.uint8), (40, 50)) for _ in range(2))
        arrays.append((mask, labels))
        path = put_mask(tmp_path / name / "mask.tif", mask, CLASSES)
        trios.append(Trio(name, path, str(put_labels(tmp_path / f"{name}.tif", labels))))
    said = evaluate(trios, How()).as_dict()
    masks, labels = (np.concatenate(both) for both in zip(*arrays, strict=True))
    assert said["pixels"] == masks.size
    land = (masks == 1) & (labels == 1)
    assert said["classes"][1]["iou"] == pytest.approx(land.sum() / ((masks == 1) | (labels == 1)).sum())
    assert [one["macro"]["iou"] for one in said["scenes"]] == sorted(one["macro"]["iou"] for one in said["scenes"])
    assert said["macro"]["iou"] == pytest.approx(np.mean([one["iou"] for one in said["classes"]]))


def test_memory_does_not_grow_with_the_raster(tmp_path, pieces_of):
    pieces_of(64, 256)
    peaks = []
    for side in (512, 2048):
        mask = np.zeros((side, side), np.uint8)
        mask[::7] = 1
        tiling = {"tiled": True, "blockxsize": 256, "blockysize": 256}
        path = put_mask(tmp_path / f"{side}.tif", mask, CLASSES, **tiling)
        labels = put_labels(tmp_path / f"labels-{side}.tif", mask.T.copy(), **tiling)
        del mask
        evaluate([Trio("warm", path, str(labels))], How())
        tracemalloc.start()
        evaluate([Trio("scene", path, str(labels))], How())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + (4 << 20), peaks  # 16 times the pixels; the map of errors has a largest size


def test_the_map_of_errors_says_what_each_pixel_is(tmp_path):
    mask = np.array([[0, 1, 0, 1, 7, 255]], np.uint8)
    labels = np.array([[0, 1, 1, 0, 1, 0]], np.uint8)
    errors = scored(tmp_path, mask, labels).scenes[0].errors
    assert errors.argmax(axis=0).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert errors.sum(axis=0).tolist() == [[1] * 6]
