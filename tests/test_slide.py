from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import SceneError
from pipeline.grid import Rect
from pipeline.raster import slide
from tests.images import SHARED, noise, quiet, write_image
from tests.slides import halved, speckled, write_slide

openslide = pytest.importorskip("openslide")
pytestmark = quiet
REAL = SHARED / "scenes/wsi/CMU-1-Small-Region.svs"


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """(a slide of sides that its factors do not divide, its levels)."""
    finest = speckled(1203, 1407)
    levels = [finest, halved(finest, 4), halved(finest, 16)]
    return write_slide(tmp_path_factory.mktemp("slide") / "odd.svs", levels, tile=128), levels


def test_a_slide_is_told_by_its_files_ending():
    assert all(slide.is_slide(Path(name)) for name in ("a.svs", "A.NDPI", "b.mrxs", "c.scn", "d.dcm", "e.bif"))
    assert not any(slide.is_slide(Path(name)) for name in ("a.tif", "a.tiff", "b.png", "svs", "c.svs.tif"))


def test_what_a_slide_says_of_itself(pyramid):
    path, levels = pyramid
    seen = slide.look_at(path)
    assert seen.vendor == "aperio"
    assert [(level.height, level.width) for level in seen.levels] == [level.shape[1:] for level in levels]
    assert [level.scale[0] for level in seen.levels] == [Fraction(1), Fraction(1, 4), Fraction(1, 16)]
    assert seen.mpp == (0.5, 0.5)
    assert seen.tile == (128, 128)
    assert seen.files == (path,)
    assert not seen.notes


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pixel_of_a_level_does_not_depend_on_the_rectangle_it_is_read_with(pyramid, data):
    path, levels = pyramid
    number = data.draw(st.integers(0, 2))
    rows, cols = levels[number].shape[1:]
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    rect = Rect(top, left, data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, cols)))
    opened = slide.Slide(path, slide.look_at(path).levels[number])
    whole, _ = opened.read(Rect(0, 0, rows, cols))
    pixels, valid = opened.read(rect)
    opened.close()
    assert np.array_equal(pixels, whole[:, *rect.slices()])
    assert valid.all()
    if number == 0 or rect.bottom <= slide.PIECE >= rect.right:  # the first piece begins at the level's corner
        assert np.array_equal(pixels, levels[number][:, *rect.slices()])


def test_what_was_not_scanned_is_invalid_and_has_the_background_colour(tmp_path):
    # A sparse TIFF has no tile where nothing was written, which is how slides leave out glass.
    pixels = np.zeros((3, 512, 512), np.uint8)
    pixels[:, :256, :256] = 77
    path = write_slide(tmp_path / "sparse.svs", [pixels], SPARSE_OK="TRUE")
    opened = slide.Slide(path, slide.look_at(path).levels[0])
    found, valid = opened.read(Rect(0, 0, 512, 512))
    assert np.array_equal(found[:, :256, :256], pixels[:, :256, :256])
    assert valid[:256, :256].all()
    assert not valid[256:].any()
    assert (found[:, 256:] == 255).all()


def test_a_slide_that_does_not_say_its_resolution_has_none(tmp_path):
    seen = slide.look_at(write_slide(tmp_path / "plain.svs", [speckled(300, 300)], mpp=None))
    assert seen.mpp is None
    assert "micrometres" in seen.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("cut.svs", b"II*\0\x08\0\0\0", "no slide"), ("text.ndpi", b"hello", "no slide"), ("x.dcm", b"", "no slide")],
)
def test_what_is_no_slide_is_said_in_a_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneError, match=said):
        slide.look_at(tmp_path / name)


def test_a_cut_or_damaged_slide_is_said_in_a_sentence(tmp_path, pyramid):
    path = tmp_path / "cut.svs"
    whole = pyramid[0].read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # the pages of its coarser levels are gone
    with pytest.raises(SceneError, match=r"cut\.svs"):
        slide.look_at(path)
    whole = bytearray(write_slide(path, [speckled(600, 600)], compress="deflate").read_bytes())
    whole[400_000:500_000] = bytes(100_000)
    path.write_bytes(whole)
    opened = slide.Slide(path, slide.look_at(path).levels[0])
    with pytest.raises(SceneError, match=r"cut\.svs"):
        opened.read(Rect(0, 0, 600, 600))


def test_a_slide_that_names_files_elsewhere_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "a/Slidedat.ini").write_text("[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = ../../etc/passwd\n")
    with pytest.raises(SceneError, match="another folder"):
        slide.look_at(tmp_path / "a.mrxs")


def test_a_slide_of_several_files_is_all_of_them(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "a/Slidedat.ini").write_text("[HIERARCHICAL]\nINDEXFILE = Index.dat\n[DATAFILE]\nFILE_0 = Data0.dat\n")
    (tmp_path / "a/Data0.dat").write_bytes(b"1")
    assert {file.name for file in slide._files(tmp_path / "a.mrxs")} == {"a.mrxs", "Slidedat.ini", "Data0.dat"}


def test_a_plain_tiff_is_not_read_by_openslide(tmp_path):
    path = write_image(tmp_path / "plain.tif", noise(3, 512, 512), tiled=True, blockxsize=256, blockysize=256)
    assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
    assert not slide.is_slide(path)


@pytest.mark.skipif(not REAL.exists(), reason="the material of others is not here")
def test_pixels_of_a_real_slide_are_those_that_openslide_reads():
    seen = slide.look_at(REAL)
    assert (seen.levels[0].height, seen.levels[0].width, seen.mpp) == (2967, 2220, (0.499, 0.499))
    opened = slide.Slide(REAL, seen.levels[0])
    found, valid = opened.read(Rect(100, 50, 2400, 2200))
    with openslide.OpenSlide(REAL) as theirs:
        expected = np.asarray(theirs.read_region((50, 100), 0, (2150, 2300)))
    assert np.array_equal(found, expected[..., :3].transpose(2, 0, 1))
    assert valid.all()
