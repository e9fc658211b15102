"""A job file becomes a Job: YAML is read without trust, paths are relative to it, mistakes are told in one sentence."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.origin import BucketOrigin, FolderOrigin, ListOrigin, MosaicOrigin, Origin, StacOrigin
from pipeline.settings import TISSUE, Job

_CONTAINER = re.compile(r'(?:NETCDF|HDF5|ZARR):"?')
_WORDS = {  # what to say where pydantic would tell of each kind that a value could have been
    "margin": "auto, exact, blend, or a number of pixels from 0",
    "scenes": "a list of paths or globs, or of {name: north, uri: a/image.tif}, {folder: archive, pattern: "
    "'**/*.tif'}, {prefix: s3://bucket/archive/}, {list: scenes.csv}, {stac: catalog.json} or {mosaic: north.vrt, of: "
    "tiles/*.tif}",
    "settle": "minutes, from 0",
    "model": "a zoo name, a folder with one .onnx file, or an .onnx file",
    "out": "the folder that is to hold a folder for each scene, on a disk of this machine or a shared one, or "
    "s3://bucket/prefix, gs:// or az://",
    "bands": "a list of band numbers from 1, such as [4, 3, 2], or a file for each of the model's bands, such as "
    "{red: '*_B4.TIF', nir: {file: '*_B5.TIF', band: 1}}",
    "grid": "finest, coarsest or a band's name",
    "cluster": "inline, local, gpus, the address of a scheduler, {address: tls://host:8786, tls: {ca: …, cert: …, "
    "key: …}}, or {class: dask_jobqueue.SLURMCluster, arguments: {…}, adapt: {minimum: 0, maximum: 8}}",
    "products": "a list of some of confidence, probabilities, disagreement and outlines",
    "allow": "a list of folders",
    "resolution": "model, scene, or metres per pixel, above 0",
    "aoi": "tissue, a file of polygons or a mask, FILE:layer, or {file: area.gpkg, layer: fields}",
    "memory": "a size such as 800M or 8G",
    "overwrite": "true, false or other",
    "store": "{endpoint: https://host, region: …, requester_pays: true, max_requests: 10000, workshop: DIR}, "
    "credentials in the environment",
    "stop_at": 'a time of day, such as "06:00"',
    "on_failure": "{command: [program, argument, …]}, {webhook: https://…} or {webhook: $VARIABLE}, or both in one",
}
_ORIGINS: dict[str, type[Origin]] = {
    "folder": FolderOrigin,
    "prefix": BucketOrigin,
    "list": ListOrigin,
    "stac": StacOrigin,
    "mosaic": MosaicOrigin,
}
_UNSAID = frozenset({"cluster", "on_failure", "store"})  # what holds secrets, perhaps, is not repeated


def load_job(path: Path | None, flags: Mapping[str, Any]) -> Job:
    """Read a job file and lay the flags that were given over it.

    Paths in the file are relative to the file's folder. Raises SettingsError with one sentence for the first thing
    that is wrong.
    """
    said = _read(path) if path else {}
    _demand_format(path, said.pop("format", FORMAT))
    said.update({key: value for key, value in flags.items() if value is not None})
    try:
        return Job.model_validate(said)
    except ValidationError as error:
        raise SettingsError(_sentence(error, path)) from None


FORMAT = 1  # of job files; one that does not say it is of this


def _demand_format(path: Path | None, told: object) -> None:
    if told is True or told != FORMAT:
        raise SettingsError(
            f"The job file {path} is of format {_short(told)} and this version reads {FORMAT}: use the version that "
            f"it was written for, or write it anew with `format: {FORMAT}`."
        )


LARGEST_DOCUMENT = 16 * 2**20  # bytes; a job of a hundred thousand scenes takes five million
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError)
"""What PyYAML raises for what is no YAML; it lets pass what its tags for numbers and dates stumble on."""
MISSHAPEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a reader stumbles over where a document has not the form of its kind, beside what it refuses by name."""
_ENTRIES = 1_000_000  # after YAML's aliases are written out


class _Loader(yaml.SafeLoader):
    """YAML in which no key comes twice: of two, one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key, times in Counter(keys).items() if times > 1), None)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"`{twice}` is said twice", node.start_mark)
        return super().construct_mapping(node, deep)


def demand_finite(document: object) -> None:
    """Raise ValueError where a document holds itself, or too much with all of YAML's aliases written out."""
    _entries(document, {})


