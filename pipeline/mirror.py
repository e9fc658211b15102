"""A scene's folder in a bucket: the one here, the workshop, is followed there while it is made.

<prefix>/<scene>/mask.zarr/…                 a shard is put once the journal here names it
<prefix>/<scene>/ledger/plan.json            first of all
<prefix>/<scene>/ledger/journal-<byte>.jsonl a piece of the journal from that byte on, after the shards that it names
<prefix>/<scene>/mask.tif, …                 when all is made; then zarr.json of each array, the root's after them
<prefix>/<scene>/report.json                 last: where it lies, the result is whole

So another machine, whose workshop is empty, goes on from the pieces: every block that they name has its shards there. A
bucket has no renames: what replaces a result there is put after the old one is removed, report.json first.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import IdentityError, LeaseError, MaskmillError
from pipeline.folder import LEDGER, ZARR, Folder
from pipeline.store.bucket import Bucket
from pipeline.store.hierarchy import array_name, shard_name
from pipeline.store.hold import Hold
from pipeline.store.ledger import JOURNAL
from pipeline.store.objects import ABSENT, put_whole, sentences
from pipeline.store.record import Record, from_line

if TYPE_CHECKING:
    from obstore import ObjectMeta

PLAN, REPORT = f"{LEDGER}/plan.json", "report.json"
LOOK_SECONDS = 1.0  # between two looks at the journal here
_AT_ONCE = 8  # objects on their way
_PIECE = re.compile(rf"{LEDGER}/journal-(\d+)\.jsonl")
_COARSER = re.compile(rf"{ZARR}/\d+/")
Step = TypeVar("Step")


class Mirror:
    """One scene of a bucket and its workshop, while `hold` keeps others out."""

    def __init__(self, bucket: Bucket, hold: Hold, out: Path, name: str) -> None:
        self.bucket, self.hold, self.folder = bucket, hold, Folder(out, name)
        self._offset = 0  # bytes of the journal that are there
        self._blocks_across = 0
        self._planned, self._whole = False, False  # whether the plan is there, and the report
        self._refused: MaskmillError | None = None

    def prepare(self) -> None:
        """Make the workshop what the bucket's result is, or further; where nothing is there, leave it as it is.

        Raises IdentityError where other files lie there, SettingsError where the store refuses.
        """
        there = self._listed()
        if PLAN not in there:
            if there:
                raise IdentityError(
                    f"{self.bucket.address}/{self.folder.name} holds {min(there)} and no ledger, so it is no result "
                    "that can be gone on with. Take another --out, or remove what lies there."
                )
            return
        self._planned, self._whole = True, REPORT in there
        plan, journal = self._get(PLAN) or b"", self._journal(there)
        self._offset = len(journal)
        if not self._goes_on(plan, journal):
            for stale in (self.folder.path, Folder(self.folder.out, self.folder.name, beside=True).path):
                shutil.rmtree(stale, ignore_errors=True)
            put_whole(self.folder.path / PLAN, plan)
            if journal:
                put_whole(self.folder.ledger / JOURNAL, journal)
        self._fetch(there)

    def _goes_on(self, plan: bytes, journal: bytes) -> bool:
        """Whether the workshop holds the bucket's result, as far as it has come there or further."""
        try:
            had = (self.folder.path / PLAN).read_bytes()
            return had == plan and (self.folder.ledger / JOURNAL).read_bytes().startswith(journal)
        except OSError:
            return False

    def _journal(self, there: dict[str, ObjectMeta]) -> bytes:
        """The pieces that follow on one another from byte 0; the others are of a run that was lost, and go."""
        whole, lost = b"", []
        for offset, key in sorted((int(found[1]), key) for key in there if (found := _PIECE.fullmatch(key))):
            piece = (self._get(key) or b"") if offset == len(whole) else b""
            if piece:
                whole += piece
            else:
                lost.append(key)
        self.bucket.delete(self._key(key) for key in lost)
        return whole

    def _fetch(self, there: dict[str, ObjectMeta]) -> None:
        """Bring what the workshop lacks: the whole result where it is whole there, else the shards of its blocks."""
        final = self.folder
        begun = final.building.exists() or not self._whole
        root = final.building if begun else final.published
        wanted: list[tuple[str, Path]] = []
        for key, one in there.items():
            if key == PLAN or _PIECE.fullmatch(key):
                continue
            in_zarr = key.startswith(f"{ZARR}/")
            if begun and (not in_zarr or _COARSER.match(key) or key.endswith("zarr.json")):
                continue
            path = root / key.removeprefix(f"{ZARR}/") if in_zarr else final.path / key
            if not path.is_file() or path.stat().st_size != one["size"]:
                wanted.append((key, path))
        self._at_once(lambda one: self.bucket.fetch(self._key(one[0]), one[1]), wanted)

    @contextmanager
    def following(self, folder: Folder, listen: Callable[[Step], None]) -> Iterator[Callable[[Step], None]]:
        """Follow a run while the body goes on, which tells what is given instead of `listen`; then put what is left.

        Raises LeaseError where the hold is lost, SettingsError where the store refuses: from the body's telling, or
        at its end.
        """
        ending = threading.Event()

        def follow() -> None:
            while not ending.wait(LOOK_SECONDS):
                try:
                    self.hold.check()
                    self._step(folder)
                except MaskmillError as error:
                    self._refused = error
                    return

        def told(step: Step) -> None:
            if self._refused:
                raise self._refused
            listen(step)

        follower = None if folder.beside else threading.Thread(target=follow, name="mirror", daemon=True)
        if follower:
            follower.start()
        try:
            yield told
        finally:
            ending.set()
            if follower:
                follower.join()
        if self._refused:
            raise self._refused
        self._finish(replaces=folder.beside)

    def _finish(self, *, replaces: bool) -> None:
        """Put what is left of the folder; the products where it is published, with report.json last."""
        if replaces:
            self._clear()
        self._step(self.folder)
        report = self.folder.path / REPORT
        if self.folder.building.exists() or not report.exists():
            return
        if not (self._whole and self._get(REPORT) == report.read_bytes()):
            self._put_products(report)
        self._make_room()

    def _put_products(self, report: Path) -> None:
        there = self._listed()
        files = [path for path in self.folder.path.rglob("*") if path.is_file() and not path.name.startswith(".")]
        keys = {path.relative_to(self.folder.path).as_posix(): path for path in files}
        for last in (REPORT, PLAN, f"{LEDGER}/{JOURNAL}"):
            keys.pop(last, None)
        metadata = sorted((key for key in keys if key.endswith("zarr.json")), key=lambda key: (-key.count("/"), key))
        late = [key for key in keys if key not in metadata and not _same(there.get(key), keys[key])]
        self._at_once(lambda key: self.bucket.put(self._key(key), keys[key]), late)
        for key in metadata:
            self.bucket.put(self._key(key), keys[key])
        self.hold.check()
        self.bucket.put(self._key(REPORT), report)
        self._whole = True

    def _make_room(self) -> None:
        """Remove from the workshop what is large and lies there whole: another run fetches what it needs of it."""
        shutil.rmtree(self.folder.published, ignore_errors=True)
        for image in self.folder.path.glob("*.tif"):
            image.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove the old result: a reader finds no report from the first on, another machine a plan until the last."""
        there = self._listed()
        between = sorted(set(there) - {REPORT, PLAN})
        self.bucket.delete(self._key(key) for key in (REPORT, *between, PLAN) if key in there)
        self._planned, self._whole, self._offset = False, False, 0

    def _step(self, folder: Folder) -> None:
        """Put what the journal here says beyond what is there: shards first, then the piece that names them."""
        journal = folder.ledger / JOURNAL
        if not journal.is_file():
            return
        if not self._planned:
            self.bucket.put(self._key(PLAN), folder.path / PLAN)
            self._planned = True
        with sentences(journal), journal.open("rb") as file:
            self._learn(file.readline())
            file.seek(self._offset)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        if not new:
            return
        shards = {shard for line in new.splitlines() for shard in self._shards(folder, line)}
        if self._whole and shards:
            self.bucket.delete([self._key(REPORT)])  # it is not whole any more
            self._whole = False
        self._at_once(lambda shard: self._put_shard(folder, shard), sorted(shards))
        self.hold.check()
        if not self.bucket.create(self._key(f"{LEDGER}/journal-{self._offset}.jsonl"), new):
            raise LeaseError(
                f"Another run has written to {self.bucket.address}/{self.folder.name} meanwhile. Run again when it "
                "has ended."
            )
        self._offset += len(new)

    def _learn(self, header: bytes) -> None:
        with suppress(ValueError, KeyError, IndexError):
            self._blocks_across = int(from_line(header)["blocks"][1])

    def _shards(self, folder: Folder, line: bytes) -> Iterator[str]:
        """The files, relative to the Zarr, that a line of the journal names."""
        try:
            record = Record.from_line(line)
        except (ValueError, KeyError):  # no record, or damaged: nobody will believe it
            return
        place = divmod(record.block, self._blocks_across)
        for product, shard in record.shards.items():
            if shard != ABSENT:
                yield shard_name(array_name(product, 0), _dimensions(folder, product), *place)

    def _put_shard(self, folder: Folder, shard: str) -> None:
        """Put a shard from where it lies; it may change its place meanwhile, and one that is gone is redone."""
        for root in (folder.building, folder.published, folder.building):
            with suppress(FileNotFoundError):
                self.bucket.put(self._key(f"{ZARR}/{shard}"), (root / shard).read_bytes())
                return

    def _at_once(self, act: Callable[[Any], None], on: Iterable[Any]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(act, one) for one in on]:
                done.result()

    def _listed(self) -> dict[str, ObjectMeta]:
        return self.bucket.list(self.folder.name)

    def _key(self, name: str) -> str:
        return f"{self.folder.name}/{name}"

    def _get(self, name: str) -> bytes | None:
        return self.bucket.get(self._key(name))


def _dimensions(folder: Folder, product: str) -> int:
    """How many dimensions a product's array has, as its metadata here says."""
    file = array_name(product, 0) + "/zarr.json"
    for root in (folder.building, folder.published, folder.building):
        with suppress(FileNotFoundError):
            return len(json.loads((root / file).read_bytes())["shape"])
    raise IdentityError(f"{folder.path} has lost its {file}: run again.")


def _same(there: ObjectMeta | None, path: Path) -> bool:
    """Whether an object is a file's content, as its tag says; a tag that is no checksum says nothing."""
    if there is None or there["size"] != path.stat().st_size:
        return False
    with path.open("rb") as file:
        return (there["e_tag"] or "").strip('"') == hashlib.file_digest(file, "md5").hexdigest()
