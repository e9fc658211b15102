"""The card: what a network eats and what its answer means. One model for the file's metadata, YAML and flags."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pipeline.errors import SettingsError
from pipeline.network.legend import VALUE, Band, MaskClass, Part, bands_said, classes_said
from pipeline.network.misread import sentence
from pipeline.network.scaling import Numbers, OverScene, Scaling, Statistics, WindowStatistics, listed
from pipeline.settings import FAILED

PixelType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


class Card(Part):
    """What a network eats and says.

    A raw pixel becomes ((raw × gain + offset) scaled as `scaling` says, then clipped); an invalid one becomes `fill`.
    With `softmax` the network has a channel for each class and the most probable wins, the lowest index where they
    tie. With `sigmoid` it has a channel for each class but the first, and each channel's class is there where it
    reaches `threshold`: a band of the mask each, or, for one channel or with `exclusive`, the most probable channel's
    class, the first class where none reaches it. Where the network says `values`, each of `classes` names a channel
    of numbers, and the mask says only where there are some. Raises SettingsError through `Card.of`, pydantic's own
    error otherwise.
    """

    name: str = Field(min_length=1, description="what the model is called")
    bands: Annotated[tuple[Band, ...], BeforeValidator(bands_said)] = Field(
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
        "{kind: mean_std, mean: [...], std: [...]}, {kind: min_max, min: 0, max: 10000}, "
        "{kind: percentile, low: 1, high: 99}, none, scene or window"
    )
    units: Literal["reflectance"] | None = Field(
        default=None, description="what raw × gain + offset is; with reflectance, a scene's own gain and offset count"
    )
    clip: tuple[float, float] | None = Field(
        default=None, description="the least and the greatest number after scaling, such as [0, 1]"
    )
    fill: float = Field(default=0.0, description="what an invalid pixel becomes, after scaling")
    resolution: float | None = Field(default=None, gt=0, description="metres per pixel that the network was trained on")
    classes: Annotated[tuple[MaskClass, ...], BeforeValidator(classes_said)] = Field(
        description="the mask's classes in order, such as [sea, land]"
    )
    output: str | None = Field(default=None, description="which output is the mask's; none: the only one")
    layout: Literal["NCHW", "NHWC"] = Field(description="NCHW or NHWC, of input and output")
    says: Literal["logits", "probabilities", "values"] = Field(description="logits, probabilities, or values (numbers)")
    activation: Literal["softmax", "sigmoid", "none"] = Field(
        description="softmax (one class wins), sigmoid (by channel), or none, for values"
    )
    exclusive: bool = Field(default=False, description="sigmoid: one band of the most probable class, not one for each")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="sigmoid: the least probability of a class")
    window: int | None = Field(default=None, ge=1, description="the side in pixels that the network was trained on")
    architecture: str = Field(default="unknown", min_length=1, description="such as U-Net")
    licence: str | None = Field(default=None, description="an SPDX identifier")
    training_data: str | None = Field(default=None, description="what the network was trained on")
    scores: dict[str, float] = Field(default_factory=dict, description="what it reached, by name")

    @model_validator(mode="before")
    @classmethod
    def _said_in_full(cls, said: object) -> object:
        """Repeat a single gain or offset for all bands, so that equal cards are equal; values have no activation."""
        if not isinstance(said, Mapping) or not isinstance(said.get("bands"), Sized):
            return said
        full = dict(said)
        if said.get("says") == "values":
            full.setdefault("activation", "none")
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
        return self

    @model_validator(mode="after")
    def _laws_of_the_answer(self) -> Card:
        if (self.says == "values") != (self.activation == "none"):
            raise ValueError(
                f"the network says {self.says} and its activation is {self.activation}; values have none, and logits "
                "and probabilities have softmax or sigmoid"
            )
        if self.says == "values":
            if self.exclusive:
                raise ValueError("values exclude nothing; leave `exclusive` out")
            if not self.classes:
                raise ValueError("there is no class; classes name each channel of values, such as [height]")
        elif len(self.classes) < 2:
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
        return self

    @model_validator(mode="after")
    def _laws_of_scaling(self) -> Card:
        if self.clip and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip says {list(self.clip)}; the first must be the lower of the two")
        if getattr(self.scaling, "joint", False) and (len(set(self.gain)) > 1 or len(set(self.offset)) > 1):
            raise ValueError("joint statistics need one gain and offset for all bands")
        if not self.needs_statistics:
            self.affine(None)
        return self

    @classmethod
    def of(cls, said: Mapping[str, Any], source: str) -> Card:
        """Make a card from keys and values. Raises SettingsError with one sentence that names `source`."""
        try:
            return cls.model_validate(dict(said))
        except ValidationError as error:
            raise SettingsError(f"{source}: {sentence(error, cls)}") from None

    @property
    def channels(self) -> int:
        """How many channels the network's answer has."""
        return len(self.classes) - (self.activation == "sigmoid")

    @property
    def labels(self) -> tuple[str, ...]:
        """What each channel of the network's answer stands for."""
        return tuple(entry.name for entry in self.classes[-self.channels :])

    @property
    def layered(self) -> bool:
        """Whether the mask has a band for each channel, of 0 and 1."""
        return self.activation == "sigmoid" and self.channels > 1 and not self.exclusive

    @property
    def legend(self) -> tuple[MaskClass, ...]:
        """What the mask tells apart: the classes, or for values one that says that there is a number."""
        return VALUE if self.says == "values" else self.classes

    @property
    def values(self) -> tuple[int, ...]:
        """The classes' values in the mask, by index."""
        return tuple(entry.value for entry in self.legend)

    @property
    def mask_dtype(self) -> Literal["uint8", "uint16"]:
        """The least type that holds every class beside the three statuses."""
        return "uint8" if max(self.values) < FAILED else "uint16"

    @property
    def answer(self) -> Literal["probabilities", "values"]:
        """What the network's answer is brought to where it is compared or blended."""
        return "values" if self.says == "values" else "probabilities"

    @property
    def file_bands(self) -> tuple[int, ...]:
        """Which bands of a file to read, from 1, where the job does not say it."""
        return tuple(band.index or place for place, band in enumerate(self.bands, 1))

    @property
    def needs_statistics(self) -> bool:
        """Whether the scaling is over the scene."""
        return isinstance(self.scaling, OverScene)

    def affine(self, statistics: Statistics | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give (shift, factor), each float32 of shape (B,), with scaled = (raw − shift) × factor.

        `statistics` are two numbers of the raw pixels over the scene, as the scaling asks for them, each of shape (B,);
        only a scaling over the scene needs them. Computed in float64. Raises ValueError where a number leaves
        float32's range.
        """
        gain, offset = np.asarray(self.gain), np.asarray(self.offset)
        if statistics is not None and isinstance(self.scaling, OverScene):
            statistics = self.scaling.physical(statistics, gain, offset)
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
        said = {
            "bands": list(self.file_bands),
            "scaling": self._scaling_identity(),
            "clip": [float(np.float32(end)) for end in self.clip] if self.clip else None,
            "fill": float(np.float32(self.fill)),
            "classes": list(self.values),
            "output": self.output,
            "layout": self.layout,
            "says": self.says,
            "activation": self.activation,
            "threshold": self.threshold if self.activation == "sigmoid" else None,
        }
        return said | ({"one band each": True} if self.layered else {})

    def _scaling_identity(self) -> dict[str, Any]:
        if isinstance(self.scaling, OverScene | WindowStatistics):
            return self.scaling.identity(self.gain)
        shift, factor = self.affine(None)
        return {"shift": shift.tolist(), "factor": factor.tolist()}
