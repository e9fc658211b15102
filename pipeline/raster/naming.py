"""What a scene is called: the folder of its results has this name."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import SceneError

IMAGES = re.compile(
    r"\.(tiff?|jp2|j2k|png|jpe?g|webp|bmp|gif|nc4?|cdf|h5|hdf5?|he5|svs|ndpi|mrxs|scn|bif|vms|vmu|svslide|czi)$",
    re.IGNORECASE,
)
"""Endings of what may be an image; a VRT is made of others, and is taken where it is named."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
DELIVERED = frozenset({"MTD_MSIL1C.xml", "MTD_MSIL2A.xml"})
_MTL = re.compile(r"_MTL(?=\.(?:txt|json|xml)$)", re.IGNORECASE)
RESERVED = frozenset({"catalogue", "scenes.parquet", "logs", "report.html", "report.json"})  # beside the results
_VARIABLE = re.compile(r'\.(?:nc4?|cdf|h5|he5|hdf5?|zarr)"?:/*([^"]+)$')


def demand_name(name: str) -> None:
    """Raise SceneError where a name is none for a folder of results."""
    if not _NAME.fullmatch(name):
        raise SceneError(
            f"A scene cannot be called {name!r}: a name has 1 to 200 of the characters A-Z a-z 0-9 . _ - "
            f"and no leading dot. Give the scene a name in the job file."
        )
    if name in RESERVED:
        raise SceneError(f"A scene cannot be called {name}: that lies beside the results. Name it in the job file.")


def scene_name(uri: str) -> str:
    """Return the name of a scene that was given none: the file's stem, other characters than [A-Za-z0-9._-] as "_".

    An address is named after what stands before its question mark, a variable of a container after both. Whether that
    is a name for a folder, `demand_name` says.
    """
    file = _MTL.sub("", uri.partition("?")[0] if "://" in uri else uri)
    container = _VARIABLE.search(file)
    if Path(file).name in DELIVERED:  # of a satellite's delivery the folder has the name
        file = str(Path(file).parent)
    stem = f"{Path(file[: container.start()]).name}_{container[1]}" if container else Path(file).stem
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem)
