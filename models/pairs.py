"""Pairs of an image and its mask in two folders, `images/` and `masks/`, matched by name as a person would.

A mask is called as its image is, whatever the endings, or both are but for a word before or behind: `7.png` and
`7_mask.png`, `7_sat.jpg` and `7_mask.png`, `image-7.tif` and `label-7.tif`. Folders inside are part of the name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.raster.naming import IMAGES

FOLDERS = ("images", "masks")
_WORDS = "masks?|labels?|truth|gt|seg|segmentation|annotations?|images?|img|sat|rgb"
_BEHIND = re.compile(rf"(?<=.)[._ -](?:{_WORDS})$", re.IGNORECASE)
_BEFORE = re.compile(rf"^(?:{_WORDS})[._ -](?=.)", re.IGNORECASE)
_SHOWN = 5  # names in a message


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask; the name is the image's, with its folders below `images/` and without its ending."""

    name: str
    image: Path
    truth: Path


def is_pairs(folder: Path) -> bool:
    """Whether a folder has the two folders that pairs lie in."""
    return all((folder / name).is_dir() for name in FOLDERS)


def pairs_of(folder: Path) -> list[Pair]:
    """Give all pairs, by name. Other files than images are passed over.

    Raises SettingsError where a folder is missing or empty, where an image has no mask or a mask no image, or where
    two of either have one name; the sentence names them.
    """
    if not is_pairs(folder):
        raise SettingsError(f"{folder} has no folders {FOLDERS[0]} and {FOLDERS[1]}, in which pairs lie.")
    return pairs_between(*(folder / name for name in FOLDERS))


def pairs_between(of_images: Path, of_masks: Path) -> list[Pair]:
    """Give all pairs of two folders, by name. Raises SettingsError like `pairs_of`."""
    images, masks = _files(of_images), _files(of_masks)
    matched = _matched(images, masks)
    return [Pair(name, images[name], masks[mask]) for name, mask in sorted(matched.items())]


def _files(folder: Path) -> dict[str, Path]:
    """The images of a folder by their name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts) or not (path.is_file() and IMAGES.search(path.name)):
            continue
        name = below.with_name(path.stem).as_posix()
        if name in found:
            raise SettingsError(f"Two files of {folder} are called {name}, {found[name].name} and {path.name}.")
        found[name] = path
    if not found:
        raise SettingsError(f"There is no image in {folder}.")
    return found


def _matched(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    """The mask's name by the image's: those that are alike first, then those that are without their words."""
    matched = {name: name for name in images if name in masks}
    plain = _plain({name for name in masks if name not in matched})
    for core, names in _plain({name for name in images if name not in matched}).items():
        if len(names) == len(plain.get(core, ())) == 1:
            matched[names[0]] = plain[core][0]
    without = [name for name in images if name not in matched]
    over = sorted(set(masks) - set(matched.values()))
    if without or over:
        said = [
            *([f"{len(without)} of {len(images)} images have no mask ({_listed(without)})"] if without else []),
            *([f"{len(over)} of {len(masks)} masks have no image ({_listed(over)})"] if over else []),
        ]
        raise SettingsError(f"{' and '.join(said)}: a mask is called as its image, or 7_mask where that is 7.")
    return matched


def _plain(names: set[str]) -> dict[str, list[str]]:
    """Names by what is left of them without such words as mask before or behind; folders stay."""
    found = defaultdict(list)
    for name in sorted(names):
        folder, _, last = name.rpartition("/")
        found[f"{folder}/{_BEFORE.sub('', _BEHIND.sub('', last))}"].append(name)
    return found


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
