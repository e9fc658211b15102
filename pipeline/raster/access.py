"""How a file is opened: which formats, and with which GDAL settings.

GDAL can follow addresses out of a file to anywhere. Here the format is told by the file's first bytes, that one driver
alone is asked to open it, a VRT only after its sources were looked at. Nothing is fetched from a network unless the
image's own name is an address there (see `address`), and then that one file alone.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import rasterio
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.session import DummySession

from pipeline.errors import SceneError
from pipeline.raster import containers, vrt, vsi
from pipeline.raster.address import Address, address_of, is_zarr, shown
from pipeline.raster.complaints import GDAL_ERRORS, reason
from pipeline.raster.endpoint import Endpoint

CACHE_BYTES = 64 << 20
"""What GDAL's block cache may hold in a process, in bytes; the plan counts it."""

PUBLISH_CACHE_BYTES = 16 << 20
"""What it may hold while a result is published, where tiles are read once and in order."""

_OPTIONS = {
    "GDAL_NUM_THREADS": "1",  # workers are the parallelism
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",  # else the missing half of a truncated JPEG is grey, without a word
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # that path reads damaged PNGs without a word
}
_OF_FILES = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # looks for each sidecar by name; EMPTY_DIR would hide them
}
_OF_ADDRESSES = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # one file and no other: no sidecar is looked for, no folder listed
    "GDAL_HTTP_CONNECTTIMEOUT": "10",  # seconds, as below
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",  # bytes per second
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
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
    (b"CDF", "netCDF"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
)
_READABLE = "GeoTIFF, PNG, JPEG, JPEG 2000, WebP, BMP, VRT, NetCDF, HDF5 and Zarr"
_BESIDE_TIFF = ".tfw .wld .imd .IMD .rpb .RPB .rpc .pvl .txt .xml .XML .eph .pass"
_BESIDE_SCENE = "_rpc.txt _RPC.TXT _metadata.txt _metadata.xml _MTL.txt"
HEAD = 1024  # bytes that tell a format
_IEND = b"IEND\xaeB`\x82"

# The cache belongs to the process, not to an Env: leaving an Env in one thread would undo it for all others.
set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
# An image without a georeference is an ordinary image here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
# What GDAL warns of while it reads a file well enough helps nobody; what it cannot read is raised.
logging.getLogger("rasterio").setLevel(logging.CRITICAL)


def _without_mojibake(told: sys.UnraisableHookArgs, others: Callable[[sys.UnraisableHookArgs], object]) -> None:
    """Pass on what nobody can raise, but for rasterio's stumble over a message of GDAL's that is no UTF-8."""
    if not (isinstance(told.exc_value, UnicodeDecodeError) and told.object == "rasterio._env.log_error"):
        others(told)


sys.unraisablehook = partial(_without_mojibake, others=sys.unraisablehook)


def environment(uri: str = "") -> rasterio.Env:
    """GDAL's settings for opening and reading this image, or files of our own; enter it in the thread that reads."""
    return _settings(address_of(uri) if uri.startswith("/vsi") or "://" in uri else None)


def _settings(address: Address | None) -> rasterio.Env:
    if address is None or address.plain:
        more = dict(_OF_FILES)
    elif address.remote:
        # A signature is for reading, and would not do for asking of a file without reading it.
        more = {**_OF_ADDRESSES, "CPL_VSIL_CURL_USE_HEAD": "NO" if "?" in address.name else "YES"}
        more |= Endpoint.of().for_gdal() if "/vsis3/" in address.name else {}
    else:
        more = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    # Nothing else is fetched, whatever a sidecar names. Inner settings lie over outer ones: this is always said.
    more["CPL_VSIL_CURL_ALLOWED_FILENAME"] = address.fetched if address else "/"
    # GDAL finds credentials by itself, where the environment holds them.
    return rasterio.Env(session=DummySession(), **_OPTIONS, **more)


@contextmanager
def cache_of(size: int) -> Iterator[None]:
    """Let GDAL's block cache hold so many bytes, in all threads, while the body runs."""
    set_gdal_config("GDAL_CACHEMAX", size)
    try:
        yield
    finally:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)


def driver_of(path: Path) -> str:
    """Return GDAL's driver for a file, told by its first bytes.

    Raises SceneError where the file cannot be read or is none of the formats that are read here.
    """
    try:
        with path.open("rb") as file:
            return _told_by(file.read(HEAD), str(path))
    except OSError as error:
        raise SceneError(f"The image {path} cannot be read: {error.strerror}.") from None


