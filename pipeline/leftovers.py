"""What interrupted runs leave in a folder of results and nobody needs: found, and removed, scene by scene.

Only what is certainly ours goes, by its place and name, and only while this process holds the scene's lease, so that no
run is at it. A result that users find is never touched, nor what a run would go on with; what is not ours is named and
left alone. A run that goes on after that makes the same bytes: what went is what it would make anew, or replace.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import LeaseError, SceneError
from pipeline.folder import GOLDEN, LEDGER, STAGE, ZARR, Folder, exchange_interrupted, finish_exchange
from pipeline.raster.naming import RESERVED, demand_name
from pipeline.store.lease import Lease, demand_free
from pipeline.store.ledger import JOURNAL
from pipeline.store.objects import sentences

LEASES = ".leases"
QUIET_SECONDS = 3600.0  # how old a half-written file must be where no lease says whether somebody writes it
NIGHT_SECONDS = 86400.0  # how old a golden scene's folder must be, by the same reason
_OURS = RESERVED | {LEASES, ".history", ".nights", ".schedule"}  # beside the scenes
_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.partial")  # as `put_whole` names them
_STAGED = re.compile(r"source\.tif(\.partial)?|layer-\d+")  # as `stage` names them
_LEDGER_NAMES = re.compile(r"journal\.jsonl|blocks\.npz|about\.json|lease-\d{6,}\.json|token")
_BESIDE = re.compile(r"\.(?P<name>.+)\.(?:new|old)")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or folder that nobody needs: its bytes, and why that is so."""

    path: Path
    bytes: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"path": str(self.path), "bytes": self.bytes, "reason": self.reason}


@dataclass(slots=True)
class Cleaning:
    """What was removed, or would be; what a run holds; what is not ours and was left alone."""

    removed: list[Leftover] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        removed = [one.as_dict() for one in self.removed]
        return {**asdict(self), "removed": removed, "bytes": sum(one.bytes for one in self.removed)}


def clean(out: Path, dry: bool = False) -> Cleaning:
    """Remove the leftovers in a folder of results; where `dry`, only say which.

    Raises SceneError where the folder holds nothing of maskmill, SettingsError where something cannot be removed.
    """
    names, cleaning = _names(out), Cleaning()
    if not names and not (out / LEASES).is_dir():
        raise SceneError(f"{out} holds no results of maskmill: name the folder that --out named.")
    for name in sorted(names):
        _clean_scene(out, name, cleaning, dry)
    entries = [entry for place in (out, out / ".history", out / ".nights") for entry in _entries(place)]
    old = (Path(entry) for entry in entries if _half_written(entry) and _age(entry) > QUIET_SECONDS)
    _take(cleaning, ((path, "a file that was never finished") for path in old), dry)
    golden = [entry for entry in _entries(out) if entry.name.startswith(GOLDEN) and _is_folder(entry)]
    stale = (Path(entry) for entry in golden if _age(entry) > NIGHT_SECONDS)
    _take(cleaning, ((path, "a golden scene whose run was killed") for path in stale), dry)
    for entry in _entries(out):
        beside = _BESIDE.fullmatch(entry.name)
        ours = entry.name in _OURS or entry in golden or (beside and beside["name"] in names)
        if not (ours or entry.name in names or _half_written(entry)):
            cleaning.foreign.append(entry.path)
    return cleaning


def _names(out: Path) -> set[str]:
    """The scenes that have left something here: a ledger, a result beside or a lease."""
    names = {entry.name for entry in _entries(out / LEASES) if _is_folder(entry) and not entry.name.startswith(".")}
    for entry in _entries(out):
        beside = _BESIDE.fullmatch(entry.name)
        if _is_folder(entry) and (Path(entry) / LEDGER).is_dir():
            names.add(beside["name"] if beside else entry.name)
    return {name for name in names if _nameable(name)}


def _nameable(name: str) -> bool:
    try:
        demand_name(name)
    except SceneError:
        return False
    return True


def _clean_scene(out: Path, name: str, cleaning: Cleaning, dry: bool) -> None:
    """Clean up after the runs of one scene, unless one is at it."""
    place = out / LEASES / name
    try:
        demand_free(place)
        found = list(_of_scene(out, name))
        cleaning.foreign += [entry.path for entry in _strangers(out / name)]
        if dry or not (found or exchange_interrupted(out, name)):
            _take(cleaning, found, dry=True)
            return
        lease = Lease.acquire(place, f"a cleaning of {name}")
    except LeaseError as error:
        cleaning.held.append(error.message)
        return
    try:
        if exchange_interrupted(out, name):
            _take(cleaning, _exchanged(out, name), dry=True)
            with sentences(out / name):
                finish_exchange(out, name)
        _take(cleaning, list(_of_scene(out, name)), dry=False)
    finally:
        if _exists(out, name):
            lease.release()
        else:
            lease.withdraw()
    if not _exists(out, name):
        shutil.rmtree(place, ignore_errors=True)


