"""The job: everything that a run can be told, from flags or from a YAML file. One model for both.

Which settings decide pixels is said here once, by `Job.deciding()`: a result's identity includes those and no others.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.night import Night
from pipeline.origin import BucketOrigin, FolderOrigin, ListOrigin, MosaicOrigin, StacOrigin
from pipeline.outside import Store, address_of, workshop_of

FAILED, OUTSIDE, NODATA = 253, 254, 255  # what a pixel can be besides a class, in a raster of bytes
TISSUE = "tissue"  # the area that a slide says itself; a file of that name is ./tissue
HIGHEST_CLASS = 65532  # of a mask of 16 bits; one of bytes ends at 252
STEPS = 250  # confidence and probabilities are stored in steps of 1/250, so that the three statuses keep their values


class Statuses(NamedTuple):
    """The numbers that stand for a pixel without a value of its own."""

    failed: float
    outside: float
    nodata: float

    def named(self) -> dict[int, str]:
        """The names of the numbers, for a raster that has one for each."""
        return {int(number): name for number, name in zip(self, self._fields, strict=True)}


def statuses(dtype: DTypeLike) -> Statuses:
    """The statuses of a raster: the three highest numbers of unsigned ones; NaN in floats, whose mask tells them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return Statuses(np.nan, np.nan, np.nan)
    highest = int(np.iinfo(kind).max)
    return Statuses(highest - 2, highest - 1, highest)


class Device(StrEnum):
    """Where the network runs."""

    AUTO = "auto"  # CUDA if it really starts, else the CPU, said aloud
    CPU = "cpu"
    CUDA = "cuda"


class AreaEntry(BaseModel):
    """An area of interest: a file, and a layer where it has several."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str = Field(repr=False)  # addresses may hold passwords, here and below
    layer: str | None = None


class BandSource(BaseModel):
    """Where one band of a scene lies: a file, or a pattern in its folder, which band of it, what its numbers mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    file: str = Field(min_length=1, repr=False)
    band: int = Field(default=1, ge=1, strict=True)
    gain: float | None = None
    offset: float | None = None
    nodata: float | None = None  # where the file itself declares none


class SceneEntry(BaseModel):
    """One scene with its name, and where its bands lie if not in one image; of those a model takes what it eats."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    uri: str = Field(repr=False)
    bands: dict[str, BandSource] | None = Field(default=None, min_length=1)


def _band_file(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


def _margin(value: object) -> object:
    """The command line gives text; the YAML file gives numbers."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return str(value) if isinstance(value, bool) else value


def _size(value: object) -> object:
    """A size in words is its bytes; a unit is a power of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", value.strip().lower()) if isinstance(value, str) else None
    return int(float(match[1]) * 2 ** (10 * " kmgt".index(match[2] or " "))) if match else value


def _path(value: object) -> object:
    """What a shell gives for a variable that is not set would be the folder that one happens to be in."""
    if value == "" or "\0" in str(value):
        raise ValueError("not a path")
    return value


def _folder(value: object) -> object:
    """An address would become a folder of that name on this machine's disk."""
    if "://" in str(value) or re.match(r"/vsi[a-z0-9]+/", str(value)):
        raise ValueError("not a folder")
    return _path(value)


def _resolution(value: object) -> object:
    """The command line gives text; the YAML file gives numbers."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value) else value


def _cluster(value: object) -> object:
    """The command line gives an address; a job file may as well."""
    return {"address": value} if isinstance(value, str) and "://" in value else value


Whole = Annotated[int, Field(ge=1, strict=True)]  # `true` is no number
Precision = Literal["fp32", "tf32", "fp16"]
Margin = Annotated[Literal["auto", "exact", "blend"] | Annotated[int, Field(ge=0)], BeforeValidator(_margin)]
Resolution = Annotated[
    Literal["model", "scene"] | Annotated[float, Field(gt=0, allow_inf_nan=False)], BeforeValidator(_resolution)
]


class Certificates(BaseModel):
    """What a scheduler and its workers know each other by; files in PEM's form."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ca: Path
    cert: Path
    key: Path


class Scheduler(BaseModel):
    """A Dask scheduler that runs already; certificates may also be named by Dask's own environment variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    address: str = Field(pattern=r"^[a-z]+://\S+$")
    tls: Certificates | None = None


class Adapt(BaseModel):
    """How many workers a cluster may have, as there is work."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    minimum: int = Field(default=0, ge=0, strict=True)
    maximum: Whole

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"the minimum, {self.minimum}, is above the maximum, {self.maximum}")
        return self


