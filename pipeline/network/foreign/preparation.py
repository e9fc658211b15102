"""bioimage.io's steps before the network, as entries of a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.network.foreign.steps import StepError, Steps
from pipeline.network.foreign.told import Entries, mapping, numbers, sequence

_WHOLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


def prepared(
    eats: Mapping[str, Any], *, axes_of: Sequence[str], source: str
) -> tuple[Entries, dict[str, str], list[str]]:
    """Read an input's preprocessing as (entries, what no card can express, notes).

    `axes_of` are the input's axes by id. Raises SettingsError where a step has not the form of one.
    """
    steps = Steps()
    dtype: str | None = None
    notes: list[str] = []
    told = sequence(eats.get("preprocessing") or (), f"`preprocessing` in {source}")
    reading = _Reading(axes_of, source, notes)
    for place, one in enumerate(told):
        step = mapping(one, f"A step in {source}")
        name = str(step.get("id") or step.get("name"))
        kwargs = step.get("kwargs") if isinstance(step.get("kwargs"), Mapping) else {}
        try:
            if name == "ensure_dtype":
                dtype = _whole_first(str(mapping(kwargs, name).get("dtype")), place) or dtype
            else:
                steps = reading.step(steps, name, mapping(kwargs, name))
        except StepError as error:
            return {}, {"scaling": _refused(source, error)}, notes
    try:
        entries = steps.entries()
    except StepError as error:
        return {}, {"scaling": _refused(source, error)}, notes
    if steps.statistics is None and (eaten := dtype or _eaten(eats)):
        entries["dtype"] = eaten  # fixed numbers mean something for one type of pixels alone
    return entries, {}, notes


def _refused(source: str, error: StepError) -> str:
    return f"{source} asks for {error} before the network, which no card can say"


def _eaten(eats: Mapping[str, Any]) -> str | None:
    """The type of the pixels, where it is one of whole numbers; floats are what others are cast to."""
    data = eats.get("data")
    kind = data.get("type", "float32") if isinstance(data, Mapping) else eats.get("data_type")
    return kind if kind in _WHOLE else None


def _whole_first(kind: str, place: int) -> str | None:
    """The whole numbers that a first `ensure_dtype` asks for; later it would cut fractions off."""
    if kind in ("float16", "float32", "float64"):
        return None
    if place or kind not in _WHOLE:
        raise StepError(f"`ensure_dtype` to {kind}")
    return kind


class _Reading:
    """Readers of the steps by their names."""

    def __init__(self, axes: Sequence[str], source: str, notes: list[str]) -> None:
        self.axes, self.source, self.notes = axes, source, notes

    def step(self, steps: Steps, name: str, kwargs: Mapping[str, Any]) -> Steps:
        """Take one more step. Raises StepError for one that is not known or cannot come here."""
        known: dict[str, Callable[[Steps, Mapping[str, Any]], Steps]] = {
            "scale_linear": self._linear,
            "scale_range": self._range,
            "zero_mean_unit_variance": self._standardised,
            "fixed_zero_mean_unit_variance": self._fixed,
            "clip": self._clipped,
        }
        if name not in known:
            raise StepError(f"`{name}`")
        return known[name](steps, kwargs)

    def _linear(self, steps: Steps, kwargs: Mapping[str, Any]) -> Steps:
        where = f"`scale_linear` in {self.source}"
        gain, offset = numbers(kwargs.get("gain", 1.0), where), numbers(kwargs.get("offset", 0.0), where)
        self._by_band(kwargs, "scale_linear", len(gain), len(offset))
        return steps.times(gain, offset, "scale_linear")

    def _fixed(self, steps: Steps, kwargs: Mapping[str, Any]) -> Steps:
        where = f"the mean and std in {self.source}"
        mean, deviation = numbers(kwargs.get("mean"), where), numbers(kwargs.get("std"), where)
        self._by_band(kwargs, "fixed_zero_mean_unit_variance", len(mean), len(deviation))
        return steps.standardised(mean, deviation, "fixed_zero_mean_unit_variance")

    def _standardised(self, steps: Steps, kwargs: Mapping[str, Any]) -> Steps:
        if kwargs.get("mode") == "fixed":
            return self._fixed(steps, {key: kwargs.get(key) for key in ("mean", "std")})
        name = "zero_mean_unit_variance"
        statistics: dict[str, Any] = {"kind": "scene"}
        if self._jointly(kwargs, name):
            statistics["joint"] = True
        return steps.over_the_image(statistics, name, _epsilon(kwargs))

    def _range(self, steps: Steps, kwargs: Mapping[str, Any]) -> Steps:
        if kwargs.get("reference_tensor") is not None:
            raise StepError("`scale_range` by another tensor")
        low, high = kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0)
        statistics: dict[str, Any] = {"kind": "percentile", "low": low, "high": high}
        if self._jointly(kwargs, "scale_range"):
            statistics["joint"] = True
        return steps.over_the_image(statistics, "scale_range", _epsilon(kwargs))

    def _clipped(self, steps: Steps, kwargs: Mapping[str, Any]) -> Steps:
        bounds = [kwargs.get(side) for side in ("min", "max")]
        if not all(bound is None or isinstance(bound, int | float) for bound in bounds):
            raise StepError(f"`clip` to {bounds[0]!r} and {bounds[1]!r}")
        return steps.clipped(*bounds)

    def _by_band(self, kwargs: Mapping[str, Any], name: str, *counts: int) -> None:
        """Refuse several numbers along another axis than that of the bands."""
        axis = kwargs.get("axis", "channel")
        if max(counts) > 1 and axis not in ("channel", "c"):
            raise StepError(f"`{name}` along the axis {axis}")

    def _jointly(self, kwargs: Mapping[str, Any], name: str) -> bool:
        """Whether the bands share their statistics; says so where those of many images were meant."""
        told = kwargs.get("axes")
        letters = {"b": "batch", "c": "channel"}
        over = [letters.get(one, one) for one in told] if told is not None else list(self.axes)
        if not {"x", "y"} <= set(over):
            raise StepError(f"`{name}` over the axes {', '.join(over) or 'none'}")
        if kwargs.get("mode") == "per_dataset" or (told is not None and "batch" in over):
            self.notes.append(f"{self.source} takes `{name}` over a whole data set; here it is over each scene.")
        return "channel" in over


def _epsilon(kwargs: Mapping[str, Any]) -> float:
    epsilon = kwargs.get("eps", 1e-6)
    return float(epsilon) if isinstance(epsilon, int | float) else -1.0
