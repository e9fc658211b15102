"""The results as a catalogue: a static STAC catalogue by date, and an index. Both are made of the ledgers alone.

<out>/catalogue/catalog.json                          the root: a child for each year
<out>/catalogue/2026/catalog.json                     a child for each day
<out>/catalogue/2026/2026-11-23/catalog.json          the day's items
<out>/catalogue/2026/2026-11-23/SCENE.item.json       a published scene
<out>/catalogue/models/DIGEST.json                    a model, which the items of its masks are derived from
<out>/scenes.parquet                                  the index of all scenes, written last: the commit

Every file is put whole: models and items first, then days, years and the root, then the index; what nothing names any
more is removed after that. So the index is the old one or the new one; and whoever follows the links finds of every
scene the old item or the new one. What was asked is noted before the first file is put, in `catalogue/.todo`, and the
next update does what a kill left undone. Of two updates at once one does both: the other waits until its note is done.

An update reads the ledgers of the scenes that it is told of (some milliseconds each, and two syncs where an item is
put), and lists the folder of results once to see which are new and which are gone; of other scenes it opens nothing. It
reads the index and writes it anew: some seconds for a hundred thousand scenes. Checksums are not computed here: the
ledger has them from the publishing.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.errors import LeaseError, SettingsError
from pipeline.index import Index, Writer, read_index
from pipeline.item import VERSION, card_digest, date_of, day_folder, item_of, model_item
from pipeline.nights import known_nights
from pipeline.raster.naming import RESERVED
from pipeline.result import read_result, result_names
from pipeline.store.lease import Lease
from pipeline.store.objects import put_whole, remove, sentences

CATALOGUE = "catalogue"
_TODO, _LEASE, _MODELS = ".todo", Path(".leases") / ".catalogue", "models"
_LEFT = "left"  # beside the notes: items that are to be removed after the commit
_READ = ("id", "maskmill:item", "maskmill:card", "maskmill:state")  # of the index
_UP = "../../.."  # from an item to the folder of results
_AT_ONCE = 1 << 10  # scenes in hand
_AGAIN_SECONDS = 0.2


@dataclass(slots=True)
class Update:
    """What an update found: scenes in the index, items by path, how many files were put and removed."""

    scenes: int = 0
    items: int = 0
    written: int = 0
    removed: int = 0
    states: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "scenes": self.scenes,
            "items": self.items,
            "written": self.written,
            "removed": self.removed,
            "states": dict(sorted(self.states.items())),
        }


def update(out: Path, names: Iterable[str] | None) -> Update:
    """Bring catalogue and index up to date with what the ledgers say of some scenes; of all where `names` is None.

    Waits while another update runs. Raises SettingsError where there is no such folder, and what `put_whole` raises.
    """
    if not out.is_dir():
        raise SettingsError(f"{out} is no folder: name the folder that --out named.")
    asked = sorted(set(names)) if names is not None else None
    mine = out / CATALOGUE / _TODO / f"{uuid.uuid4().hex}.json"
    put_whole(mine, json.dumps(asked).encode())
    done: Update | None = None
    while mine.exists():
        try:
            with Lease.acquire(out / _LEASE, f"an update of the catalogue of {out}") as lease:
                done = _all_asked(out, lease)
        except LeaseError:  # another update is at it, or has taken over from this one
            time.sleep(_AGAIN_SECONDS)
    return done or _as_it_is(out)


def _as_it_is(out: Path) -> Update:
    """What the index says, where another update has done what this one was asked for."""
    index = read_index(out, _READ)
    if index is None:
        return Update()
    items = sum(item is not None for item in index.column("item"))
    return Update(len(index), items, states=dict(Counter(index.column("state"))))


def _all_asked(out: Path, lease: Lease) -> Update | None:
    """Do what is noted, by this update, by others, and by those that were killed; None where another was quicker."""
    done: Update | None = None
    while notes := sorted((out / CATALOGUE / _TODO).glob("*.json")):
        asked: set[str] | None = set()
        for note in notes:
            said = _names_in(note)
            asked = None if said is None or asked is None else asked | said
        done = _Making(out, asked, lease).made()
        for note in notes:
            remove(note)
    return done


def _names_in(note: Path) -> set[str] | None:
    """The scenes of a note; None for all, and where it cannot be read."""
    with suppress(OSError, ValueError, TypeError):
        said = json.loads(note.read_bytes())
        return None if said is None else set(said)
    return None


class _Making:
    """One update, from the old index to the new one."""

    def __init__(self, out: Path, asked: set[str] | None, lease: Lease) -> None:
        self.out, self.root, self.lease = out, out / CATALOGUE, lease
        old = read_index(out, _READ)
        self.old: Index | None = old if asked is not None else None
        there = result_names(out) if self.old is None else _names_here(out)
        there |= known_nights(out)
        had = set(self.old.names) if self.old is not None else set()
        self.redone = sorted((there if asked is None or self.old is None else asked & there) | (there - had))
        self.without = (had - there) | (had & set(self.redone))
        self.done = Update()
        self.days: dict[str, set[str]] = defaultdict(set)  # the scenes of each day, as the new index has them
        self.touched: set[str] = set()  # days whose scenes are others than before, or may be
        self.models: set[str] = set()
        self.left = self.root / _TODO / _LEFT
        self.stale = _names_in(self.left) or set()  # items to be removed, from the folder of results

    def made(self) -> Update:
        """Do it all."""
        self._keep()
        with Writer(self.out, self.old is not None, self.without) as index:
            names = iter(self.redone)
            while some := list(islice(names, _AT_ONCE)):
                index.add(list(self._items(some)))
            self._put_catalogs()
            if self.stale:
                put_whole(self.left, json.dumps(sorted(self.stale)).encode())
            self.lease.check()
            index.commit()
        self._sweep()
        self.done.items = sum(len(scenes) for scenes in self.days.values())
        return self.done

    def _keep(self) -> None:
        """Take over what the old index says of the scenes that stay as they are."""
        if self.old is None:
            return
        columns = (self.old.names, *(self.old.column(name) for name in ("item", "card", "state")))
        for name, item, card, state in zip(*columns, strict=True):
            day = Path(item).parent.name if item else None
            if name in self.without:
                if day:
                    self.touched.add(day)
                    self.stale.add(item)
                continue
            self._count(state)
            if day:
                self.stale.discard(item)
                self.days[day].add(name)
                self.models.add(card)

    def _count(self, state: str) -> None:
        self.done.scenes += 1
        self.done.states[state] = self.done.states.get(state, 0) + 1

    def _items(self, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], str | None]]:
        """Put the items of some scenes and of their models; gives each as the index sees it, and where it lies."""
        for name in names:
            result = read_result(self.out, name)
            if result is None:
                continue
            self._count(result.standing.value)
            place = None
            if result.published and result.about:
                item = item_of(result, _UP, "../..")
                place = f"{CATALOGUE}/{day_folder(date_of(item))}/{name}.item.json"
                self._put_model(result.about)
                self._put(self.out / place, item)
                self.days[date_of(item)].add(name)
                self.touched.add(date_of(item))
                self.stale.discard(place)
            yield item_of(result, ".", f"./{CATALOGUE}"), place

    def _put_model(self, about: Mapping[str, Any]) -> None:
        digest = card_digest(about)
        if digest not in self.models:
            self.models.add(digest)
            self._put(self.root / _MODELS / f"{digest}.json", model_item(about))

    def _put(self, path: Path, said: dict[str, Any]) -> None:
        """Put a file, unless it is there as it is to be: a rebuild of what is right writes nothing."""
        data = json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
        with suppress(OSError):
            if path.read_bytes() == data:
                return
        put_whole(path, data)
        self.done.written += 1

    def _put_catalogs(self) -> None:
        """Put the days that changed, their years and the root."""
        days = sorted(day for day, scenes in self.days.items() if scenes)
        whole = self.old is None
        for day in days:
            if whole or day in self.touched:
                links = [_link("item", f"./{name}.item.json", name) for name in sorted(self.days[day])]
                self._put(self.root / day_folder(day) / "catalog.json", _catalog(day, 2, links))
        years = sorted({day[:4] for day in days})
        for year in years:
            if whole or any(day.startswith(year) for day in self.touched):
                children = [_link("child", f"./{day}/catalog.json", day) for day in days if day.startswith(year)]
                self._put(self.root / year / "catalog.json", _catalog(year, 1, children))
        self._put(
            self.root / "catalog.json", _catalog("", 0, [_link("child", f"./{y}/catalog.json", y) for y in years])
        )

    def _sweep(self) -> None:
        """Remove what the new index and catalogue do not name."""
        models = {path for path in (self.root / _MODELS).glob("*.json") if path.stem not in self.models}
        stale = models | {self.out / item for item in self.stale}
        for day in {Path(item).parent.name for item in self.stale}:
            stale |= self._catalogs_without_scenes(day)
        if self.old is None:
            there = {path for path in self.root.rglob("*.json") if path.parent.name != _TODO}
            stale = (there - self._named()) | set(self.root.rglob(".*.partial"))
        for path in sorted(stale):
            self.done.removed += remove(path)
            for folder in (path.parent, path.parent.parent):
                with suppress(OSError):
                    folder.rmdir()
        remove(self.left)

    def _catalogs_without_scenes(self, day: str) -> set[Path]:
        """The catalogs of a day and its year where nothing is in them any more."""
        year = day[:4]
        gone = set() if self.days.get(day) else {self.root / day_folder(day) / "catalog.json"}
        if not any(scenes for other, scenes in self.days.items() if other.startswith(year)):
            gone.add(self.root / year / "catalog.json")
        return gone

    def _named(self) -> set[Path]:
        """Every file of the catalogue."""
        named = {self.root / "catalog.json", *(self.root / _MODELS / f"{model}.json" for model in self.models)}
        for day, scenes in self.days.items():
            folder = self.root / day_folder(day)
            named |= {folder / "catalog.json", folder.parent / "catalog.json"}
            named |= {folder / f"{name}.item.json" for name in scenes}
        return named


def _names_here(out: Path) -> set[str]:
    """What may be results, by their names alone: one list of the folder, and no look at each."""
    with sentences(out), os.scandir(out) as entries:
        return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()} - RESERVED


def _link(rel: str, href: str, title: str) -> dict[str, str]:
    return {
        "rel": rel,
        "href": href,
        "type": "application/geo+json" if rel == "item" else "application/json",
        "title": title,
    }


def _catalog(name: str, depth: int, links: Sequence[dict[str, str]]) -> dict[str, Any]:
    """A catalog of a year, a day, or all, `depth` below the root."""
    up = [_link("root", f"{'../' * depth or './'}catalog.json", "Masks")]
    if depth:
        up.append({"rel": "parent", "href": "../catalog.json", "type": "application/json"})
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": name or "masks",
        "title": name or "Masks",
        "description": f"Masks of {name}, by maskmill" if name else "Masks by maskmill, by date of their images",
        "links": [*up, *links],
    }
