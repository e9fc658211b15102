"""Where an image lies: in a file here, in an archive, as a variable of a container, or at an address on a network.

Whoever names an image decides by the name alone whether a network is asked; nothing that lies in a file changes that.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SceneError

_SCHEMES = {
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
}
_NETWORK = re.compile(r"/vsi(?:curl/https?://|s3/|gs/|az/)\S", re.IGNORECASE)
_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|gzip)/)(.+)", re.DOTALL)
_FETCHED = re.compile(
    r"(?:/vsi(?:zip|tar)/(/vsi.*?\.(?:zip|tar|tgz|tar\.gz))|/vsigzip/(/vsi.*))(?:/|$)", re.IGNORECASE | re.DOTALL
)
_QUOTED = re.compile(r'(?:NETCDF|HDF5|ZARR):(?P<quote>"?)(?P<file>.+)(?P=quote):(?P<variable>[^"]+)', re.DOTALL)
_QUERY = re.compile(r"(?i)((?:https?://|/vsi(?:s3|gs|az)/|\b(?:s3|gs|az)://)[^\s?'\"]*\?)[^\s'\"]+")
_PASSWORD = re.compile(r"(?i)((?:://|/vsi(?:s3|gs|az)/)[^/\s:@]*):[^/\s]+@")  # a password may hold an @
ZARR_MARKS = (".zarray", ".zgroup", "zarr.json")
_KNOWN = "an address is https://, http://, s3://, gs://, az://, or a file in /vsizip/, /vsitar/ or /vsigzip/"


@dataclass(frozen=True, slots=True)
class Address:
    """An image as GDAL is to find it.

    Parameters
    ----------
    name
        What GDAL is given for the file, or for the container without the variable.
    file
        The file or folder on this machine that holds the image; None where a network is asked.
    member
        Whether it lies inside an archive.
    variable
        Which variable of a container it is; None where nothing was said.

    """

    name: str
    file: Path | None
    member: bool = False
    variable: str | None = None

    @property
    def remote(self) -> bool:
        """Whether a network is asked."""
        return self.file is None

    @property
    def fetched(self) -> str:
        """The one file that may be fetched from a network, by GDAL's name; "/" where none may."""
        if self.file is not None:
            return "/"
        archive = _FETCHED.match(self.name)
        return (archive[1] or archive[2]) if archive else self.name

    @property
    def plain(self) -> bool:
        """Whether it is a file or a folder of this machine, with its sidecars beside it."""
        return self.file is not None and not self.member

    @property
    def uri(self) -> str:
        """The same, written so that `address_of` gives it again."""
        return self.name if self.variable is None else f"{self.name}:{self.variable}"


def is_remote(uri: str) -> bool:
    """Whether reading this image asks a network."""
    return uri.startswith("/vsi") and address_of(uri).remote


def shown(text: str) -> str:
    """The text without what stands in addresses after the question mark, which may be a signature, and no password."""
    text = text.replace("/vsicurl/http", "http")
    return without_password(_QUERY.sub(r"\1***", text))


def without_password(text: str) -> str:
    """The text without the passwords of addresses."""
    return _PASSWORD.sub(r"\1:***@", text)


def kept(uri: str) -> str:
    """The image's name as a result may keep it: links followed, and no signature."""
    if os.path.isdir(uri):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        return os.path.realpath(uri)
    address = address_of(uri)
    if address.file is None or not address.plain:
        return shown(uri)
    path = str(address.file.resolve())
    return path if address.variable is None else f"{path}:{address.variable}"


def absolute(uri: str) -> str:
    """The same image by a name that does not depend on the folder that one is in; what is no local file stays."""
    if not os.path.exists(uri) or uri.startswith("/vsi"):  # noqa: PTH110  # as above
        return uri
    return os.path.abspath(uri)  # noqa: PTH100  # links stay: results are called by their names


