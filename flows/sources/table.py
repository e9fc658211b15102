"""Scenes that a list names: text with an address on each line, or CSV or Parquet with a column `uri`.

An address is relative to the list's folder. CSV and Parquet may have the columns `name` and `taken`. What a scene is
called without a name: a relative address like a path in a folder, another one like an image named by hand.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from flows.sources.folder import stamp_of
from flows.sources.listed import LeftOut, Listed
from flows.sources.names import JOINT, name_by_hand, name_of
from pipeline.document import anchored_image
from pipeline.errors import SceneError
from pipeline.origin import ListOrigin, utc
from pipeline.raster.address import shown
from pipeline.raster.naming import demand_name
from pipeline.settings import SceneEntry

_LIST = re.compile(r"(?<!_MTL)\.(csv|parquet|txt)$", re.IGNORECASE)  # a Landsat scene's metadata is no list
_ROWS = 10_000  # of a Parquet file, at once
Row = Mapping[str, object]


def is_list(path: str) -> bool:
    """Whether a file is a list by its name."""
    return bool(_LIST.search(path)) and os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises for a long name


def rows(origin: ListOrigin, left: LeftOut, fields: Sequence[str] = ()) -> Iterator[Listed]:
    """The scenes of a list, in its order, with what its columns `fields` say.

    Raises SceneError where it cannot be read; a wrong row is left out.
    """
    path = Path(origin.file)
    kind = path.suffix.lower()
    found = _csv(path) if kind == ".csv" else _parquet(path, fields) if kind == ".parquet" else _text(path)
    for number, row in found:
        try:
            yield _scene(row, path, origin.name)
        except ValueError as error:
            left.refuse(f"Row {number} of the list {path} is left out: {error}.")
        except SceneError as error:
            left.refuse(f"Row {number} of the list {path} is left out: {error.message}")


def _scene(row: Row, path: Path, before: str | None) -> Listed:
    said = str(row.get("uri") or "").strip()
    if not said or "\0" in said:
        raise ValueError("it has no `uri`")
    uri = anchored_image(said, path.parent)
    name = f"{before}{JOINT}{row['name']}" if before and row.get("name") else str(row.get("name") or "")
    name = name or _name(said, uri, before)
    demand_name(name)
    return Listed(SceneEntry(name=name, uri=uri), stamp_of(uri), _taken(row.get("taken")), fields=row)


def _name(said: str, uri: str, before: str | None) -> str:
    below = os.path.normpath(said)
    inside = said != uri and not below.startswith((".", "/")) and ":" not in said
    return name_of(below, ending=True, before=before) if inside else name_by_hand(uri, before)


def _taken(said: object) -> datetime | None:
    if said is None or said == "":
        return None
    if isinstance(said, datetime):
        said = said.isoformat()
    try:
        return utc(str(said).strip())
    except ValueError:
        raise ValueError(f"its `taken`, {str(said)!r}, is no time such as 2026-05-01T10:20:30Z") from None


@contextmanager
def _told(path: Path, *more: type[Exception]) -> Iterator[None]:
    """What a list cannot be read for, in a sentence."""
    undecodable: tuple[type[Exception], ...] = (UnicodeDecodeError, *more)
    try:
        yield
    except OSError as error:
        raise SceneError(f"The list {path} cannot be read: {error.strerror or error}.") from None
    except undecodable as error:
        raise SceneError(
            f"The list {path} cannot be read: {shown(' '.join(str(error).split()).rstrip('.'))}."
        ) from None


def _text(path: Path) -> Iterator[tuple[int, Row]]:
    with _told(path), path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if (said := line.strip()) and not said.startswith("#"):
                yield number, {"uri": said}


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    with _told(path, csv.Error), path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, skipinitialspace=True)
        _demand_uri(path, reader.fieldnames or ())
        for row in reader:
            yield reader.line_num, row


def _parquet(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa  # noqa: PLC0415  # needed for a Parquet list alone, and it takes a while
    import pyarrow.parquet as pq  # noqa: PLC0415  # as above

    with _told(path, pa.ArrowException), path.open("rb") as opened:
        file = pq.ParquetFile(opened)
        names = file.schema_arrow.names
        _demand_uri(path, names)
        number = 0
        wanted = [one for one in dict.fromkeys(("uri", "name", "taken", *fields)) if one in names]
        for batch in file.iter_batches(_ROWS, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _demand_uri(path: Path, columns: object) -> None:
    names = [str(name) for name in columns] if isinstance(columns, list | tuple) else []
    if "uri" not in names:
        raise SceneError(
            f"The list {path} has no column `uri`: it has {', '.join(names) or 'none'}. A CSV's first line names its "
            "columns."
        )
