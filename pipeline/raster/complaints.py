"""What rasterio raises when GDAL cannot read something, and what that reads like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from pipeline.errors import SceneError
from pipeline.raster.address import shown

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError, SystemError)
"""What rasterio raises when GDAL cannot read something; a SystemError where GDAL gave it no reason."""


def reason(error: BaseException) -> str:
    """What GDAL said, on one line, without a full stop and without what is secret in an address."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = getattr(error, "errmsg", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shown(" ".join(str(said).split()).rstrip("."))


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Turn what GDAL says while an image is looked at into a SceneError that names the image."""
    try:
        yield
    except GDAL_ERRORS as error:
        raise SceneError(f"The image {name} cannot be understood, it may be damaged: {reason(error)}.") from None
