"""How a file is opened: which formats, with which GDAL settings, and what GDAL's complaints read like.

GDAL can follow addresses out of a file to anywhere. Here the format is told by the file's first bytes, that one driver
alone is asked to open it, a VRT only after its sources were looked at, and nothing is fetched from a network.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from pipeline.errors import SceneError
from pipeline.raster import vrt

CACHE_BYTES = 64 << 20
"""What GDAL's block cache may hold in a process, in bytes; the plan counts it."""

PUBLISH_CACHE_BYTES = 16 << 20
"""What it may hold while a result is published, where tiles are read once and in order."""

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
"""What rasterio raises when GDAL cannot read something."""

_OPTIONS = {
    "GDAL_NUM_THREADS": "1",  # workers are the parallelism
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # looks for each sidecar by name; EMPTY_DIR would hide them
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",  # else the missing half of a truncated JPEG is grey, without a word
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # that path reads damaged PNGs without a word
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # nothing is fetched, whatever a sidecar names
}

_MAGIC = (
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),  # BigTIFF
    (b"MM\0+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),  # a bare codestream
    (b"BM", "BMP"),
)
_CONTAINERS = ((b"\x89HDF", "HDF5"), (b"\x0e\x03\x13\x01", "HDF4"), (b"CDF", "netCDF"), (b"PK\x03\x04", "zip"))
_READABLE = "GeoTIFF, PNG, JPEG, JPEG 2000, WebP, BMP and VRT"

# The cache belongs to the process, not to an Env: leaving an Env in one thread would undo it for all others.
set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
# An image without a georeference is an ordinary image here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
# What GDAL warns of while it reads a file well enough helps nobody; what it cannot read is raised.
logging.getLogger("rasterio").setLevel(logging.CRITICAL)


def environment() -> rasterio.Env:
    """GDAL's settings for every open and read; enter it in the thread that reads."""
    return rasterio.Env(**_OPTIONS)


@contextmanager
def cache_of(size: int) -> Iterator[None]:
    """Let GDAL's block cache hold so many bytes, in all threads, while the body runs."""
    set_gdal_config("GDAL_CACHEMAX", size)
    try:
        yield
    finally:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)


def local_path(uri: str) -> Path:
    """Return the absolute path of a file on this machine.

    Raises SceneError for addresses, for GDAL's virtual names, and where there is no such file.
    """
    if not uri.isprintable() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in uri):
        raise SceneError(f"The image {uri!a} has a name that is not UTF-8: rename it.")
    if "://" in uri or uri.startswith("/vsi"):
        raise SceneError(f"The image {uri} is an address; images are read from local files only: copy it here first.")
    if not os.path.isfile(uri):  # noqa: PTH113
        # ^ Path.is_file raises for names that are too long or hold a NUL
        what = "is not a file" if os.path.exists(uri) else "does not exist"  # noqa: PTH110
        raise SceneError(f"The image {uri!r} {what}: check the path.")
    return Path(os.path.abspath(uri))  # noqa: PTH100
    # ^ resolve() would follow a link away from the folder that holds the sidecars


def driver_of(path: Path) -> str:
    """Return GDAL's driver for a file, told by its first bytes.

    Raises SceneError where the file cannot be read or is none of the formats that are read here.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise SceneError(f"The image {path} cannot be read: {error.strerror}.") from None
    if not head:
        raise SceneError(f"The image {path} is an empty file (0 bytes): fetch it again.")
    for magic, driver in _MAGIC:
        if head.startswith(magic):
            return driver
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if vrt.looks_like(head):
        return "VRT"
    for magic, container in _CONTAINERS:
        if head.startswith(magic):
            raise SceneError(
                f"The file {path} is a {container} container, not one image: take the image out of it "
                f"(gdal_translate writes a GeoTIFF of one subdataset)."
            )
    raise SceneError(f"The file {path} is not an image that can be read here, which are {_READABLE}.")


def open_file(path: Path) -> DatasetReader:
    """Open an image read-only, with the driver that its first bytes tell and no other.

    The handle belongs to the calling thread. Raises SceneError where it is no image, is cut short, or is a VRT that
    reaches beyond its folder.
    """
    driver = driver_of(path)
    _refuse_sidecars(path)
    if driver == "VRT":
        path = path.resolve()  # as GDAL does, for the sources are relative to it
        for source in vrt.sources_of(path):
            _refuse_sidecars(source)
            if driver_of(source) == "VRT":
                raise SceneError(f"The VRT {path} names another VRT, {source.name}: name the images themselves.")
    if driver == "PNG":
        _refuse_cut_png(path)
    try:
        with environment():
            return rasterio.open(path, driver=driver, sharing=False)
    except GDAL_ERRORS as error:
        raise SceneError(f"The image {path} cannot be opened, it may be cut short: {reason(error)}.") from None


def reason(error: BaseException) -> str:
    """What GDAL said, on one line, without a full stop."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = getattr(error, "errmsg", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split()).rstrip(".")


def _refuse_sidecars(path: Path) -> None:
    """GDAL opens masks and overviews beside an image with any driver: they must be TIFFs, and lie there themselves."""
    for suffix in (".msk", ".MSK", ".ovr", ".OVR"):
        sidecar = path.with_name(path.name + suffix)
        if sidecar.is_file() and driver_of(sidecar) != "GTiff":
            raise SceneError(f"The file {sidecar} beside the image is no TIFF: remove it or write it anew.")
    pam = path.with_name(path.name + ".aux.xml")
    if pam.is_file() and b"OVERVIEW_FILE" in pam.read_bytes().upper():
        raise SceneError(f"The file {pam} names overviews elsewhere: remove it.")


def _refuse_cut_png(path: Path) -> None:
    """A PNG ends with its IEND chunk; GDAL reads one that does not without a word."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        if b"IEND\xaeB`\x82" not in file.read():
            raise SceneError(f"The image {path} is a PNG that is cut short: its end is missing; fetch it again.")
