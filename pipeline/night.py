"""What a job says of its nights: when no more is begun, how much may be begun, what of old results is done again."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.priority import FieldFirst, Priority

_CLOCK = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d")


def _clock(value: object) -> object:
    """YAML 1.1 makes the number 360 of a bare 6:00."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return f"{value // 60:02}:{value % 60:02}"
    if isinstance(value, str) and not _CLOCK.fullmatch(value):
        raise ValueError(f'a time of day is "06:00", not {value!r}')
    return value


def _zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no timezone {value!r}; say such as Europe/Vienna or UTC") from None
    return value


class Notice(BaseModel):
    """Who is told of a failure: a program with its arguments, an address that is sent a POST, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    command: tuple[str, ...] | None = Field(default=None, min_length=1, repr=False)
    webhook: str | None = Field(default=None, pattern=r"^(https?://[^\s/]\S*|\$[A-Za-z_]\w*)$", repr=False)  # a secret

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("it names neither a command nor a webhook")
        return self


class Night(BaseModel):
    """The settings of a job that say what one run of it may begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stop_at: Annotated[str | None, BeforeValidator(_clock)] = Field(
        default=None, description='the time of day, such as "06:00", from which on no block is begun'
    )
    timezone: Annotated[str, BeforeValidator(_zone)] = Field(default="UTC", description="whose clock `stop_at` means")
    max_hours: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="hours after which no block is begun"
    )
    until: AwareDatetime | None = Field(default=None, description="the instant from which on no block is begun")
    max_scenes: int | None = Field(default=None, ge=1, strict=True, description="scenes that one run may begin")
    max_megapixels: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="pixels of scenes that one run may begin, in millions"
    )
    priority: Priority = Field(
        default=(),
        description="the order of scenes: newest, oldest, {field: NAME, first: highest}, {area: FILE}, or a list of "
        "these, of which the first counts most; default: as they are listed",
    )
    golden: Path | None = Field(
        default=None,
        description="the folder of a scene's trusted result, which must come out the same before any block is begun",
    )
    expect_min: int | None = Field(
        default=None, ge=1, strict=True, description="scenes that must be due; fewer is a failure: no images have come"
    )
    retry_after: int = Field(
        default=7,
        ge=0,
        le=3650,
        strict=True,
        description="nights that a scene is left alone for after two in vain; 0: it is tried every night",
    )
    reprocess: Literal["all"] | None = Field(
        default=None, description="all: do again what has a result by another model or another setting"
    )
    since: date | None = Field(
        default=None, description="like `reprocess`, for scenes that were taken, or else changed, on this day or later"
    )
    price_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="what an hour of the machines costs, for the report"
    )
    on_failure: Notice | None = Field(
        default=None, description="who is told of a run that does not end well: {command: [...]}, {webhook: $VARIABLE}"
    )

    def begun(self, now: datetime) -> Self:
        """The same with its end as an instant, which it keeps in all its parts and whenever they are tried again."""
        ends = [self.until] if self.until else []
        if self.max_hours:
            ends.append(now + timedelta(hours=self.max_hours))
        if self.stop_at:
            ends.append(next_time(self.stop_at, ZoneInfo(self.timezone), now))
        end = min(ends).astimezone(UTC) if ends else None
        return self.model_copy(update={"stop_at": None, "max_hours": None, "until": end})

    @property
    def fields(self) -> tuple[str, ...]:
        """What of a list's columns or an item's properties says the order of scenes."""
        return tuple(one.name for one in self.priority if isinstance(one, FieldFirst))

    @property
    def is_over(self) -> bool:
        """Whether no block is to be begun any more."""
        return self.until is not None and datetime.now(UTC) >= self.until


def next_time(clock: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The first instant after `now` at which clocks of a zone show a time of day; `now` is aware.

    A time that a change to summer time leaves out comes when it would have come without the change; one that a change
    back repeats is the first of the two (PEP 495).
    """
    hour, minute = map(int, clock.split(":"))
    today = now.astimezone(zone).date()
    days = (datetime.combine(today + timedelta(days=more), time(hour, minute), zone) for more in range(3))
    return next(instant for day in days if (instant := day.astimezone(UTC)) > now)
