"""The index of results, `scenes.parquet`: a row for each scene, stac-geoparquet, ordered by name.

A row is the scene's STAC item with its properties as columns, and its hrefs as seen from the index; a scene that is not
published has a row without assets and links. `maskmill:item` says where the item lies. The file is written beside,
row group by row group, and renamed: whoever reads sees the old one or the new one.
"""

from __future__ import annotations

import os
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from shapely.geometry import shape

from pipeline.columns import BOX, FORMAT, SCHEMA
from pipeline.errors import SettingsError
from pipeline.result import Standing
from pipeline.store.objects import insist, sentences, sync

NAME = "scenes.parquet"
ROWS = 1 << 14  # of a row group
NEAR = 1 << 10  # rows that are read at once for those who ask in order


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a scene as it was when a run last opened it: its name without a signature, bytes, and which it is.

    `version` is the time of change in ns of a local file, what a server says of a remote one (ETag, else the time of
    change, its spaces "_"), a digest of a folder; as `pipeline.raster.seal` has it.
    """

    address: str
    size: int | None
    version: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index knows of a scene, of the things that decide whether it is to be done."""

    name: str
    state: Standing
    reason: str | None
    nights: int
    failed: int
    pending: int
    sources: tuple[Source, ...]
    fingerprint: str | None
    identity: str | None
    model: str | None  # the network's digest
    card: str | None  # that of network and card
    made: datetime | None
    item: str | None  # where the STAC item lies, from the folder of results


_NEEDED = (
    *("id", "created"),
    *(
        f"maskmill:{key}"
        for key in ("state", "reason", "nights", "failed", "pending", "sources", "fingerprint", "identity", "model")
    ),
    *("maskmill:item", "maskmill:card"),
)


class Index:
    """The index, read: scenes by name, in order. Holds less than a kilobyte a scene."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = {name: table.column(name) for name in table.column_names}
        self._near: tuple[int, list[Entry]] = (-1, [])  # the rows around the last one asked for, if read

    @cached_property
    def names(self) -> list[str]:
        """All scenes, in order."""
        names: list[str] = self._columns["id"].to_pylist()
        return names

    def __len__(self) -> int:
        return len(self._columns["id"])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._row(name) is not None

    def _row(self, name: str) -> int | None:
        row = bisect_left(self.names, name)
        return row if row < len(self.names) and self.names[row] == name else None

    def get(self, name: str) -> Entry | None:
        """What is known of a scene; None where it is not in the index.

        Those who ask in the order of names, as lists of scenes are, get it out of some that are read at once.
        """
        row = self._row(name)
        if row is None:
            return None
        group, place = divmod(row, NEAR)
        known, near = self._near
        if known != group:
            self._near = (group, [])
            return self._entries(row, 1)[0]
        if not near:
            self._near = (group, near := self._entries(group * NEAR, NEAR))
        return near[place]

    def _entries(self, start: int, count: int) -> list[Entry]:
        """Some rows, column by column: Arrow makes Python's objects of a whole column ten times as fast as of a row."""
        told = {key.removeprefix("maskmill:"): each.slice(start, count) for key, each in self._columns.items()}
        lists = told.pop("sources")
        sources = [Source(a, None if size < 0 else size, which) for a, size, which in zip(*_flat(lists), strict=True)]
        ends = np.cumsum(lists.combine_chunks().value_lengths().fill_null(0).to_numpy())
        made = told.pop("created").cast(pa.int64()).fill_null(-1).to_numpy().tolist()
        said = {key: each.to_numpy().tolist() for key, each in told.items()}
        names, states = said.pop("id"), said.pop("state")
        return [
            Entry(
                name=name,
                state=Standing(states[row]),
                sources=tuple(sources[(ends[row - 1] if row else 0) : ends[row]]),
                made=None if made[row] < 0 else datetime.fromtimestamp(made[row] / 1e6, UTC),
                **{key: values[row] for key, values in said.items()},
            )
            for row, name in enumerate(names)
        ]

    def finished(self, most: int) -> list[dict[str, Any]]:
        """Some of the scenes that are complete, evenly from all: what the columns that were read say of each."""
        rows = np.flatnonzero(pc.equal(self._columns["maskmill:state"], Standing.COMPLETE.value).to_numpy())
        chosen = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
        return [{name: each[int(row)].as_py() for name, each in self._columns.items()} for row in chosen]

    def column(self, name: str) -> list[Any]:
        """A column of ours, such as "model", in the order of `names`."""
        values: list[Any] = self._columns[f"maskmill:{name}"].to_pylist()
        return values


