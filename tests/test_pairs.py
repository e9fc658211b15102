"""Images and masks are matched as a person would, and what does not match is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.pairs import Pair, _matched, is_pairs, pairs_of
from pipeline.errors import SettingsError


def _made(folder, images, masks):
    for kind, names in (("images", images), ("masks", masks)):
        for name in names:
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("7.png", "7.png", "7"),
        ("7.jpg", "7.tif", "7"),
        ("7.png", "7_mask.png", "7"),
        ("7_sat.jpg", "7_mask.png", "7_sat"),
        ("image-7.tif", "label-7.tif", "image-7"),
        ("north/7.TIF", "north/7 labels.gif", "north/7"),
        ("Amazon_1.tiff_29.tiff", "Amazon_1.tiff_29.tiff", "Amazon_1.tiff_29"),
        ("7.jp2", "GT_7.bmp", "7"),
    ],
)
def test_a_pair_is_matched_by_its_name(tmp_path, image, mask, name):
    _made(tmp_path, [image, "another.png"], [mask, "another.png"])
    expected = Pair(name, tmp_path / "images" / image, tmp_path / "masks" / mask)
    assert expected in pairs_of(tmp_path)
    assert len(pairs_of(tmp_path)) == 2


@given(st.sets(st.text("abz019_-", min_size=1, max_size=6), min_size=1), st.sampled_from(["", "_mask", "-label"]))
def test_a_common_word_behind_every_mask_changes_no_match(names, word):
    images = dict.fromkeys(names)
    assert _matched(images, {name + word: None for name in names}) == {name: name + word for name in names}


def test_what_is_no_image_or_hidden_is_passed_over(tmp_path):
    _made(tmp_path, ["1.tif", "1.tif.aux.xml", "README.md", ".2.tif", ".cache/3.tif"], ["1.tif", "classes.txt"])
    assert [pair.name for pair in pairs_of(tmp_path)] == ["1"]


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["1.png", "2.png"], ["1.png"], r"1 of 2 images have no mask \(2\): a mask is called as its image"),
        (["1.png"], ["1.png", "3.png"], r"1 of 2 masks have no image \(3\)"),
        (["1.png", "2.png"], ["1_mask.png", "3_mask.png"], r"no mask \(2\) and 1 of 2 masks have no image \(3_mask\)"),
        ([f"{n}.png" for n in range(9)], ["8.png"], r"8 of 9 images have no mask \(0, 1, 2, 3, 4 and 3 more\)"),
        (["1.png", "1.tif"], ["1.png"], "Two files of .*images are called 1, 1.png and 1.tif"),
        (["1.png"], ["1_mask.png", "1_label.png"], r"no mask \(1\) and 2 of 2 masks have no image"),
        (["a/1.png"], ["b/1.png"], r"\(a/1\) and 1 of 1 masks have no image \(b/1\)"),
        (["1.txt"], ["1.png"], "There is no image in .*images"),
    ],
)
def test_what_does_not_match_is_named(tmp_path, images, masks, message):
    with pytest.raises(SettingsError, match=message):
        pairs_of(_made(tmp_path, images, masks))


def test_a_folder_without_both_is_none(tmp_path):
    (tmp_path / "images").mkdir()
    assert not is_pairs(tmp_path)
    with pytest.raises(SettingsError, match="has no folders images and masks"):
        pairs_of(tmp_path)
