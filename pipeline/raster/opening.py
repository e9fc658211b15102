"""From what a job names to a scene: a file, a folder with a file for each band, a satellite's delivery."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pipeline.errors import SceneError
from pipeline.raster.access import environment, open_file
from pipeline.raster.address import is_zarr, shown
from pipeline.raster.delivery import BandFile, Layout
from pipeline.raster.facts import alpha_of, coloured, names_of
from pipeline.raster.layout import layout_of
from pipeline.raster.naming import scene_name
from pipeline.raster.slide import is_slide
from pipeline.raster.source import Scene, open_scene
from pipeline.raster.spectrum import RGB, called, natural, places_of
from pipeline.raster.stack import FINEST, stacked
from pipeline.settings import BandSource

_NEAR = {"lwir": "lwir11", "rededge": "rededge071", "nir08": "nir"}  # what stands for a name that a satellite lacks
_NEAR_ASSET = {"nir": "nir08", "rededge071": "rededge", "lwir11": "lwir"}  # as catalogues call what satellites have
_SHOWN = 8  # file names in a message


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bands a network is to eat.

    Parameters
    ----------
    names
        What the card calls them, in order; none: those that a picture for people shows.
    numbers
        Bands of a file from 1, as the job says; None: by the card's numbers, by name, or by place.
    indices
        Bands of a file from 1, as the card says; None where it does not.
    files
        Where each lies, by name, as the job says; relative to the scene, which is a folder.
    assets
        Where each band of the scene lies that it says of itself, by name: those that are wanted are taken.
    grid
        Whose pixels the scene has where bands lie in files of several sizes: "finest", "coarsest" or a name.

    """

    names: tuple[str, ...]
    numbers: tuple[int, ...] | None = None
    indices: tuple[int, ...] | None = None
    files: Mapping[str, BandSource] | None = None
    assets: Mapping[str, BandSource] | None = None
    grid: str = FINEST


def open_image(uri: str, wanted: Wanted, name: str | None = None, allow: Sequence[str] = ()) -> Scene:
    """Open what a job names, and choose its bands. Raises SceneError, in one sentence, where that cannot be done."""
    name = scene_name(uri) if name is None else name
    if not wanted.names:
        wanted = _seen(uri, wanted, allow)
    if wanted.assets is not None:
        return stacked(uri, name, list(_of_assets(name, wanted.names, wanted.assets)), wanted.grid, allow)
    if os.path.isdir(uri) and not is_zarr(uri):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        folder = Path(os.path.abspath(uri))  # noqa: PTH100
        if wanted.files is not None:
            return stacked(str(folder), name, list(_told(folder, wanted, wanted.files)), wanted.grid, allow)
        delivery = layout_of(folder)
        if delivery is None:
            raise SceneError(
                f"The image {uri!r} is not a file, and as a folder it is no delivery of Landsat or Sentinel-2: say in "
                "a job file which file holds which band, such as `bands: {" + wanted.names[0] + ": '*_B4.TIF'}`."
            )
        scene = stacked(str(folder), name, list(_delivered(delivery, wanted)), wanted.grid, allow)
        return replace(scene, taken=delivery.taken or scene.taken)
    if wanted.files is not None:
        raise SceneError(f"`bands` names a file for each band, and {shown(uri)} is no folder that they lie in.")
    delivery = layout_of(Path(uri)) if os.path.isfile(uri) else None  # noqa: PTH113  # as above
    if delivery is not None:
        whole = os.path.abspath(uri)  # noqa: PTH100
        scene = stacked(whole, name, list(_delivered(delivery, wanted)), wanted.grid, allow)
        return replace(scene, taken=delivery.taken or scene.taken)
    if numbers := wanted.numbers or wanted.indices:
        return open_scene(uri, numbers, name, allow)
    return _by_name(uri, wanted, name, allow)