def _exists(out: Path, name: str) -> bool:
    return any((out / each).exists() for each in (name, f".{name}.new", f".{name}.old"))


def _exchanged(out: Path, name: str) -> Iterator[tuple[Path, str]]:
    """What finishing an interrupted exchange removes: the old result, once the new one is in its place."""
    old = out / f".{name}.old"
    if old.exists() and ((out / name).exists() or (out / f".{name}.new").exists()):
        yield old, "the result that was replaced when a kill came"


def _of_scene(out: Path, name: str) -> Iterator[tuple[Path, str]]:
    """(path, reason) of each leftover of a scene that no run holds. None lies within another."""
    final, beside = Folder(out, name), Folder(out, name, beside=True)
    if exchange_interrupted(out, name):
        yield from _exchanged(out, name)
        return  # the rest is seen when it is finished
    if beside.path.is_dir() and not beside.path.is_symlink() and _published(final) and (beside.ledger).is_dir():
        yield beside.path, "a result that was being made to replace this one, and that no run goes on with"
    if _exists(out, name):
        yield from _of_folder(final)
    elif (out / LEASES / name).is_dir():
        yield out / LEASES / name, "the lease of a scene that is gone"


def _of_folder(folder: Folder) -> Iterator[tuple[Path, str]]:
    if folder.path.is_symlink() or not folder.path.is_dir():
        return
    if _orphaned(folder):
        yield folder.path, "a run that ended before it had a plan"
        return
    if not (folder.ledger / "plan.json").is_file():
        return
    whole_stage = folder.stage.is_dir() and _published(folder) and not folder.building.exists()
    if whole_stage:
        yield folder.stage, "what was staged for a result that is published"
    elif folder.stage.is_dir():
        for entry in _entries(folder.stage):
            if _STAGED.fullmatch(entry.name):
                yield Path(entry), "a copy of the image in tiles, which is made again where it is needed"
            elif entry.name == f"{ZARR}.copy":
                yield Path(entry), "a copy of the result that was never finished"
    for path in _partials(folder.path, folder.stage if whole_stage else None):
        yield path, "a file that was never finished"


def _published(folder: Folder) -> bool:
    """Whether users find a result: what is moved into place last, and its ledger."""
    return folder.published.is_dir() and (folder.ledger / JOURNAL).is_file() and (folder.path / "report.json").is_file()


def _orphaned(folder: Folder) -> bool:
    """Whether there is a ledger's folder without a plan, and nothing but what a run writes before it has one."""
    if not folder.ledger.is_dir() or (folder.ledger / "plan.json").exists():
        return False
    if {entry.name for entry in _entries(folder.path)} - {LEDGER, STAGE}:
        return False
    return all(_LEDGER_NAMES.fullmatch(entry.name) or _half_written(entry) for entry in _entries(folder.ledger))


def _partials(folder: Path, but: Path | None) -> Iterator[Path]:
    """Half-written files under a folder, links not followed; nothing of what is staged from the image."""
    for root, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if Path(root, one) != but and not _STAGED.fullmatch(one)]
        yield from (Path(root, name) for name in sorted(files) if _PARTIAL.fullmatch(name))


def _strangers(scene: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a scene's folder and is no product of ours."""
    ours = re.compile(r"mask\.zarr|quicklook\.png|report\.json|ledger|\.stage|outlines\.\w+|\w+\.tif|\w+\.geojson")
    for entry in _entries(scene) if not scene.is_symlink() else ():
        if not ours.fullmatch(entry.name) and not _half_written(entry):
            yield entry


def _take(cleaning: Cleaning, found: Iterator[tuple[Path, str]] | list[tuple[Path, str]], dry: bool) -> None:
    """Note what was found; remove it unless `dry`."""
    for path, reason in found:
        cleaning.removed.append(Leftover(path, _bytes(path), reason))
        if not dry:
            with sentences(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(Path(root, name).lstat().st_size for root, _, files in os.walk(path) for name in files)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _half_written(entry: os.DirEntry[str]) -> bool:
    return bool(_PARTIAL.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)


def _age(entry: os.DirEntry[str]) -> float:
    return time.time() - entry.stat(follow_symlinks=False).st_mtime
