"""The job: everything that a run can be told, from flags or from a YAML file. One model for both.

Which settings decide pixels is said here once, by `Job.deciding()`: a result's identity includes those and no others.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import DTypeLike
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.errors import SettingsError

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


class SceneEntry(BaseModel):
    """One scene named by hand, for images whose file names are not unique."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    uri: str


class AreaEntry(BaseModel):
    """An area of interest: a file, and a layer where it has several."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    layer: str | None = None


class BandSource(BaseModel):
    """Where one band of a scene that is a folder lies: a file or a pattern, which band of it, what its numbers mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    file: str = Field(min_length=1)
    band: int = Field(default=1, ge=1, strict=True)
    gain: float | None = None
    offset: float | None = None


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


_CONTAINER = re.compile(r'(?:NETCDF|HDF5|ZARR):"?')


def _resolution(value: object) -> object:
    """The command line gives text; the YAML file gives numbers."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value) else value


Whole = Annotated[int, Field(ge=1, strict=True)]  # `true` is no number
Precision = Literal["fp32", "tf32", "fp16"]
Margin = Annotated[Literal["auto", "exact", "blend"] | Annotated[int, Field(ge=0)], BeforeValidator(_margin)]
Resolution = Annotated[
    Literal["model", "scene"] | Annotated[float, Field(gt=0, allow_inf_nan=False)], BeforeValidator(_resolution)
]
_WORDS = {  # what to say where pydantic would tell of each kind that a value could have been
    "margin": "auto, exact, blend, or a number of pixels from 0",
    "scenes": "a list of paths or globs, or of {name: north, uri: a/image.tif}",
    "model": "a zoo name, a folder with one .onnx file, or an .onnx file",
    "out": "the folder that is to hold a folder for each scene",
    "bands": "a list of band numbers from 1, such as [4, 3, 2], or a file for each of the model's bands, such as "
    "{red: '*_B4.TIF', nir: {file: '*_B5.TIF', band: 1}}",
    "grid": "finest, coarsest or a band's name",
    "products": "a list of some of confidence, probabilities, disagreement and outlines",
    "allow": "a list of folders",
    "resolution": "model, scene, or metres per pixel, above 0",
    "aoi": "tissue, a file of polygons or a mask, FILE:layer, or {file: area.gpkg, layer: fields}",
    "memory": "a size such as 800M or 8G",
}


class Job(BaseModel):
    """A job file's contents. Sides are pixels, sizes are bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: tuple[str | SceneEntry, ...] = Field(min_length=1, description="paths or globs, or {name, uri}")
    model: Annotated[str, BeforeValidator(_path)] = Field(
        description="a zoo name, a folder with one .onnx file, or an .onnx file"
    )
    out: Annotated[Path, BeforeValidator(_path)] = Field(description="the folder that holds a folder for each scene")
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
    allow: tuple[Annotated[Path, BeforeValidator(_path)], ...] = Field(
        default=(), description="folders that a VRT may name images in, beside its own"
    )
    products: frozenset[Literal["confidence", "probabilities", "disagreement", "outlines"]] = frozenset()
    memory: Annotated[Whole | None, BeforeValidator(_size)] = Field(
        default=None, description="bytes to plan for; default: what is free"
    )
    attempts: Annotated[Whole, Field(le=10)] = 3
    overwrite: bool = False

    def deciding(self) -> dict[str, Any]:
        """The settings that decide pixels, as they were asked for."""
        return {"margin": self.margin, "overlap": self.overlap, "products": sorted(self.products)}


def load_job(path: Path | None, flags: Mapping[str, Any]) -> Job:
    """Read a job file and lay the flags that were given over it.

    Paths in the file are relative to the file's folder. Raises SettingsError with one sentence for the first thing
    that is wrong.
    """
    said = _read(path) if path else {}
    said.update({key: value for key, value in flags.items() if value is not None})
    try:
        return Job.model_validate(said)
    except ValidationError as error:
        raise SettingsError(_sentence(error, path)) from None


LARGEST_DOCUMENT = 16 * 2**20  # bytes; a job of a hundred thousand scenes takes five million
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError)
"""What PyYAML raises for what is no YAML; it lets pass what its tags for numbers and dates stumble on."""
_ENTRIES = 1_000_000  # after YAML's aliases are written out


class _Loader(yaml.SafeLoader):
    """YAML in which no key comes twice: of two, one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"`{twice}` is said twice", node.start_mark)
        return super().construct_mapping(node, deep)


def demand_finite(document: object) -> None:
    """Raise ValueError where a document holds itself, or too much with all of YAML's aliases written out."""
    _entries(document, {})


def _entries(value: object, known: dict[int, int]) -> int:
    """How many entries a value has. Raises ValueError for too many, or for a circle."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _ENTRIES  # until it is counted: what holds itself has no end
        held = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_entries(each, known) for each in held)
    if known[id(value)] >= _ENTRIES:
        raise ValueError(f"it holds itself, or more than {_ENTRIES} entries")
    return known[id(value)]


def _read(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > LARGEST_DOCUMENT:
            raise ValueError(f"it takes {size} bytes, and a job no more than {LARGEST_DOCUMENT}")
        said = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
        demand_finite(said)
    except OSError as error:
        raise SettingsError(f"The job file {path} cannot be read: {error.strerror}.") from None
    except YAML_ERRORS as error:
        raise SettingsError(f"The job file {path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(said, dict):
        raise SettingsError(f"The job file {path} must hold keys and values, such as `model: earth-water`.")
    return {str(key): _anchored(str(key), value, path.parent) if value else value for key, value in said.items()}


def _anchored(key: str, value: object, folder: Path) -> object:
    """Make the paths that a job file names relative to it."""
    if key == "out" and isinstance(value, str):
        return folder / value
    if key == "model" and isinstance(value, str) and ("/" in value or value.endswith(".onnx")):
        return str(folder / value)
    if key == "scenes" and isinstance(value, list):
        return [_anchored("scene", item, folder) for item in value]
    place = None if (key, value) == ("aoi", TISSUE) else {"scene": "uri", "aoi": "file"}.get(key)
    if place and isinstance(value, dict) and isinstance(value.get(place), str):
        return {**value, place: _anchored_image(value[place], folder)}
    if key == "allow" and isinstance(value, list):
        return [folder / item if isinstance(item, str) else item for item in value]
    return _anchored_image(value, folder) if place and isinstance(value, str) else value


def _anchored_image(uri: str, folder: Path) -> str:
    if "://" in uri or uri.startswith("/vsi"):
        return uri
    container = _CONTAINER.match(uri)  # GDAL's form of a variable's name
    return f"{container[0]}{folder / uri[container.end() :]}" if container else str(folder / uri)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _sentence(error: ValidationError, path: Path | None) -> str:
    """Say the first thing that pydantic found, in words."""
    first = error.errors(include_url=False)[0]
    key = first["loc"][0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("constrained", "function-")))
    source = f"In the job file {path}: " if path else ""
    if key in _WORDS and first["type"] != "missing":
        return f"{source}`{key}` cannot be {_short(first['input'])}: say {_WORDS[str(key)]}."
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), list(Job.model_fields), n=1, cutoff=0.0)[0]
        return f"{source}there is no setting `{where}`; did you mean `{near}`?"
    if first["type"] == "missing":
        return f"{source}the setting `{where}` is missing: {Job.model_fields[where].description or 'say it'}."
    return f"{source}`{where}` cannot be {_short(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."