def driver_at(address: Address) -> str:
    """Return GDAL's driver for what lies at an address; inside its `environment`. Raises what `driver_of` raises."""
    if address.file is not None and address.plain:
        return "Zarr" if is_zarr(address.file) else driver_of(address.file)
    return _told_by(vsi.head(address.name, HEAD), shown(address.name))


def _told_by(head: bytes, name: str) -> str:
    if not head:
        raise SceneError(f"The image {name} is an empty file (0 bytes): fetch it again.")
    for magic, driver in _MAGIC:
        if head.startswith(magic):
            return driver
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if vrt.looks_like(head):
        return "VRT"
    if head.startswith(b"PK\x03\x04"):
        raise SceneError(f"The file {name} is a zip archive: name the image in it, /vsizip/{name}/image.tif.")
    raise SceneError(f"The file {name} is not an image that can be read here, which are {_READABLE}.")


def open_file(uri: str | Path, allow: Sequence[str] = ()) -> DatasetReader:
    """Open an image read-only, with the driver that its first bytes tell and no other.

    A VRT may name images in its own folder and in the folders `allow`. The handle belongs to the calling thread.
    Raises SceneError where it is no image, is cut short, cannot be reached, or is a VRT that reaches elsewhere.
    """
    address = address_of(str(uri))
    with _settings(address):
        driver = driver_at(address)
        name = address.name
        if driver in containers.DRIVERS:
            return containers.open_variable(address, driver)
        if address.variable is not None:
            raise SceneError(f"The file {shown(name)} is one image, without a variable {address.variable}.")
        if address.file is not None and address.plain:
            name = str(_checked(address.file, driver, allow))
        elif driver == "VRT":
            raise SceneError(
                f"{shown(name)} is a VRT; a VRT is read as a file with its images beside it: copy it here."
            )
        if driver == "PNG":
            _refuse_cut_png(address)
        try:
            return rasterio.open(name, driver=driver, sharing=False)
        except GDAL_ERRORS as error:
            raise SceneError(
                f"The image {shown(name)} cannot be opened, it may be cut short: {reason(error)}."
            ) from None


def _checked(path: Path, driver: str, allow: Sequence[str]) -> Path:
    """Look at all that GDAL would follow from a file here; returns the path to open."""
    _refuse_sidecars(path)
    if driver != "VRT":
        return path
    path = path.resolve()  # as GDAL does, for the sources are relative to it
    for source in vrt.sources_of(path, allow):
        _refuse_sidecars(source)
        inner = driver_of(source)
        if inner == "VRT":
            raise SceneError(f"The VRT {path} names another VRT, {source.name}: name the images themselves.")
        if inner in containers.DRIVERS:
            raise SceneError(f"The VRT {path} names a container, {source.name}: name single images.")
    return path


def _refuse_sidecars(path: Path) -> None:
    """GDAL opens masks and overviews beside an image with any driver: they must be TIFFs, and lie there themselves."""
    beside = (
        path.with_name(path.name + ".aux.xml"),
        *(path.with_name(path.stem + ending) for ending in f"{_BESIDE_TIFF} {_BESIDE_SCENE}".split()),
    )
    for sidecar in beside:
        if sidecar.exists() and not (sidecar.is_file() or sidecar.is_dir()):
            raise SceneError(f"The file {sidecar} beside the image is a pipe or a device: remove it.")
    for suffix in (".msk", ".MSK", ".ovr", ".OVR"):
        sidecar = path.with_name(path.name + suffix)
        if sidecar.is_file() and driver_of(sidecar) != "GTiff":
            raise SceneError(f"The file {sidecar} beside the image is no TIFF: remove it or write it anew.")
    pam = path.with_name(path.name + ".aux.xml")
    if pam.is_file() and b"OVERVIEW_FILE" in pam.read_bytes().upper():
        raise SceneError(f"The file {pam} names overviews elsewhere: remove it.")


def _refuse_cut_png(address: Address) -> None:
    """A PNG ends with its IEND chunk; GDAL reads one that does not without a word."""
    if _IEND not in vsi.ends(address.name, 4096)[2]:
        raise SceneError(
            f"The image {shown(address.name)} is a PNG that is cut short: its end is missing; fetch it again."
        )
