"""What rasterio raises when GDAL cannot read something, and what that reads like."""

from __future__ import annotations

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from pipeline.raster.address import shown

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
"""What rasterio raises when GDAL cannot read something."""


def reason(error: BaseException) -> str:
    """What GDAL said, on one line, without a full stop and without what is secret in an address."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = getattr(error, "errmsg", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shown(" ".join(str(said).split()).rstrip("."))
