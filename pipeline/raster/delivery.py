"""A scene as its makers deliver it: a folder of one file per band. Reflectance is raw × gain + offset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import SceneError


@dataclass(frozen=True, slots=True)
class BandFile:
    """Where one band lies, and what its numbers mean.

    Parameters
    ----------
    path
        The file, or its address.
    band
        Which band of it, from 1.
    gain, offset
        reflectance = raw × gain + offset; None where the metadata does not say it.
    nodata
        The number that means nodata where the file itself declares none.

    """

    path: Path | str
    band: int = 1
    gain: float | None = None
    offset: float | None = None
    nodata: float | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """A delivered scene: what it is called, whose it is, and its bands.

    `bands` has each band under the maker's name (`b4`) and, where it has one, under its common name (`red`), all in
    lower case. `metadata` are the files that say gain and offset; `taken` is when, ISO 8601 in UTC, and what says so.
    """

    name: str
    kind: str
    bands: Mapping[str, BandFile]
    metadata: tuple[Path, ...] = field(default=())
    taken: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.bands:
            raise SceneError(f"The {self.kind} scene {self.name} has metadata and no band beside it: fetch it again.")
