"""A job whose results go to a bucket: each scene is made in a workshop here, held there, and followed there.

The archive's index and catalogue are brought from there before they are used, and put back, the index last.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import LeaseError, SceneError, SettingsError
from pipeline.folder import Folder
from pipeline.outside import Store, address_of
from pipeline.settings import Job

if TYPE_CHECKING:
    from pipeline.store.bucket import Bucket

Listen = Callable[[Any], None]
Follow = Callable[[Folder, Listen], AbstractContextManager[Listen]]
_INDEX, _CATALOGUE, _NIGHTS = "scenes.parquet", "catalogue", ".nights"
_AGAIN_SECONDS = 1.0


@contextmanager
def mirrored(job: Job, name: str) -> Iterator[Follow]:
    """What follows a scene's run to where the job's results go; in a folder, nothing has to.

    Raises LeaseError where another run holds the scene, and what `Mirror` raises.
    """
    if job.mirror is None:
        yield lambda _folder, listen: nullcontext(listen)
        return
    from pipeline.mirror import Mirror  # noqa: PLC0415  # needed for buckets alone
    from pipeline.store.hold import Hold  # noqa: PLC0415  # as above

    bucket = _bucket(job.mirror, job.store)
    with Hold.acquire(bucket, name) as hold:
        mirror = Mirror(bucket, hold, job.out, name)
        mirror.prepare()
        yield mirror.following


def bring_index(job: Job) -> None:
    """Have the bucket's index in the workshop, and what is known of bad nights; nothing where `out` is a folder.

    An update takes a scene that has no folder for one that was removed: so each that is in the index has one.
    """
    if job.mirror is None:
        return
    bucket = _bucket(job.mirror, job.store)
    content = bucket.get(_INDEX)
    if content is None:
        return
    from pipeline.index import read_index  # noqa: PLC0415  # Arrow's import is long
    from pipeline.store.objects import put_whole  # noqa: PLC0415  # as above

    put_whole(job.out / _INDEX, content)
    index = read_index(job.out)
    for name in index.names if index else ():
        (job.out / name).mkdir(exist_ok=True)
    shutil.rmtree(job.out / _NIGHTS, ignore_errors=True)
    for name in bucket.list(_NIGHTS):
        bucket.fetch(f"{_NIGHTS}/{name}", job.out / _NIGHTS / name)


@contextmanager
def archived(job: Job) -> Iterator[None]:
    """Let the body update index and catalogue in the workshop, and put them, the index last.

    Of the catalogue only what the update writes is put. Waits while another update is at it.
    """
    if job.mirror is None:
        yield
        return
    bucket = _bucket(job.mirror, job.store)
    with _catalogue_held(bucket):
        bring_index(job)
        for written in (job.out / _CATALOGUE).glob("*"):
            if not written.name.startswith("."):
                shutil.rmtree(written) if written.is_dir() else written.unlink()
        yield
        nights = {file.name: file for file in (job.out / _NIGHTS).glob("*.json")}
        for name, file in nights.items():
            bucket.put(f"{_NIGHTS}/{name}", file)
        bucket.delete(f"{_NIGHTS}/{name}" for name in bucket.list(_NIGHTS) if name not in nights)
        for file in sorted((job.out / _CATALOGUE).rglob("*.json"), reverse=True):
            if not file.parent.name.startswith("."):
                bucket.put(file.relative_to(job.out).as_posix(), file)
        bucket.put(_INDEX, job.out / _INDEX)


@contextmanager
def _catalogue_held(bucket: Bucket) -> Iterator[None]:
    from pipeline.store.hold import Hold  # noqa: PLC0415  # as above

    while True:
        try:
            hold = Hold.acquire(bucket, ".catalogue")
        except LeaseError:
            time.sleep(_AGAIN_SECONDS)
            continue
        with hold:
            yield
        return


@contextmanager
def here(directory: str, scene: bool = False) -> Iterator[Path]:
    """A folder as it is; of a bucket's address a copy in a folder of its own: one scene, or the ledgers of all.

    Raises SceneError where nothing is there.
    """
    address = address_of(directory)
    if address is None:
        yield Path(directory)
        return
    parent, _, name = address.rpartition("/")
    if scene and not address_of(parent):
        raise SettingsError(f"{directory} names no scene: say s3://bucket/prefix/SCENE.")
    with tempfile.TemporaryDirectory(prefix="maskmill-") as made:
        bucket = _bucket(parent if scene else address, Store())
        journals = defaultdict[Path, dict[int, bytes]](dict)
        for key in bucket.list(name if scene else ""):
            path = Path(made) / (f"{name}/{key}" if scene else key)
            if path.name.startswith("journal-"):
                source = f"{name}/{key}" if scene else key
                journals[path.parent][int(path.stem.partition("-")[2])] = bucket.get(source) or b""
            elif scene or (path.parent != Path(made) and path.name in {"report.json", "plan.json"}):
                bucket.fetch(f"{name}/{key}" if scene else key, path)
        if not journals:
            raise SceneError(f"There is no ledger in {address}: name what --out named{', and a scene' * scene}.")
        for folder, pieces in journals.items():
            _put_journal(folder, pieces)
        yield Path(made) / name if scene else Path(made)


def _put_journal(folder: Path, pieces: dict[int, bytes]) -> None:
    whole = b""
    while piece := pieces.get(len(whole)):
        whole += piece
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.jsonl").write_bytes(whole)


def demand_folder(directory: Path, command: str) -> None:
    """Raise SettingsError where a command that works in folders is given a bucket."""
    if directory.parts[:1] in {("s3:",), ("gs:",), ("az:",)}:
        raise SettingsError(
            f"`maskmill {command}` works in folders, not in a bucket: there, runs keep the catalogue up to date, and "
            "the next run of a scene clears what an interrupted one left."
        )


@cache  # of a process: its requests are counted together
def _bucket(address: str, said: Store) -> Bucket:
    from pipeline.store.bucket import Bucket  # noqa: PLC0415  # as above

    return Bucket(address, said)
