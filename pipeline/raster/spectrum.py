"""What bands are called: the many words for red, and which band of a file a card means by its name.

Common names are those of STAC's electro-optical extension: red, nir08, swir16, …
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import SceneError

_ALIASES = {
    "coastal": "coastalaerosol aerosol ultrablue",
    "blue": "b",
    "green": "g",
    "yellow": "",
    "red": "r",
    "rededge": "vegetationrededge",
    "rededge071": "rededge1 rededge705 vegetationrededge1",
    "rededge075": "rededge2 rededge740 vegetationrededge2",
    "rededge078": "rededge3 rededge783 vegetationrededge3",
    "nir": "nearinfrared nearir infrared nir1",
    "nir08": "nirnarrow narrownir nir2 rededge4 nir8a",
    "nir09": "watervapour watervapor",
    "cirrus": "",
    "swir16": "swir1 shortwaveinfrared1 shortwaveir1 swir",
    "swir22": "swir2 shortwaveinfrared2 shortwaveir2",
    "pan": "panchromatic",
    "lwir": "thermal thermalinfrared tir",
    "lwir11": "thermal1 tirs1 tir1",
    "lwir12": "thermal2 tirs2 tir2",
}
RGB = ("red", "green", "blue")
COMMON = frozenset(_ALIASES)
_KNOWN = {word: name for name, words in _ALIASES.items() for word in (name, *words.split())}


def called(text: str) -> str:
    """The common name that a text means; where it means none, its letters and digits in lower case."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    if plain in _KNOWN:
        return _KNOWN[plain]
    words = {_KNOWN[word] for word in re.findall(r"[a-z]+\d*", text.lower()) if word in _KNOWN and len(word) > 1}
    return words.pop() if len(words) == 1 and "edge" not in plain else plain


def natural(names: Sequence[str | None]) -> tuple[int, ...]:
    """Which bands a picture is made of, from 0: red, green and blue by name, else the first three, or the first."""
    said = [called(name) if name else None for name in names]
    if all(said.count(colour) == 1 for colour in RGB):
        return tuple(said.index(colour) for colour in RGB)
    return (0, 1, 2) if len(names) >= 3 else (0,)


def places_of(
    wanted: Sequence[str], there: Sequence[str | None], alpha: int | None, image: str
) -> tuple[tuple[int, ...], str | None]:
    """(bands of the file from 1, what the user should know of the choice or None).

    `wanted` are the card's names, `there` what the file says of each of its bands, None for those it says nothing of.
    They are taken by name where all are found, else by place. Raises SceneError where a name at its place is another.
    """
    names = [called(name) for name in wanted]
    said = [called(text) if text else None for text in there]
    if len(set(names)) == len(names) and all(said.count(name) == 1 for name in names):
        found = tuple(said.index(name) + 1 for name in names)
        if found == tuple(range(1, len(names) + 1)):
            return found, None
        told = ", ".join(f"{name} is band {band}" for name, band in zip(wanted, found, strict=True))
        return found, f"The bands are taken by the names that the file has for them: {told}."
    for place, (name, other) in enumerate(zip(names, said, strict=False), start=1):
        if name in COMMON and other in COMMON and name != other:
            raise SceneError(
                f"The model eats {', '.join(wanted)} and {image} says that its band {place} is {other}, where "
                f"{wanted[place - 1]} would be: say with --bands which of its bands are meant."
            )
    count = len(there) - (alpha is not None and alpha > len(names))
    return tuple(range(1, len(names) + 1)), None if count == len(names) else (
        f"The image has {count} bands and the model eats {len(names)} ({', '.join(wanted)}); the file does not name "
        f"them all, so the first {len(names)} are taken in this order. Say --bands if they are others."
    )
