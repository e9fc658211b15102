"""What a job says of the order of its scenes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class FieldFirst(BaseModel):
    """By a column of a list or a property of a STAC item: its lowest value first, or its highest."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    name: Text = Field(alias="field")
    first: Literal["lowest", "highest"] = "lowest"


class AreaFirst(BaseModel):
    """Scenes that touch an area first: polygons or a mask in a file, and a layer where it has several."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    file: Text = Field(alias="area", repr=False)  # an address may hold a password
    layer: str | None = None


def _several(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


Priority = Annotated[
    tuple[Literal["newest", "oldest"] | FieldFirst | AreaFirst, ...], Field(max_length=10), BeforeValidator(_several)
]