def address_of(uri: str) -> Address:
    """Say where an image lies; of what is here, whether it exists.

    Raises SceneError for addresses that are not read, for GDAL's virtual names, and where there is no such file.
    """
    if not uri.isprintable() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in uri):
        raise SceneError(f"The image {uri!a} has a name that is not UTF-8: rename it.")
    if "\0" not in uri:
        if _exists(uri):
            return _here(uri)
        scheme, found, rest = uri.partition("://")
        if found and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
            return _on_network(uri, _SCHEMES.get(scheme.lower(), "") + rest)
        if uri.startswith("/vsi"):
            return _virtual(uri)
        said = _QUOTED.fullmatch(uri)
        file, _, variable = (said["file"], ":", said["variable"]) if said else uri.rpartition(":")
        if file and variable and _exists(file) and _is_container(file):
            return Address(_here(file).name, _here(file).file, variable=variable)
    what = "is not a file" if _there(uri) else "does not exist"
    raise SceneError(f"The image {uri!r} {what}: check the path.")


def _on_network(uri: str, name: str) -> Address:
    if not _NETWORK.match(name):
        raise SceneError(f"The image {shown(uri)} is an address of a kind that is not read; {_KNOWN}.")
    if name.endswith("?***"):
        raise SceneError(f"The address {shown(uri)} was kept without its signature: name the image anew.")
    return Address(name, None)


def _virtual(uri: str) -> Address:
    """One of GDAL's virtual names: those of networks and of archives."""
    archive = _ARCHIVE.fullmatch(uri)
    if not archive:
        return _on_network(uri, uri)
    prefix, rest = archive.groups()
    if ".." in rest.split("/"):
        raise SceneError(f"The image {shown(uri)} has .. in its name: name the file in the archive plainly.")
    if rest.startswith("/vsi"):
        _on_network(uri, rest)
        if not _FETCHED.match(uri):
            raise SceneError(
                f"The image {shown(uri)} lies in an archive that is called neither .zip nor .tar nor .tgz."
            )
        return Address(uri, None, member=True)
    braced = re.fullmatch(r"\{([^{}]+)\}/?(.*)", rest, re.DOTALL)
    for file, member in [braced.groups()] if braced else _splits(rest):
        if os.path.isfile(file):  # noqa: PTH113  # Path.is_file raises for names that are too long
            whole = os.path.abspath(file)  # noqa: PTH100
            name = f"{prefix}{whole}" if prefix == "/vsigzip/" else f"{prefix}{{{whole}}}"
            return Address(name + f"/{member}" * bool(member), Path(whole), member=True)
    raise SceneError(f"The image {uri!r} names no archive that is here: check the path.")


def _splits(path: str) -> list[tuple[str, str]]:
    """(file, what follows it) for each place where a file's name may end, the shortest first."""
    ends = [at for at, letter in enumerate(path) if letter == "/" and at] + [len(path)]
    return [(path[:end], path[end + 1 :]) for end in ends]


def _here(uri: str) -> Address:
    # resolve() would follow a link away from the folder that holds the sidecars
    path = os.path.abspath(uri)  # noqa: PTH100
    return Address(path, Path(path))


def _there(uri: str) -> bool:
    return os.path.exists(uri)  # noqa: PTH110  # as below


def _exists(uri: str) -> bool:
    """Whether it is a file or a folder that is a Zarr; Path's own tests raise for names that are too long."""
    return os.path.isfile(uri) or is_zarr(uri)  # noqa: PTH113


def is_zarr(folder: str | Path) -> bool:
    """Whether a folder holds a Zarr array or group."""
    return any(os.path.isfile(os.path.join(folder, mark)) for mark in ZARR_MARKS)  # noqa: PTH113, PTH118


def _is_container(file: str) -> bool:
    if is_zarr(file):
        return True
    with open(file, "rb") as opened:  # noqa: PTH123
        return opened.read(4).startswith((b"\x89HDF", b"CDF"))
