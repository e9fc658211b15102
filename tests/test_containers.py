"""NetCDF, HDF5 and Zarr: one variable is an image; of several one is named; nothing outside them is read."""

from __future__ import annotations

import ctypes
import shutil

import numpy as np
import pytest
import rasterio.shutil
import zarr
from rasterio.transform import from_origin

from pipeline.errors import SceneError
from pipeline.raster.hdf5 import _hid, _library
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from tests.images import noise, quiet, vrt_of, write_image

pytestmark = quiet
PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def _container(path, pixels, driver="netCDF", **options):
    plain = write_image(path.with_suffix(".tif"), pixels, **PLACE)
    rasterio.shutil.copy(str(plain), str(path), driver=driver, **options)
    plain.unlink()
    return path


def _refused(uri):
    with pytest.raises(SceneError) as caught:
        open_scene(str(uri), None)
    return caught.value.message


def _pixels(scene):
    with Reader(scene) as reader:
        return reader.read(scene.rect)[0]


@pytest.mark.parametrize("kind", ["NC", "NC4"])
def test_a_netcdf_of_one_variable_is_an_image_where_it_lies(tmp_path, kind):
    pixels = noise(1, 20, 30, "int16")
    path = _container(tmp_path / "a.nc", pixels, FORMAT=kind)
    scene = open_scene(str(path), None)
    np.testing.assert_array_equal(_pixels(scene), pixels)
    assert (scene.driver, scene.dtype) == ("netCDF", "int16")
    assert tuple(scene.transform) == tuple(PLACE["transform"])[:6]
    assert "32633" in scene.crs
    shutil.copy(path, tmp_path / "b.tif")  # whatever it is called
    assert open_scene(str(tmp_path / "b.tif"), None).fingerprint == scene.fingerprint


@pytest.mark.parametrize("kind", ["NC", "NC4"])
def test_of_several_variables_one_is_named(tmp_path, kind):
    pixels = noise(3, 20, 30, "int16")
    path = _container(tmp_path / "a.nc", pixels, FORMAT=kind)
    said = _refused(path)
    assert "3 variables: Band1, Band2, Band3; name one, such as" in said
    assert said.endswith("a.nc:Band1.")
    found = [open_scene(f"{path}:Band2", None), open_scene(f'NETCDF:"{path}":Band2', None)]
    for scene in found:
        np.testing.assert_array_equal(_pixels(scene), pixels[1:2])
        assert scene.name == "a_Band2"
        np.testing.assert_array_equal(_pixels(open_scene(scene.uri, None)), pixels[1:2])
    assert found[0].fingerprint == found[1].fingerprint != open_scene(f"{path}:Band3", None).fingerprint
    assert "Band9" in _refused(f"{path}:Band9")


def test_a_variable_of_something_else_is_no_file(tmp_path):
    path = write_image(tmp_path / "a.tif", noise(1, 9, 9))
    for uri in (f"{path}:Band1", f'NETCDF:"{path}":Band1', 'NETCDF:"/etc/passwd":Band1', "HDF5:/etc/passwd://a"):
        assert "does not exist" in _refused(uri)


def test_a_zarr_is_an_image(tmp_path):
    pixels = noise(1, 200, 300, "uint16")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    for name in ("red", "nir"):
        group.create_array(name, shape=(200, 300), chunks=(100, 100), dtype="uint16")[:] = pixels[0]
    assert "2 variables: " in _refused(tmp_path / "a.zarr")
    scene = open_scene(f"{tmp_path}/a.zarr:nir", None)
    np.testing.assert_array_equal(_pixels(scene), pixels)
    group["nir"][0, 0] = 7
    assert open_scene(f"{tmp_path}/a.zarr:nir", None).fingerprint != scene.fingerprint
    alone = open_scene(f"{tmp_path}/a.zarr/red", None)
    np.testing.assert_array_equal(_pixels(alone), pixels)
    (tmp_path / "secret").write_bytes(bytes(9))
    (tmp_path / "a.zarr/nir/0.1").unlink()
    (tmp_path / "a.zarr/nir/0.1").symlink_to(tmp_path / "secret")
    assert "holds a link to elsewhere, nir/0.1" in _refused(f"{tmp_path}/a.zarr:nir")


def _hdf5():
    """The HDF5 that GDAL has, to write what a stranger may have written."""
    library = _library()
    size, text, number = ctypes.c_uint64, ctypes.c_char_p, ctypes.c_int
    sides = ctypes.POINTER(size)
    for name, arguments in {
        "H5Fcreate": (text, ctypes.c_uint, _hid, _hid),
        "H5Pcreate": (_hid,),
        "H5Pset_external": (_hid, text, ctypes.c_int64, size),
        "H5Pset_virtual": (_hid, _hid, text, text, _hid),
        "H5Screate_simple": (number, sides, sides),
        "H5Dcreate2": (_hid, text, _hid, _hid, _hid, _hid, _hid),
        "H5Lcreate_external": (text, text, _hid, text, _hid, _hid),
        "H5Dclose": (_hid,),
    }.items():
        function = getattr(library, name)
        function.restype, function.argtypes = _hid, arguments
    return library, (size * 2)(16, 16)


def _outward(path, how):
    """An HDF5 with one dataset of bytes that lies in another file."""
    library, sides = _hdf5()
    native = {
        name: ctypes.c_int64.in_dll(library, name).value
        for name in ("H5T_NATIVE_UCHAR_g", "H5P_CLS_DATASET_CREATE_ID_g")
    }
    file = library.H5Fcreate(str(path).encode(), 2, 0, 0)
    made, space = library.H5Pcreate(native["H5P_CLS_DATASET_CREATE_ID_g"]), library.H5Screate_simple(2, sides, None)
    if how == "link":
        library.H5Lcreate_external(b"/etc/other.h5", b"/data", file, b"data", 0, 0)
    elif how == "storage":
        library.H5Pset_external(made, b"/etc/passwd", 0, 256)
    elif how == "virtual":
        library.H5Pset_virtual(made, space, b"/etc/other.h5", b"/data", space)
    if how != "link":
        dataset = library.H5Dcreate2(file, b"data", native["H5T_NATIVE_UCHAR_g"], space, 0, made, 0)
        assert dataset > 0
        library.H5Dclose(dataset)
    library.H5Fclose(file)
    return path


@pytest.mark.parametrize("how", ["link", "storage", "virtual"])
def test_hdf5_that_keeps_its_data_elsewhere_is_refused(tmp_path, how):
    for uri in (_outward(tmp_path / "a.h5", how), f"{tmp_path}/a.h5:data"):
        assert "keeps `data` in another file" in _refused(uri)


def test_plain_hdf5_is_an_image(tmp_path):
    path = _outward(tmp_path / "a.h5", "here")
    assert _pixels(open_scene(str(path), None)).shape == (1, 16, 16)
    assert open_scene(f'HDF5:"{path}"://data', None).name == "a_data"


def test_a_vrt_of_a_container_is_refused(tmp_path):
    _container(tmp_path / "a.nc", noise(1, 20, 30))
    (tmp_path / "a.vrt").write_text(vrt_of("a.nc"))
    assert "names a container" in _refused(tmp_path / "a.vrt")
