"""Files and folders that hold variables rather than one image: NetCDF, HDF5 and Zarr.

A container with one raster variable is that image; of several, the user names one. All must lie in the container.
"""

from __future__ import annotations

import os
from pathlib import Path

import rasterio
from rasterio.io import DatasetReader

from pipeline.errors import SceneError
from pipeline.raster import hdf5
from pipeline.raster.address import Address, shown
from pipeline.raster.complaints import GDAL_ERRORS, reason

DRIVERS = frozenset({"netCDF", "HDF5", "Zarr"})
_NAMED = 20  # variables in a message


def open_variable(address: Address, driver: str) -> DatasetReader:
    """Open the variable that an address names, or the only one. Raises SceneError, which lists them where several are.

    What the first bytes call HDF5 is tried as NetCDF first, whose reader knows where an image lies.
    """
    path = address.file
    if path is None or address.member:
        raise SceneError(f"{shown(address.name)} is a {driver} container, which is read as a file here: copy it here.")
    if '"' in str(path):
        raise SceneError(f"The container {path} has a quotation mark in its name: rename it.")
    if driver == "Zarr":
        _refuse_links(path)
    if driver == "HDF5":
        hdf5.refuse_outward(path)
    failed = "it holds no raster variable"
    for reader in ("netCDF", "HDF5") if driver == "HDF5" else (driver,):
        try:
            dataset = _opened(path, reader, address.variable)
        except GDAL_ERRORS as error:
            failed = reason(error)
            continue
        if dataset.count:
            return dataset
        several = _variables(path, dataset)
        dataset.close()
        if several:
            raise SceneError(
                f"The file {path} holds {len(several)} variables: {', '.join(several[:_NAMED])}"
                f"{', …' * (len(several) > _NAMED)}; name one, such as {path}:{several[0]}."
            )
    what = f"The variable {address.variable} of {path}" if address.variable else f"The file {path}"
    raise SceneError(f"{what} cannot be opened: {failed}.")


def _opened(path: Path, reader: str, variable: str | None) -> DatasetReader:
    if variable is None:
        return rasterio.open(path, driver=reader, sharing=False)
    plain = variable.strip("/")
    if reader == "HDF5":
        return rasterio.open(f'HDF5:"{path}"://{plain}', driver="HDF5Image", sharing=False)
    rooted = f"/{plain}" if reader == "Zarr" or "/" in plain else plain
    return rasterio.open(f'{reader.upper()}:"{path}":{rooted}', driver=reader, sharing=False)


def _variables(path: Path, dataset: DatasetReader) -> list[str]:
    """The names that a user would give, of what GDAL calls subdatasets."""
    found = (name.partition(str(path))[2].lstrip('":').lstrip("/") for name in dataset.subdatasets)
    return list(dict.fromkeys(name for name in found if name))


def _refuse_links(folder: Path) -> None:
    """A Zarr is a folder: nothing in it may be a link to elsewhere."""
    home = folder.resolve()
    for place, folders, files in os.walk(home):
        for name in (*folders, *files):
            thing = Path(place, name)
            if thing.is_symlink() and not thing.resolve().is_relative_to(home):
                raise SceneError(f"The Zarr {folder} holds a link to elsewhere, {thing.relative_to(home)}: copy it in.")
