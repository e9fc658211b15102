"""Real image files for the raster wing's tests, written by rasterio, and what their pixels and validity must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

quiet = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SHARED = Path(__file__).parents[2] / "shared" / "data"


def write_image(path, pixels, mask=None, **profile):
    """Write (band, row, col) as an image; `mask` (row, col) becomes its mask band."""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": pixels.dtype, **profile}
    internal = profile.pop("internal_mask", True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", count=count, height=height, width=width, **profile) as dataset,
    ):
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def noise(bands, height, width, dtype="uint8", seed=0):
    """Pixels of which no two neighbours agree."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=(bands, height, width)).astype(dtype)
    return random.integers(1, 120, (bands, height, width)).astype(dtype)


def mirrored(array, rect, height, width):
    """The rectangle of an array reflected without end, by numpy.pad over the whole array."""
    before, after = max(0, -rect.top), max(0, rect.bottom - height)
    left, right = max(0, -rect.left), max(0, rect.right - width)
    padding = [(0, 0)] * (array.ndim - 2) + [(before, after), (left, right)]
    whole = array
    for axis, pad in enumerate(padding):  # an axis of one pixel repeats it, on every version of numpy
        only = [(0, 0)] * array.ndim
        only[axis] = pad
        whole = np.pad(whole, only, mode="edge" if whole.shape[axis] == 1 else "reflect")
    return whole[..., rect.top + before : rect.bottom + before, rect.left + left : rect.right + left]


def stack_vrt(*bands, size=(20, 30)):
    """A VRT with one band for each (GDAL's data type, nodata or None, file)."""
    height, width = size
    written = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{at}">'
        + (f"<NoDataValue>{nodata}</NoDataValue>" if nodata is not None else "")
        + f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename></SimpleSource></VRTRasterBand>'
        for at, (kind, nodata, name) in enumerate(bands, start=1)
    )
    return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{written}</VRTDataset>'


def vrt_of(*names, size=(20, 30), relative=1, band='<VRTRasterBand dataType="Byte" band="1">', extra=""):
    """A VRT with one band made of whole images beside each other."""
    height, width = size
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="{width * at}" yOff="0" xSize="{width}" ySize="{height}"/></SimpleSource>'
        for at, name in enumerate(names)
    )
    return (
        f'<VRTDataset rasterXSize="{width * len(names)}" rasterYSize="{height}">{extra}'
        f"{band}{sources}</VRTRasterBand></VRTDataset>"
    )