def _entries(value: object, known: dict[int, int]) -> int:
    """How many entries a value has. Raises ValueError for too many, or for a circle."""
    if isinstance(value, str):
        value.encode()  # half a character, which "\ud800" is, is no text: UnicodeEncodeError, a ValueError
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
    if isinstance(value, list):
        one = {"allow": _anchored_folder, "scenes": _anchored_scenes, "priority": _anchored_area}.get(key)
        return [one(item, folder) for item in value] if one else value
    if key in {"out", "golden"} and isinstance(value, str):
        return value if "://" in value else folder / value  # an address is refused, and not made a folder's name
    if key == "model" and isinstance(value, str) and ("/" in value or value.endswith(".onnx")):
        return str(folder / value)
    if key == "cluster" and isinstance(value, dict) and isinstance(value.get("tls"), dict):
        return {**value, "tls": {name: folder / str(file) for name, file in value["tls"].items()}}
    if whole := {"priority": _anchored_area, "on_failure": _anchored_command, "store": _anchored_workshop}.get(key):
        return whole(value, folder)
    return _anchored_place("file", value, folder) if key == "aoi" and value != TISSUE else value


def _anchored_folder(value: object, folder: Path) -> object:
    return folder / value if isinstance(value, str) else value


def _anchored_area(value: object, folder: Path) -> object:
    """A part of `priority`, with the file that it names, if any."""
    return _anchored_place("area", value, folder) if isinstance(value, dict) else value


def _anchored_workshop(value: object, folder: Path) -> object:
    """What a job says of a store, with the folder in which results are made."""
    if isinstance(value, dict) and isinstance(value.get("workshop"), str):
        return {**value, "workshop": str(folder / value["workshop"])}
    return value


def _anchored_command(value: object, folder: Path) -> object:
    """A notice, with its program: one without a slash is found as a shell finds it."""
    command = value.get("command") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(command, list) or not command or "/" not in str(command[0]):
        return value
    return {**value, "command": [str(folder / str(command[0])), *command[1:]]}


def _anchored_scenes(value: object, folder: Path) -> object:
    """What holds scenes, with the paths in it."""
    if isinstance(value, dict) and "mosaic" in value:
        of = value.get("of")
        images = [_anchored_place("of", one, folder) for one in of] if isinstance(of, list) else of
        return _anchored_place("of", _anchored_place("mosaic", {**value, "of": images}, folder), folder)
    held = [name for name in ("uri", "folder", "list", "stac") if isinstance(value, dict) and name in value]
    return _anchored_place(held[0] if held else "uri", value, folder)


def _anchored_place(name: str, value: object, folder: Path) -> object:
    """An image or an area: its address, or a mapping that holds it under a name."""
    if isinstance(value, dict) and isinstance(value.get(name), str):
        return {**value, name: anchored_image(value[name], folder)}
    return anchored_image(value, folder) if isinstance(value, str) else value


def anchored_image(uri: str, folder: Path) -> str:
    """An image's address, relative to the folder of the file that names it."""
    if "://" in uri or uri.startswith("/vsi"):
        return uri
    container = _CONTAINER.match(uri)  # GDAL's form of a variable's name
    return f"{container[0]}{folder / uri[container.end() :]}" if container else str(folder / uri)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _given(key: str, value: object) -> str:
    """What a setting was given, unless that may hold a secret."""
    if key in _UNSAID:
        return "what it is"
    return "an address" if key == "out" and "://" in str(value) else _short(value)


def _sentence(error: ValidationError, path: Path | None) -> str:
    """Say the first thing that pydantic found, in words."""
    first = error.errors(include_url=False)[0]
    key = first["loc"][0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("constrained", "function-")))
    source = f"In the job file {path}: " if path else ""
    if key == "scenes" and (said := _in_origin(error)):
        return source + said
    if key in _WORDS and first["type"] != "missing":
        return f"{source}`{key}` cannot be {_given(str(key), first['input'])}: say {_WORDS[str(key)]}."
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), list(Job.model_fields), n=1, cutoff=0.0)[0]
        return f"{source}there is no setting `{where}`; did you mean `{near}`?"
    if first["type"] == "missing":
        return f"{source}the setting `{where}` is missing: {Job.model_fields[where].description or 'say it'}."
    return f"{source}`{where}` cannot be {_short(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _in_origin(error: ValidationError) -> str | None:
    """The same for a mapping that names a source of scenes; None where none does."""
    first, *others = error.errors(include_url=False)
    given = first["input"] if isinstance(first["input"], dict) else {}
    kind = next((key for key in _ORIGINS if key in given), None)
    if kind is None:
        return None
    model = _ORIGINS[kind]
    wrong = next(one for one in others if one["loc"][1] == first["loc"][1] and model.__name__ in str(one["loc"][2]))
    where = str(wrong["loc"][3]) if len(wrong["loc"]) > 3 else kind
    if wrong["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, list(model.model_fields), n=1, cutoff=0.0)[0]
        return f"beside `{kind}` there is no `{where}`; did you mean `{near}`?"
    said = wrong["msg"].removeprefix("Value error, ")
    return f"`{where}` of an entry of `scenes` is not right: {said[0].lower()}{said[1:]}."