def read_index(out: Path, columns: Sequence[str] = _NEEDED) -> Index | None:
    """Read the index of a folder of results; None where there is none, it is damaged, or not of this maskmill.

    With fewer `columns` than those of an Entry, there are only `names` and `column`. Raises SettingsError where the
    disk refuses.
    """
    try:
        with pq.ParquetFile(out / NAME) as file:
            return Index(file.read(list(columns))) if _ours(file) else None
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    except OSError as error:
        if error.errno is None:  # Arrow's own word for a file that is no Parquet
            return None
        raise SettingsError(
            f"{out / NAME} cannot be read ({error.strerror}): check its folder and its disk."
        ) from error


def _flat(lists: pa.ChunkedArray) -> Iterator[list[Any]]:
    """Addresses, sizes (-1 where there is none) and versions of all sources of some rows."""
    structs = pc.list_flatten(lists)
    for place in range(3):
        field = pc.struct_field(structs, place)
        yield (field.fill_null(-1) if place == 1 else field).to_numpy().tolist()


def _ours(file: pq.ParquetFile) -> bool:
    schema = file.schema_arrow
    return (schema.metadata or {}).get(b"maskmill") == FORMAT and bool(schema.equals(SCHEMA))


class Writer:
    """A new index beside the old one, which takes its place by `commit`; used with `with`.

    Rows are added in the order of their names; of the old index all rows come along but those of `without`.
    """

    def __init__(self, out: Path, keep: bool, without: Iterable[str]) -> None:
        self.path = out / NAME
        for dead in out.glob(f".{NAME}.*.partial"):  # who writes holds a lease, so nobody else does
            dead.unlink(missing_ok=True)
        self._partial = out / f".{NAME}.{uuid.uuid4().hex}.partial"
        self._old = pq.ParquetFile(self.path) if keep else None
        self._without = pa.array(sorted(without), pa.string())
        self._new: list[pa.Table] = []
        with sentences(self.path):
            self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._writer.close()
        if self._old:
            self._old.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, items: Sequence[tuple[Mapping[str, Any], str | None]]) -> None:
        """Take items, as seen from the index, each with where it lies. Raises like `put_whole`."""
        table = pa.Table.from_pylist([_row(item, place) for item, place in items], schema=SCHEMA)
        if self._old is None:
            self._write(table)
        else:
            self._new.append(table)

    def commit(self) -> None:
        """Put the new index in the old one's place, for good even if the power goes now. Raises like `put_whole`."""
        if self._old is not None:
            for table in self._merged(self._old):
                self._write(table)
        with sentences(self.path):
            self._writer.close()
        sync(self._partial)
        insist(self.path, lambda: os.replace(self._partial, self.path))  # noqa: PTH105  # two paths, one act
        sync(self.path)

    def _write(self, table: pa.Table) -> None:
        with sentences(self.path):
            self._writer.write_table(table, row_group_size=ROWS)

    def _merged(self, old: pq.ParquetFile) -> Iterator[pa.Table]:
        """The old rows and the new ones in order, some thousand at a time."""
        new = pa.concat_tables(self._new) if self._new else SCHEMA.empty_table()
        taken = 0
        for batch in old.iter_batches(ROWS):
            last = batch.column("id")[-1]
            kept = pa.Table.from_batches([batch], SCHEMA)
            kept = kept.filter(pc.invert(pc.is_in(kept.column("id"), value_set=self._without)))
            upto = taken + int(pc.sum(pc.less_equal(new.column("id").slice(taken), last)).as_py() or 0)
            yield pa.concat_tables([kept, new.slice(taken, upto - taken)]).sort_by("id")
            taken = upto
        yield new.slice(taken)


def _row(item: Mapping[str, Any], place: str | None) -> dict[str, Any]:
    """An item as a row: its properties beside its id, its geometry as WKB, its times as times."""
    row = {key: value for key, value in item.items() if key != "properties"} | dict(item["properties"])
    for key in ("datetime", "created"):
        row[key] = datetime.fromisoformat(row[key]) if row.get(key) else None
    row["geometry"] = shapely.to_wkb(shape(item["geometry"]), flavor="iso") if item["geometry"] else None
    row["bbox"] = dict(zip(BOX, item["bbox"], strict=True)) if "bbox" in item else None
    assets = {
        key: asset | {"nodata": None} if asset.get("nodata") == "nan" else asset
        for key, asset in item["assets"].items()
    }
    return row | {"assets": assets, "maskmill:item": place}
