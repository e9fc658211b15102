"""The network may see a scene at another resolution: the mask stays on the scene's grid, and no block shows in it."""

from fractions import Fraction

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SceneError, SettingsError
from pipeline.raster.layer import resized
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.resolution import ALIKE, FARTHEST, zoom_of
from pipeline.settings import Job
from tests.oracle import expected_mask, noise, read_mask, run_here, save_model, save_scene, small_card, small_unet
from tests.test_plan import job, scene


def at(metres: float | None) -> dict[str, object]:
    if metres is None:
        return {}
    with_crs = rasterio.crs.CRS.from_epsg(32632).to_wkt(version="WKT2_2019")
    return {"crs": with_crs, "transform": (metres, 0.0, 0.0, 0.0, -metres, 0.0)}


def zoomed(there: float | None, model: float | None, asked: object = None) -> tuple[Fraction, str | None]:
    card = small_card().model_copy(update={"resolution": model})
    return zoom_of(job(resolution=asked), card, scene(**at(there)))


@pytest.mark.parametrize(
    ("there", "model", "asked", "zoom"),
    [
        (10, 10, None, 1),
        (10, 12, None, 1),
        (10, 20, None, Fraction(1, 2)),
        (10, 5, None, 2),
        (10, 15, None, Fraction(2, 3)),
        (10, 20, "scene", 1),
        (10, 1000, "scene", 1),
        (10, 1000, "model", Fraction(1, 100)),
        (10, 12, "model", Fraction(5, 6)),
        (10, 12, 2.5, 4),
        (10, None, "5", 2),
        (10, None, None, 1),
        (None, 10, None, 1),
        (None, None, None, 1),
    ],
)
def test_the_zoom_is_what_the_job_asks_for_or_what_the_model_was_trained_on(there, model, asked, zoom):
    found, note = zoomed(there, model, asked)
    assert found == zoom
    assert (note is not None) == (zoom != 1 or (there is None and model is not None))


@given(st.floats(0.05, 5000), st.floats(0.05, 5000))
def test_what_is_neither_alike_nor_too_far_is_resampled_to_within_a_percent(there, model):
    factor = there / model
    if max(factor, 1 / factor) > FARTHEST:
        with pytest.raises(SceneError, match=r"was trained at .* times (coarser|finer)\. Say"):
            zoomed(there, model)
    elif max(factor, 1 / factor) < ALIKE:
        assert zoomed(there, model)[0] == 1
    else:
        assert float(zoomed(there, model)[0]) == pytest.approx(factor, rel=0.01)


def test_what_cannot_be_computed_is_refused_with_what_to_say():
    with pytest.raises(SettingsError, match=r"cannot be 5\.0: the scene a does not say how large its pixels are"):
        zoomed(None, 10, 5.0)
    with pytest.raises(SettingsError, match="cannot be model: the card does not say"):
        zoomed(10, None, "model")


def job_of(folder, name: str, **said: object) -> Job:
    return Job(
        scenes=(str(folder / "scene.tif"),), model=str(folder / "m.onnx"), out=folder / name, device="cpu", **said
    )


@pytest.mark.parametrize(("metres", "zoom"), [(20, Fraction(1, 2)), (5, Fraction(2)), (15, Fraction(2, 3))])
def test_a_mask_at_the_models_resolution_is_that_of_the_whole_view_whatever_the_blocks(tmp_path, metres, zoom):
    model = small_unet()
    save_model(tmp_path / "m.onnx", model, small_card().model_copy(update={"resolution": metres}))
    pixels = noise(150, 211, 1)
    pixels[:, 30:61, 90:133] = 0
    save_scene(tmp_path / "scene.tif", pixels, nodata=0)
    view = resized(open_scene(str(tmp_path / "scene.tif"), None), zoom)
    with Reader(view) as reader:
        seen, valid = reader.read(view.rect)
    expected = expected_mask(model, np.where(valid, seen, 0), None)
    rows, cols = (np.floor((np.arange(side) + 0.5) * float(zoom)).astype(int) for side in pixels.shape[1:])
    reports = []
    for block in (64, 128, 512):
        reports.append(run_here(job_of(tmp_path, f"b{block}", block=block, margin="exact", window=96)))
        mask = read_mask(tmp_path / f"b{block}" / "scene")
        assert mask.shape == pixels.shape[1:]
        inside = (pixels != 0).any(axis=0)
        assert np.array_equal(mask == 255, ~inside)
        far = expected_far_from_fill(inside)
        assert np.array_equal(mask[far], expected[np.ix_(rows, cols)][far])
        if block > 64:
            assert np.array_equal(mask, read_mask(tmp_path / "b64" / "scene"))
    assert {report["zoom"] for report in reports} == {float(zoom)}
    with rasterio.open(tmp_path / "b64" / "scene" / "mask.tif") as file:
        assert file.transform == Affine(10, 0, 500_000, 0, -10, 5_000_000)


def expected_far_from_fill(inside: np.ndarray) -> np.ndarray:
    """Where no invalid pixel is in sight: an invalid one enters the network as the card's fill, not as its number."""
    sight = 60
    hidden = ~inside
    rows, cols = np.nonzero(hidden)
    far = np.ones_like(hidden)
    far[max(0, rows.min() - sight) : rows.max() + sight, max(0, cols.min() - sight) : cols.max() + sight] = False
    return far
