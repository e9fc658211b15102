"""How a scene fared in past nights where it did not come to its end: what an archive's run notes, and reads again.

    <out>/.nights/<scene>.json      made when a night ends without the scene's mask, removed when it is complete

A scene that is refused has no folder; this is all that is known of it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.store.objects import put_whole, remove

FOLDER = ".nights"


@dataclass(frozen=True, slots=True)
class Nights:
    """How many nights tried a scene in vain, why the last one did, and when that was; from when on it is tried again.

    Days are ISO 8601, of UTC; without `retry_on` it is tried every night.
    """

    count: int
    reason: str
    last: str
    retry_on: str | None = None


def read_nights(out: Path, name: str) -> Nights | None:
    """What is known of a scene's nights; None where nothing is, or it cannot be read."""
    with suppress(OSError, ValueError, TypeError):
        return Nights(**json.loads((out / FOLDER / f"{name}.json").read_bytes()))
    return None


def put_nights(out: Path, name: str, nights: Nights | None) -> None:
    """Note a scene's nights; None forgets them. Raises like `put_whole`."""
    file = out / FOLDER / f"{name}.json"
    if nights is not None:
        put_whole(file, json.dumps(asdict(nights)).encode())
    elif file.exists():
        remove(file)


def known_nights(out: Path) -> set[str]:
    """The scenes of which nights are known."""
    folder = out / FOLDER
    return {file.stem for file in folder.glob("*.json")} if folder.is_dir() else set()
