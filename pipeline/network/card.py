"""The card: what a network eats and what its answer means. One model for the file's metadata, YAML and flags."""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Mapping, Sized
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import SettingsError
from pipeline.network.scaling import (
    Constant,
    MeanStd,
    MinMax,
    Numbers,
    Scaling,
    SceneStatistics,
    Statistics,
    Unscaled,
    listed,
)
from pipeline.settings import HIGHEST_CLASS

PixelType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]

# Okabe and Ito's colours, which people with colour blindness tell apart; grey first, where background often stands.
_COLOURS = ("#999999", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Band(_Part):
    """One channel of the input: its name, and which band of the file it is, from 1; None: by its place in the list."""

    name: str = Field(min_length=1)
    index: int | None = Field(default=None, ge=1)


class MaskClass(_Part):
    """One class: its index in the network's answer, its value in the mask, its name and its colour (#rrggbb)."""

    index: int = Field(ge=0)
    value: int = Field(ge=0, le=HIGHEST_CLASS)
    name: str = Field(min_length=1)
    colour: Annotated[str, Field(pattern="^#[0-9a-f]{6}$"), BeforeValidator(lambda c: str(c).lower())]


def default_colour(index: int) -> str:
    """Give class `index` a colour of its own, always the same."""
    if index < len(_COLOURS):
        return _COLOURS[index]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.65, 0.9)  # golden angle: neighbours differ
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _bands(value: object) -> object:
    """Read `[red, green]` as names, and `[4, 3]` as bands of the file."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(_whole_band(item) for item in value)


def _whole_band(item: object) -> object:
    if isinstance(item, int):
        return {"name": f"band {item}", "index": item}
    return {"name": item} if isinstance(item, str) else item


def _classes(value: object) -> object:
    """Read `[sea, land]`, `{0: sea, 1: land}` or full entries; index, value and colour follow from the place."""
    if isinstance(value, Mapping):
        try:
            value = [
                {"index": int(index), **(item if isinstance(item, Mapping) else {"name": item})}
                for index, item in value.items()
            ]
        except ValueError:
            raise ValueError("classes must be keyed by their index, such as {0: sea, 1: land}") from None
        value.sort(key=lambda item: item["index"])
    if not isinstance(value, list | tuple):
        return value
    return tuple(_whole_class(place, item) for place, item in enumerate(value))


def _whole_class(place: int, item: object) -> object:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping):
        return item
    index = item.get("index", place)
    return {"index": index, "value": index, "colour": default_colour(place), **item}


class Card(_Part):
    """What a network eats and says.

    A raw pixel becomes ((raw × gain + offset) scaled as `scaling` says); an invalid one becomes `fill`. With `softmax`
    the network has a channel for each class and the most probable wins, the lowest index where they tie. With
    `sigmoid` it has a channel for each class but the first: the most probable channel's class where that reaches
    `threshold`, else the first class. Raises SettingsError through `Card.of`, pydantic's own error otherwise.
    """

    name: str = Field(min_length=1, description="what the model is called")
    bands: Annotated[tuple[Band, ...], BeforeValidator(_bands)] = Field(
        min_length=1, description="the input's channels in order, such as [red, green, blue]"
    )
    dtype: PixelType | None = Field(default=None, description="the pixels' type; none: whatever the scene has")
    gain: Numbers = Field(
        default=(1.0,), description="physical = raw × gain + offset; one number, or one for each band"
    )
    offset: Numbers = Field(
        default=(0.0,), description="physical = raw × gain + offset; one number, or one for each band"
    )
    scaling: Scaling = Field(
        description="how pixels are scaled, such as {kind: constant, divide_by: 255}, "
        "{kind: mean_std, mean: [...], std: [...]}, {kind: min_max, min: 0, max: 10000}, none or scene"
    )
    fill: float = Field(default=0.0, description="what an invalid pixel becomes, after scaling")
    resolution: float | None = Field(default=None, gt=0, description="metres per pixel that the network was trained on")
    classes: Annotated[tuple[MaskClass, ...], BeforeValidator(_classes)] = Field(
        description="the mask's classes in order, such as [sea, land]"
    )
    output: str | None = Field(default=None, description="which output is the mask's; none: the only one")
    layout: Literal["NCHW", "NHWC"] = Field(description="NCHW or NHWC, of input and output")
    says: Literal["logits", "probabilities"] = Field(description="logits or probabilities")
    activation: Literal["softmax", "sigmoid"] = Field(description="softmax (one class wins) or sigmoid (by channel)")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="sigmoid: the least probability of a class")
    window: int | None = Field(default=None, ge=1, description="the side in pixels that the network was trained on")
    architecture: str = Field(default="unknown", min_length=1, description="such as U-Net")
    licence: str | None = Field(default=None, description="an SPDX identifier")
    training_data: str | None = Field(default=None, description="what the network was trained on")
    scores: dict[str, float] = Field(default_factory=dict, description="what it reached, by name")

    @model_validator(mode="before")
    @classmethod
    def _one_for_each_band(cls, said: object) -> object:
        """Repeat a single gain or offset for all bands, so that equal cards are equal."""
        if not isinstance(said, Mapping) or not isinstance(said.get("bands"), Sized):
            return said
        full = dict(said)
        for key, default in (("gain", 1.0), ("offset", 0.0)):
            numbers = listed(said.get(key, default))
            if isinstance(numbers, list | tuple) and len(numbers) == 1:
                full[key] = tuple(numbers) * len(said["bands"])
        return full

    @model_validator(mode="after")
    def _laws(self) -> Card:
        counts = {"gain": len(self.gain), "offset": len(self.offset)}
        for key, count in counts.items() | {(f"scaling.{k}", c) for k, c in self.scaling.counts().items()}:
            if count not in (1, len(self.bands)):
                raise ValueError(f"{key} holds {count} numbers for {len(self.bands)} bands; say one, or one for each")
        if 0 in self.gain:
            raise ValueError("a gain is 0; it would wipe its band out")
        if len(self.classes) < 2:
            raise ValueError(
                f"the mask has {len(self.classes)} class; it needs at least two, such as [background, roof]"
            )
        for place, entry in enumerate(self.classes):
            if entry.index != place:
                raise ValueError(
                    f"class `{entry.name}` has the index {entry.index} at place {place}; none may be left out"
                )
        for key in ("value", "name"):
            said = [getattr(entry, key) for entry in self.classes]
            if twice := [item for item in said if said.count(item) > 1]:
                raise ValueError(f"two classes have the {key} {twice[0]!r}; each needs its own")
        if not isinstance(self.scaling, SceneStatistics):
            self.affine(None)
        return self

    @classmethod
    def of(cls, said: Mapping[str, Any], source: str) -> Card:
        """Make a card from keys and values. Raises SettingsError with one sentence that names `source`."""
        try:
            return cls.model_validate(dict(said))
        except ValidationError as error:
            raise SettingsError(f"{source}: {_sentence(error)}") from None

    @property
    def channels(self) -> int:
        """How many channels the network's answer has."""
        return len(self.classes) - (self.activation == "sigmoid")

    @property
    def values(self) -> tuple[int, ...]:
        """The classes' values in the mask, by index."""
        return tuple(entry.value for entry in self.classes)

    @property
    def file_bands(self) -> tuple[int, ...]:
        """Which bands of a file to read, from 1, where the job does not say it."""
        return tuple(band.index or place for place, band in enumerate(self.bands, 1))

    @property
    def needs_statistics(self) -> bool:
        """Whether the scaling is over the scene."""
        return isinstance(self.scaling, SceneStatistics)

    def affine(self, statistics: Statistics | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give (shift, factor), each float32 of shape (B,), with scaled = (raw − shift) × factor.

        `statistics` are the raw pixels' mean and standard deviation over the scene, each of shape (B,); only a scaling
        over the scene needs them. Computed in float64. Raises ValueError where a number leaves float32's range.
        """
        gain, offset = np.asarray(self.gain), np.asarray(self.offset)
        if statistics is not None:
            statistics = (statistics[0] * gain + offset, statistics[1] * np.abs(gain))
        middle, divisor = self.scaling.shift_and_divisor(statistics)
        with np.errstate(over="ignore", under="ignore"):
            shift = ((middle - offset) / gain).astype(np.float32)
            factor = np.broadcast_to(gain / divisor, gain.shape).astype(np.float32)
        for band, low, times in zip(self.bands, shift, factor, strict=True):
            if not np.isfinite(low) or not np.isfinite(times) or times == 0:
                raise ValueError(f"the scaling of {band.name} comes to (raw − {low}) × {times}, beyond float32's range")
        return shift, factor

    def identity(self) -> dict[str, Any]:
        """Give what decides pixels, ready for JSON.

        Names, colours, licence, scores and resolution are left out; so is the window, which the plan freezes, and
        what the scene's fingerprint says already.
        """
        return {
            "bands": list(self.file_bands),
            "scaling": self._scaling_identity(),
            "fill": float(np.float32(self.fill)),
            "classes": list(self.values),
            "output": self.output,
            "layout": self.layout,
            "says": self.says,
            "activation": self.activation,
            "threshold": self.threshold if self.activation == "sigmoid" else None,
        }

    def _scaling_identity(self) -> dict[str, Any]:
        if self.needs_statistics:  # gain and offset cancel out but for the sign
            return {"scene": np.sign(self.gain).tolist()}
        shift, factor = self.affine(None)
        return {"shift": shift.tolist(), "factor": factor.tolist()}


_KINDS: dict[str, type[BaseModel]] = {
    "none": Unscaled,
    "constant": Constant,
    "mean_std": MeanStd,
    "min_max": MinMax,
    "scene": SceneStatistics,
}


def _sentence(error: ValidationError) -> str:
    """Say the first thing that pydantic found, in words."""
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] != "missing"), found[0])
    place = [part for part in first["loc"] if part not in _KINDS]
    where = ".".join(str(part) for part in place) or "the card"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys_at(first["loc"]), n=1, cutoff=0.0)[0]
        return f"there is no card entry `{where}`; did you mean `{near}`?"
    if first["type"] == "missing":
        return _missing([".".join(str(part) for part in each["loc"] if part not in _KINDS) for each in found])
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        return f"{'the card' if not place else f'the card entry `{where}`'} cannot hold: {reason}."
    if first["type"].startswith("union_tag"):
        return f"the card entry `{where}` must have a `kind`, one of {', '.join(_KINDS)}; it is {first['input']!r}."
    return f"the card entry `{where}` cannot be {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _missing(entries: list[str]) -> str:
    """Name all that is missing, each with how to say it."""
    fields = Card.model_fields
    ways = [f"`{entry}`: {(entry in fields and fields[entry].description) or 'a value'}" for entry in entries]
    return f"the card does not say {', '.join(f'`{entry}`' for entry in entries)}. Say {'; '.join(ways)}."


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    """Which keys are known where an unknown one stands."""
    if len(loc) == 1:
        return list(Card.model_fields)
    inner: dict[Any, type[BaseModel]] = {
        "bands": Band,
        "classes": MaskClass,
        "scaling": _KINDS.get(str(loc[1]), Unscaled),
    }
    return list(inner.get(loc[0], Card).model_fields)
