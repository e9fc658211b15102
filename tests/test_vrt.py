"""VRTs: a mosaic of the images beside it is read; whatever else it names is refused before GDAL follows it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SceneError
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from tests.images import noise, quiet, vrt_of, write_image

pytestmark = quiet


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    for at, path in enumerate([inside / "a.tif", inside / "b.tif", tmp_path / "outside.tif"]):
        write_image(path, noise(1, 20, 30, seed=at))
    return inside


def _refused(folder, text, name="x.vrt"):
    (folder / name).write_text(text)
    with pytest.raises(SceneError) as caught:
        open_scene(str(folder / name), None)
    assert str(folder / name) in caught.value.message
    return caught.value.message


def _seen(path):
    scene = open_scene(str(path), None)
    with Reader(scene) as reader:
        return reader.read(scene.rect)[0]


def test_a_mosaic_of_its_neighbours_is_read(folder):
    (folder / "x.vrt").write_text(vrt_of("a.tif", "b.tif"))
    both = np.concatenate([noise(1, 20, 30, seed=0), noise(1, 20, 30, seed=1)], axis=2)
    np.testing.assert_array_equal(_seen(folder / "x.vrt"), both)
    for first in ('<?xml version="1.0"?>', "\ufeff", "\n ", "<!-- by hand -->"):
        (folder / "y.vrt").write_text(first + vrt_of(folder / "b.tif", relative=0))
        np.testing.assert_array_equal(_seen(folder / "y.vrt"), noise(1, 20, 30, seed=1))


def test_a_vrt_is_known_by_its_content_whatever_it_is_called(folder):
    (folder / "x.tif").write_text(vrt_of("a.tif"))
    assert open_scene(str(folder / "x.tif"), None).driver == "VRT"
    assert "outside its folder" in _refused(folder, vrt_of("../outside.tif"), "y.tif")


def test_a_linked_vrt_is_read_beside_its_sources(folder, tmp_path):
    (folder / "x.vrt").write_text(vrt_of("a.tif"))
    (tmp_path / "link.vrt").symlink_to(folder / "x.vrt")
    np.testing.assert_array_equal(_seen(tmp_path / "link.vrt"), noise(1, 20, 30))


def test_files_of_other_folders_are_refused(folder, tmp_path):
    for name in ["../outside.tif", "./../outside.tif", f"../{folder.name}/../outside.tif"]:
        assert "outside its folder" in _refused(folder, vrt_of(name))
    assert "outside its folder" in _refused(folder, vrt_of(tmp_path / "outside.tif", relative=0))
    assert "outside its folder" in _refused(folder, vrt_of("/etc/passwd"))
    (folder / "link.tif").symlink_to(tmp_path / "outside.tif")
    assert "outside its folder" in _refused(folder, vrt_of("link.tif"))
    assert "no such file" in _refused(folder, vrt_of("missing.tif"))
    assert "wherever a program is started" in _refused(folder, vrt_of("a.tif", relative=0))


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/http://127.0.0.1:1/a.tif",
        "http://127.0.0.1:1/a.tif",
        "/vsimem/a.tif",
        "DERIVED_SUBDATASET:LOGAMPLITUDE:a.tif",
        "GTIFF_DIR:1:a.tif",
        "vrt://a.tif",
        "&lt;VRTDataset/&gt;",
        " a.tif",
        "",
    ],
)
def test_names_that_are_no_files_are_refused(folder, name):
    for relative in (0, 1):
        assert "no file of its folder" in _refused(folder, vrt_of(name, relative=relative))


def test_a_vrt_of_a_vrt_is_refused(folder):
    (folder / "a.vrt").write_text(vrt_of("../outside.tif"))
    assert "another VRT" in _refused(folder, vrt_of("a.vrt"))


def test_a_source_that_is_no_image_is_refused(folder):
    (folder / "a.csv").write_text("secret,1")
    (folder / "x.vrt").write_text(vrt_of("a.csv"))
    with pytest.raises(SceneError, match=r"a\.csv is not an image"):
        open_scene(str(folder / "x.vrt"), None)


BAND = '<VRTRasterBand dataType="Byte" band="1">'


@pytest.mark.parametrize(
    "band",
    [
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">',
        '<VRTRasterBand dataType="Byte" band="1" subclass="VRTDerivedRasterBand">',
        BAND + "<PixelFunctionType>f</PixelFunctionType>",
        BAND + "<PixelFunctionLanguage>Python</PixelFunctionLanguage>",
        BAND + '<SimpleSource SourceFilename="/etc/passwd"/>',
        BAND + "<simplesource><sourcefilename>/etc/passwd</sourcefilename></simplesource>",
        BAND + "<Overview><SourceFilename>a.tif</SourceFilename></Overview>",
        BAND + "<KernelFilteredSource/>",
        BAND + '<SimpleSource><OpenOptions><OOI key="x">y</OOI></OpenOptions></SimpleSource>',
        BAND + '<SimpleSource><SourceFilename relativetovrt="0">a</SourceFilename></SimpleSource>',
        BAND + "<SimpleSource><SourceFilename><b>a</b></SourceFilename></SimpleSource>",
    ],
)
def test_everything_but_plain_bands_and_sources_is_refused(folder, band):
    assert "only mosaics and stacks" in _refused(folder, vrt_of("a.tif", band=band))


@pytest.mark.parametrize(
    "extra",
    [
        "<GDALWarpOptions><SourceDataset>/etc/passwd</SourceDataset></GDALWarpOptions>",
        "<PansharpeningOptions/>",
        "<Group/>",
        '<Metadata domain="xml:x" format="xml"><Anything/></Metadata>',
    ],
)
def test_warps_groups_and_other_machines_are_refused(folder, extra):
    assert "only mosaics and stacks" in _refused(folder, vrt_of("a.tif", extra=extra))


def test_metadata_that_gdal_follows_is_refused(folder):
    extra = '<Metadata domain="geolocation"><MDI key="X_DATASET">/etc/passwd</MDI></Metadata>'
    assert "metadata of the domain geolocation" in _refused(folder, vrt_of("a.tif", extra=extra))


def test_what_is_no_xml_or_names_nothing_is_refused(folder):
    assert "not well-formed" in _refused(folder, vrt_of("a.tif")[:-20])
    assert "names no image" in _refused(folder, '<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    entity = '<VRTDataset rasterXSize="1" rasterYSize="1"><!DOCTYPE x [<!ENTITY a "b">]></VRTDataset>'
    assert "document type" in _refused(folder, entity)
