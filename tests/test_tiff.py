"""Where a TIFF's tiles lie, as GDAL says it; and other numbers written in their place."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from pipeline.store.tiff import images


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(3, 200),
    cols=st.integers(3, 200),
    bands=st.integers(1, 3),
    big=st.sampled_from(["YES", "NO"]),
    order=st.sampled_from(["LITTLE", "BIG"]),
    tile=st.sampled_from([64, 128]),
)
def test_tiles_lie_where_gdal_says(rows, cols, bands, big, order, tile):
    pixels = np.random.default_rng(rows).integers(0, 9, (bands, rows, cols)).astype(np.uint16)
    tiling = {"tiled": True, "blockysize": tile, "blockxsize": tile, "compress": "DEFLATE"}
    shape = {"height": rows, "width": cols, "count": bands, "dtype": "uint16", "interleave": "pixel"}
    with rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=tile), MemoryFile() as memory:
        with memory.open(driver="GTiff", bigtiff=big, endianness=order, **shape, **tiling) as file:
            file.write(pixels)
            file.build_overviews([2], rasterio.enums.Resampling.nearest)
        content = io.BytesIO(memory.read())
        with memory.open() as file:
            said = [
                [(file.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", 1, ovr=level)) for what in ("OFFSET", "SIZE")]
                for level, across, down in grids(file, tile)
                for row in range(down)
                for col in range(across)
            ]
    found = images(content)
    assert [(one.size, one.tile) for one in found] == [
        ((rows, cols), (tile, tile)),
        ((-(-rows // 2), -(-cols // 2)), (tile, tile)),
    ]
    ours = [pair for one in found for pair in zip(one.offsets.read(content), one.counts.read(content), strict=True)]
    assert ours == [(int(start), int(size)) for start, size in said]


def grids(file, tile):
    """(level as GDAL counts it, tiles across, tiles down) of the image and of its overview."""
    for level, times in ((None, 1), (0, 2)):
        yield level, *(math.ceil(math.ceil(side / times) / tile) for side in (file.width, file.height))


def test_numbers_are_replaced_and_others_are_left(tmp_path):
    path = tmp_path / "image.tif"
    shape = {"driver": "GTiff", "height": 40, "width": 40, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", tiled=True, blockxsize=16, blockysize=16, **shape) as file:
        file.write(np.arange(1600).astype(np.uint8).reshape(1, 40, 40))
    with rasterio.open(path) as file:
        before = file.read(1)
    with path.open("r+b") as content:
        (image,) = images(content)
        starts = image.offsets.read(content)
        image.offsets.write(content, starts[::-1].copy())
        with pytest.raises(ValueError, match="do not fit"):
            image.offsets.write(content, starts[1:])
        with pytest.raises(ValueError, match="do not fit"):
            image.offsets.write(content, starts + np.uint64(2**40))
    with rasterio.open(path) as file:
        after = file.read(1)
    assert np.array_equal(after[:16, :16], np.pad(before[32:, 32:], ((0, 8), (0, 8))))