class ClusterClass(BaseModel):
    """A Dask cluster of any kind: a class by its import path, what it is called with, and how it grows."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    path: str = Field(alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    arguments: dict[str, Any] = Field(default_factory=dict, repr=False)  # may hold tokens
    adapt: Adapt | None = None


Far = Scheduler | ClusterClass
Cluster = Annotated[Literal["inline", "local", "gpus"] | Far, BeforeValidator(_cluster)]


class Job(Night):
    """A job file's contents. Sides are pixels, sizes are bytes."""

    scenes: tuple[str | SceneEntry | FolderOrigin | BucketOrigin | ListOrigin | MosaicOrigin | StacOrigin, ...] = Field(
        repr=False,
        min_length=1,
        description="paths, globs, folders, prefixes, lists; {name, uri}, {folder}, {prefix}, {list}, {stac}, {mosaic}",
    )
    settle: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="minutes without a change after which a scene counts; default: 5 in folders, prefixes and patterns "
        "of a job file, else 0",
    )
    model: Annotated[str, BeforeValidator(_path)] = Field(
        description="a zoo name, a folder with one .onnx file, or an .onnx file"
    )
    out: Annotated[Path, BeforeValidator(_folder)] = Field(
        description="the folder, or s3://bucket/prefix, that holds a folder for each scene"
    )
    mirror: str | None = Field(default=None, description="the bucket that `out` names; `out` is the workshop then")
    store: Store = Field(
        default=Store(),
        description="of a bucket as `out`: endpoint, region, requester_pays, max_requests, workshop",
    )
    card: dict[str, Any] = Field(default_factory=dict, description="what replaces parts of the model's card")
    bands: (
        Annotated[tuple[Whole, ...], Field(min_length=1)]
        | Annotated[dict[str, Annotated[BandSource, BeforeValidator(_band_file)]], Field(min_length=1)]
        | None
    ) = Field(default=None, description="bands of the image, from 1, or a file for each of the model's bands")
    grid: str = Field(default="finest", description="whose pixels the scene has: finest, coarsest or a band's name")
    aoi: Annotated[str | AreaEntry | None, BeforeValidator(_path)] = Field(
        default=None,
        description="polygons, a mask, or `tissue` for slides: pixels whose centre is outside are 254, and blocks "
        "outside are never read; what is measured of the whole scene (for a model's scaling) is measured inside",
    )
    device: Device = Device.AUTO
    precision: Precision = Field(
        default="fp32", description="what the network computes in; all but fp32 on a GPU alone"
    )
    margin: Margin = "auto"
    overlap: float | None = Field(
        default=None, gt=0, lt=0.9, description="blend: part of the window shared with the next"
    )
    resolution: Resolution | None = Field(
        default=None,
        description="what the network sees: model, scene or metres per pixel; the mask keeps the scene's own grid",
    )
    window: Whole | None = None
    block: Whole | None = None
    batch: Whole | None = None
    workers: Whole | None = None
    threads: Whole | None = (
        None  # blocks that a worker has in hand: while one is predicted, others are read and written
    )
    cluster: Cluster = Field(
        default="local",
        description="inline, local, gpus, {address: tls://…} of a scheduler, or {class: import.path, arguments: {…}}",
    )
    mixed: bool = Field(
        default=False,
        description="workers may be of several numeric classes, whose masks differ in a few pixels; the report says so",
    )
    allow: tuple[Annotated[Path, BeforeValidator(_path)], ...] = Field(
        default=(), description="folders that a VRT may name images in, beside its own"
    )
    products: frozenset[Literal["confidence", "probabilities", "disagreement", "outlines"]] = frozenset()
    memory: Annotated[Whole | None, BeforeValidator(_size)] = Field(
        default=None, description="bytes to plan for; default: what is free"
    )
    attempts: Annotated[Whole, Field(le=10)] = 3
    overwrite: bool | Literal["other"] = Field(
        default=False,
        description="build a result anew beside the old one; other: only one of another image, model or setting",
    )

    @model_validator(mode="before")
    @classmethod
    def _to_a_bucket(cls, said: object) -> object:
        """Where `out` is a bucket, results are made in a folder of this machine and followed there."""
        if isinstance(said, dict) and (address := address_of(said.get("mirror") or said.get("out"))):
            return {**said, "mirror": address, "out": workshop_of(address, said.get("store"))}
        return said

    @property
    def far(self) -> bool:
        """Whether the workers are somebody else's: perhaps on other machines, with their own memory."""
        return isinstance(self.cluster, Far)

    @property
    def allowed(self) -> tuple[Path, ...]:
        """Folders that a VRT may name images in: those that are said, and those that a mosaic's images lie in."""
        mosaics = (one for one in self.scenes if isinstance(one, MosaicOrigin))
        return tuple(dict.fromkeys((*self.allow, *(folder for one in mosaics for folder in one.folders))))

    def deciding(self) -> dict[str, Any]:
        """The settings that decide pixels, as they were asked for."""
        return {"margin": self.margin, "overlap": self.overlap, "products": sorted(self.products)}
