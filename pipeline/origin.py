"""What a job may name besides single scenes: folders, buckets, lists, STAC, mosaics. flows.sources lists them.

A time or a span of time is said as STAC does: 2026, 2026-05, 2026-05-01, 2026-05-01T10:00:00Z, or two with a slash
between, of which one may be `..`.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SETTLE_MINUTES = 5.0  # what folders, prefixes and patterns are given where `settle` is not said
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")

Span = tuple[datetime | None, datetime | None]


def span_of(text: str) -> Span:
    """(first, last) instant of a time or a span of time as STAC says it, in UTC; None where it is open.

    Raises ValueError for what is none.
    """
    first, slash, last = text.partition("/")
    begin, end = _ends(first), _ends(last) if slash else _ends(first)
    if begin == end == (None, None) or (begin[0] and end[1] and begin[0] > end[1]):
        raise ValueError(f"{text!r} is no span of time")
    return begin[0], end[1]


def _ends(text: str) -> Span:
    """(first, last) instant of a year, a month, a day or an instant."""
    if text in {"", ".."}:
        return None, None
    match = _DATE.fullmatch(text)
    if not match:
        instant = utc(text)
        return instant, instant
    year, month, day = (int(part) if part else None for part in match.groups())
    begin = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
    days = 1 if day else calendar.monthrange(begin.year, begin.month)[1] if month else 365 + calendar.isleap(begin.year)
    return begin, begin + timedelta(days=days, microseconds=-1)


def utc(text: str) -> datetime:
    """An instant; what says no zone is in UTC. Raises ValueError."""
    said = datetime.fromisoformat(text)
    return said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)


def _iso(value: object) -> object:
    """YAML makes a date of what looks like one."""
    return value.isoformat() if isinstance(value, date) else value


def _span(value: object) -> object:
    try:
        span_of(str(value))
    except ValueError:
        raise ValueError(f"a datetime is 2026-05-01, or 2026-05-01/2026-05-31, not {value!r}") from None
    return value


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
When = Annotated[str, BeforeValidator(_span), BeforeValidator(_iso)]


class Origin(BaseModel):
    """A source of scenes; `name` stands before the name of each, for sources that would give the same ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")


class FolderOrigin(Origin):
    """A folder: the images in it and below it, or what a pattern matches, which is relative to it."""

    folder: Text
    pattern: Text | None = None


class BucketOrigin(Origin):
    """A prefix of a bucket: the images below it, or what a pattern matches, which is relative to it."""

    prefix: str = Field(pattern=r"^(s3|gs|az)://[^/?#\s]+(/[^?#]*)?$")
    pattern: Text | None = None


class ListOrigin(Origin):
    """A list: text with an address on each line, or CSV or Parquet with columns `uri`, perhaps `name` and `taken`."""

    file: Text = Field(alias="list")


class MosaicOrigin(Origin):
    """Images on one grid as one scene: the VRT that is written, the images, and which is on top where they overlap."""

    mosaic: str = Field(pattern=r"(?i)[^/]\.vrt$")
    of: Annotated[tuple[Text, ...], Field(min_length=1, repr=False), BeforeValidator(_several)]
    top: Literal["first", "last"] = "first"

    @property
    def folders(self) -> Iterator[Path]:
        """Where the images lie."""
        for one in self.of:
            fixed = list(takewhile(lambda part: not has_magic(part), one.split("/")))
            folder = Path("/".join(fixed) or ".")
            yield folder if len(fixed) < len(one.split("/")) or folder.is_dir() else folder.parent


class StacOrigin(Origin):
    """A static STAC catalogue, by its file or address, or a STAC API; and which of its items are meant.

    `assets` says which asset holds which of the model's bands, or which one asset is the image.
    """

    stac: Text = Field(repr=False)  # its address may hold a password
    collections: tuple[Text, ...] = ()
    bbox: tuple[float, float, float, float] | None = None
    datetime: When | None = None
    query: dict[str, dict[str, Any]] | None = None
    filter: dict[str, Any] | str | None = None
    assets: Annotated[dict[Text, Text], Field(min_length=1)] | Text | None = None
    max_items: int | None = Field(default=None, ge=1, strict=True)

    @model_validator(mode="after")
    def _a_box(self) -> Self:
        if self.bbox and not (self.bbox[0] <= self.bbox[2] and -90 <= self.bbox[1] <= self.bbox[3] <= 90):
            raise ValueError(f"a bbox is [west, south, east, north] in degrees, not {list(self.bbox)}")
        return self
