"""What labels mean and where they lie: values, what is left out, other grids, polygons."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio.features
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform_geom

from models.evaluation import How, Trio, evaluate, trios_of
from pipeline.errors import SettingsError
from tests.evaluated import PLACE, put_labels, put_mask

TWO = {0: "ground", 1: "building"}
THREE = {0: "clear", 1: "cloud", 2: "shadow"}


def said_of(folder, mask, labels, how=None, classes=TWO):
    path = put_mask(folder / "scene" / "mask.tif", mask, classes)
    return evaluate([Trio("scene", path, str(labels))], how or How()).as_dict()


@pytest.fixture
def mask():
    return np.random.default_rng(0).integers(0, 2, (20, 30)).astype(np.uint8)


def test_values_are_mapped_by_name_or_by_number(tmp_path):
    mask = np.array([[0, 1, 2, 0, 1]], np.uint8)
    labels = put_labels(tmp_path / "labels.tif", np.array([[10, 20, 30, 40, -5]], np.int16))
    how = How(mapped=("10=clear,20=1", "30=shadow", "40=clear"), ignored=("-5",))
    said = said_of(tmp_path, mask, labels, how, THREE)
    assert (said["accuracy"], said["scored"], said["apart"]) == (1.0, 4, {"labels: ignored": 1})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (How(), r"values that are no class \(255\) at 3 pixels, .* 0 ground, 1 building: .*--map 255=building"),
        (How(mapped=("255=house",)), r"no class 'house'.*0 ground, 1 building"),
        (How(mapped=("building",)), "give each value its class"),
        (How(mapped=("x=building",)), "'x' is no value"),
        (How(ignored=("1.5",)), "'1.5' is no value"),
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path, how, message):
    labels = put_labels(tmp_path / "labels.tif", np.array([[0, 255, 255, 1, 255]], np.uint8))
    with pytest.raises(SettingsError, match=message):
        said_of(tmp_path, np.array([[0, 1, 1, 1, 0]], np.uint8), labels, how)


def test_what_labels_declare_to_be_no_data_is_left_out_and_said_where_it_is_a_class(tmp_path, mask):
    labels = put_labels(tmp_path / "labels.tif", mask, nodata=0)
    said = said_of(tmp_path, mask, labels)
    assert said["apart"] == {"labels: no label": int((mask == 0).sum())}
    assert "--map 0=ground counts them" in said["scenes"][0]["notes"][0]
    said = said_of(tmp_path, mask, labels, How(mapped=("0=ground",)))
    assert (said["apart"], said["accuracy"], said["scenes"][0]["notes"]) == ({}, 1.0, [])


@pytest.mark.parametrize(
    ("profile", "shape", "numbers"),
    [
        ({}, (20, 31), ["20 × 30 px", "20 × 31 px"]),
        ({"crs": "EPSG:32634"}, (20, 30), ["EPSG:32633", "EPSG:32634"]),
        ({"transform": PLACE @ Affine.translation(1, 0)}, (20, 30), ["500000", "500010"]),
    ],
)
def test_labels_of_another_grid_are_refused_with_the_numbers(tmp_path, mask, profile, shape, numbers):
    labels = put_labels(tmp_path / "labels.tif", np.zeros(shape, np.uint8), **profile)
    with pytest.raises(SettingsError) as caught:
        said_of(tmp_path, mask, labels)
    assert all(number in caught.value.message for number in [*numbers, "--align"])


@given(st.integers(-8, 8), st.integers(-8, 8), st.sampled_from([0.5, 1.0, 2.5]), st.integers(0, 99))
@settings(max_examples=20)
def test_aligned_labels_are_those_under_each_centre_and_beyond_them_nothing_is_scored(
    tmp_path_factory, down, across, scale, seed
):
    folder, rng = tmp_path_factory.mktemp("align"), np.random.default_rng(seed)
    mask, labels = (rng.integers(0, 2, shape).astype(np.uint8) for shape in ((12, 15), (14, 9)))
    # An odd 1/64 more: no centre lies on a border.
    place = PLACE @ Affine.translation(across + 1 / 64, down + 1 / 64) @ Affine.scale(scale)
    path = put_labels(folder / "labels.tif", labels, transform=place)
    rows, cols = (np.arange(side) + 0.5 for side in mask.shape)
    rows = np.floor((rows - down - 1 / 64) / scale).astype(int)
    cols = np.floor((cols - across - 1 / 64) / scale).astype(int)
    there = ((rows >= 0) & (rows < 14))[:, None] & ((cols >= 0) & (cols < 9))
    if not there.any():
        with pytest.raises(SettingsError, match="180 labels: no label"):
            said_of(folder, mask, path, How(align=True))
        return
    said = said_of(folder, mask, path, How(align=True))
    expected = labels[np.clip(rows, 0, 13)][:, np.clip(cols, 0, 8)]
    assert said["scored"] == there.sum()
    assert said["accuracy"] == pytest.approx((expected == mask)[there].mean())
    assert said["apart"].get("labels: no label", 0) == (~there).sum()


def test_labels_without_a_georeference_are_laid_pixel_by_pixel_where_the_size_is_the_same(tmp_path, mask):
    labels = put_labels(tmp_path / "labels.png", mask, driver="PNG", crs=None, transform=Affine.identity())
    said = said_of(tmp_path, mask, labels)
    assert said["accuracy"] == 1.0
    assert said["scenes"][0]["notes"] == ["The labels have no georeference: the two are laid pixel by pixel."]
    small = put_labels(tmp_path / "small.png", mask[:9], driver="PNG", crs=None, transform=Affine.identity())
    for how in (How(), How(align=True)):
        with pytest.raises(SettingsError, match=r"20 × 30 px.* 9 × *30 px"):
            said_of(tmp_path, mask, small, how)


# No side goes through the centre of a pixel, which would be in or out as who asks.
SHAPES = [
    {
        "type": "Polygon",
        "coordinates": [
            [(500_012.3, 4_999_987.9), (500_190.7, 4_999_970.2), (500_100.9, 4_999_811.3), (500_012.3, 4_999_987.9)]
        ],
    },
    {
        "type": "Polygon",
        "coordinates": [
            [(500_203.1, 4_999_996.7), (500_287.3, 4_999_993.1), (500_281.9, 4_999_861.7), (500_203.1, 4_999_996.7)]
        ],
    },
]


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_polygons_count_by_pixels_centres(tmp_path, mask, crs):
    shapes = SHAPES if crs == "EPSG:32633" else [transform_geom("EPSG:32633", crs, shape) for shape in SHAPES]
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    code = "urn:ogc:def:crs:OGC:1.3:CRS84" if crs == "EPSG:4326" else "urn:ogc:def:crs:EPSG::32633"
    named = {"type": "name", "properties": {"name": code}}
    path = tmp_path / "houses.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))
    expected = rasterio.features.rasterize(SHAPES, mask.shape, transform=PLACE)
    said = said_of(tmp_path, mask, path)
    assert said["classes"][1]["pixels_truth"] == expected.sum()
    assert said["accuracy"] == pytest.approx((expected == mask).mean())
    with pytest.raises(SettingsError, match=r"inside and outside .*--map inside=shadow,outside=clear"):
        said_of(tmp_path, mask, path, classes=THREE)
    how = How(mapped=("inside=cloud",), ignored=("outside",))
    assert said_of(tmp_path, mask, path, how, THREE)["scored"] == expected.sum()


def test_a_folder_of_labels_is_matched_by_name_and_what_is_missing_is_said(tmp_path, mask):
    for name in ("one", "two", "both"):
        put_mask(tmp_path / "masks" / name / "mask.tif", mask, TWO)
    for name in ("one.tif", "both.tif", "both.png"):
        put_labels(tmp_path / "labels" / name, mask, **({"driver": "PNG"} if name.endswith("png") else {}))
    trios, problems = trios_of(tmp_path / "masks", str(tmp_path / "labels"))
    assert [trio.name for trio in trios] == ["one"]
    assert sorted(problems) == [
        "both is not scored: both.png and both.tif could both be its labels.",
        f"two is not scored: no file of {tmp_path / 'labels'} is called so.",
    ]
    trios, _ = trios_of(tmp_path / "masks" / "one" / "mask.tif", str(tmp_path / "labels"))
    assert [trio.name for trio in trios] == ["one"]


def test_a_mask_of_somebody_else_is_told_its_classes(tmp_path, mask):
    other = put_labels(tmp_path / "theirs.tif", mask)
    trio = Trio("theirs", other, str(other))
    with pytest.raises(SettingsError, match="does not say its classes"):
        evaluate([trio], How())
    said = evaluate([trio], How(classes=("ground,building",))).as_dict()
    assert [one["class"] for one in said["classes"]] == ["ground", "building"]
    ours = put_mask(tmp_path / "mask.tif", mask, TWO)
    for classes in (("0=a,0=b",), ("x=a,1=b",), ("a,a",)):
        with pytest.raises(SettingsError, match="--classes"):
            evaluate([trio], How(classes=classes))
    with pytest.raises(SettingsError, match="says its own classes, 0 ground, 1 building"):
        evaluate([Trio("ours", ours, str(other))], How(classes=("a,b",)))