def _seen(uri: str, wanted: Wanted, allow: Sequence[str]) -> Wanted:
    """What a picture for people shows: red, green and blue, or else the first three bands, or the first."""
    if sources := wanted.assets or wanted.files:
        every = list(sources)
        kept = {every[place]: sources[every[place]] for place in natural(every)}
        return replace(wanted, names=tuple(kept), files=kept if wanted.files else None)
    folder = os.path.isdir(uri) and not is_zarr(uri)  # noqa: PTH112  # as in `open_image`
    delivery = folder or (os.path.isfile(uri) and layout_of(Path(uri)) is not None)  # noqa: PTH113  # as there
    if wanted.numbers or delivery or is_slide(Path(uri)):
        return replace(wanted, names=RGB)
    with environment(uri), open_file(uri, allow) as dataset:
        bands = [band for band in dataset.indexes if band != alpha_of(dataset)] or [1]
        names = names_of(dataset)
        chosen = tuple(bands[place] for place in natural([names[band - 1] for band in bands]))
        return replace(wanted, names=RGB, numbers=chosen)


def _by_name(uri: str, wanted: Wanted, name: str, allow: Sequence[str]) -> Scene:
    there: tuple[str | None, ...] = ("red", "green", "blue")
    alpha = None
    if not is_slide(Path(uri)):
        with environment(uri), open_file(uri, allow) as dataset:
            there, alpha = names_of(dataset), alpha_of(dataset)
            if band := coloured(dataset):
                raise SceneError(
                    f"The image {shown(uri)} holds no colours but their numbers in a palette: write the colours out "
                    f"(gdal_translate -expand rgb), or say --bands {band} if the network eats those numbers."
                )
    numbers, note = places_of(wanted.names, there, alpha, shown(uri))
    scene = open_scene(uri, numbers, name, allow)
    return replace(scene, notes=(*scene.notes, note)) if note else scene


def _delivered(delivery: Layout, wanted: Wanted) -> Iterator[tuple[str, BandFile]]:
    """The bands of a delivery, by the maker's numbers or by their names."""
    keys = [f"b{number}" for number in wanted.numbers] if wanted.numbers else [called(name) for name in wanted.names]
    for place, key in enumerate(keys):
        file = delivery.bands.get(key) or delivery.bands.get(_NEAR.get(key, key))
        if file is None:
            asked = key if wanted.numbers else wanted.names[place]
            raise SceneError(
                f"The {delivery.kind} scene {delivery.name} has no band {asked}; it has "
                f"{', '.join(sorted(delivery.bands))}. Say in a job file which file holds which band, by `bands`."
            )
        yield wanted.names[place] if place < len(wanted.names) else key, file


def _told(folder: Path, wanted: Wanted, files: Mapping[str, BandSource]) -> Iterator[tuple[str, BandFile]]:
    """The bands that the job names, in the card's order."""
    if set(files) != set(wanted.names):
        raise SceneError(
            f"`bands` names {', '.join(files)} and the model eats {', '.join(wanted.names)}: say a file for each."
        )
    for name in wanted.names:
        said = files[name]
        yield name, BandFile(_one(folder, name, said.file), said.band, said.gain, said.offset, said.nodata)


def _of_assets(scene: str, names: Sequence[str], assets: Mapping[str, BandSource]) -> Iterator[tuple[str, BandFile]]:
    """The bands that a network eats, of all that a scene has, by their very names or what those mean."""
    known = {called(name): asset for name, asset in assets.items()} | dict(assets)
    for name in names:
        key = called(name)
        said = known.get(name) or known.get(key) or known.get(_NEAR.get(key) or _NEAR_ASSET.get(key, key))
        if said is None:
            raise SceneError(
                f"The scene {scene} has no band {name}; it has {', '.join(assets)}. Say in the job which asset holds "
                f"which band, such as `assets: {{{name}: B04}}`."
            )
        yield name, BandFile(said.file, said.band, said.gain, said.offset, said.nodata)


def _one(folder: Path, name: str, pattern: str) -> Path:
    """The one file of a folder that a pattern matches. Raises SceneError where it is none or several."""
    if PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts or "\0" in pattern:
        raise SceneError(f"`bands.{name}` cannot be {pattern!r}: it must lie in the scene's folder, {folder}.")
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        there = sorted(path.name for path in folder.iterdir())
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        raise SceneError(
            f"No file of {folder} matches {pattern!r} for the band {name}; there are "
            f"{', '.join(there[:_SHOWN]) or 'none'}{more}."
        )
    names = ", ".join(str(path.relative_to(folder)) for path in found[:_SHOWN])
    raise SceneError(f"{len(found)} files of {folder} match {pattern!r} for the band {name}: {names}. Say which one.")
