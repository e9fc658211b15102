"""Percentiles over the whole scene are numpy's, for every dtype, whatever the pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.raster import statistics as cutting
from pipeline.raster.percentiles import percentiles
from pipeline.raster.source import open_scene
from pipeline.raster.statistics import statistics
from tests.images import quiet, write_image

pytestmark = quiet
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def drawn(dtype: str, height: int, width: int, seed: int) -> np.ndarray:
    """Two bands over a dtype's whole range, many values more than once."""
    random, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        wide = random.normal(size=(2, height, width)) * 10.0 ** random.integers(-6, 6, (2, height, width))
        wide[random.random(wide.shape) < 0.1] = np.inf
        wide[random.random(wide.shape) < 0.1] = np.nan
        return np.where(random.random(wide.shape) < 0.3, np.round(wide), wide).astype(kind)
    limits = np.iinfo(kind)
    few = random.integers(limits.min, limits.max, 5, dtype=kind, endpoint=True)
    many = random.integers(limits.min, limits.max, (2, height, width), dtype=kind, endpoint=True)
    return np.where(random.random(many.shape) < 0.5, random.choice(few, many.shape), many)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_they_are_numpys(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    pixels = drawn(dtype, data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)), data.draw(st.integers(0, 99)))
    pixels[:, :, -1] = 7
    tiling = data.draw(st.sampled_from([{}, {"tiled": True, "blockxsize": 16, "blockysize": 32}]))
    path = write_image(tmp_path_factory.mktemp("p") / "a.tif", pixels, nodata=7, **tiling)
    parts = [sorted(data.draw(st.tuples(st.floats(0, 100), st.sampled_from([0.0, 50.0, 99.0, 100.0])))) for _ in "ab"]
    joint = data.draw(st.booleans())
    scene = open_scene(str(path), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "PIECE", data.draw(st.sampled_from([1, 100, 1000, cutting.PIECE])))
        found = percentiles(scene, parts, joint=joint)
    valid = np.isfinite(pixels).all(axis=0) & ~(pixels == 7).all(axis=0)
    bands = [band[valid].astype(np.float64) for band in pixels]
    if joint:
        bands, parts = [np.concatenate(bands)] * 2, [parts[0]] * 2
    expected = [np.percentile(band, part) if band.size else [0, 0] for band, part in zip(bands, parts, strict=True)]
    np.testing.assert_array_equal(np.array(found).T, expected)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(DTYPES), st.integers(1, 50), st.integers(0, 99))
def test_mean_and_deviation_of_all_bands_together(tmp_path_factory, dtype, side, seed):
    pixels = drawn(dtype, side, side, seed)
    valid = np.isfinite(pixels).all(axis=0)
    path = write_image(tmp_path_factory.mktemp("p") / "a.tif", pixels)
    mean, deviation = statistics(open_scene(str(path), None), joint=True)
    values = np.concatenate([band[valid] for band in pixels]).astype(np.float64)
    assert mean.tolist() == pytest.approx([values.mean() if values.size else 0] * 2, rel=1e-9, abs=1e-9)
    assert deviation.tolist() == pytest.approx([values.std() if values.size else 0] * 2, rel=1e-9, abs=1e-9)
