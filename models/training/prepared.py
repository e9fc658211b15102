"""Data ready to be learnt from: opened, looked at, divided into what trains and what is held out, told in a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.training.batches import Scale
from models.training.labelled import Asked, Labelled, card_classes, classes_of, digest_of, open_all
from models.training.recipe import Recipe
from models.training.split import Plot, Windows, held_out
from models.training.survey import Survey, brightness, demand_classes, survey_all
from pipeline.errors import SettingsError
from pipeline.network.card import Card
from pipeline.network.legend import MaskClass

Told = Callable[[str, int, int], None]
"""Told of a stage, and how many of how many images are done."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the card says beyond the data."""

    name: str
    licence: str | None = None
    training_data: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training needs of its data."""

    labelled: Sequence[Labelled]
    validation: Sequence[Labelled]
    windows: Windows
    plots: Sequence[Plot]
    scale: Scale
    classes: Sequence[MaskClass]
    held: Sequence[int]
    digest: str
    notes: Sequence[str]

    def class_weights(self, recipe: Recipe) -> tuple[float, ...]:
        """A number for each class; none where all are alike. Raises SettingsError where they are too few or many."""
        if not isinstance(recipe.class_weights, str):
            if len(recipe.class_weights) not in (0, len(self.classes)):
                raise SettingsError(
                    f"`--class-weights` are {len(recipe.class_weights)}, and {len(self.classes)} classes."
                )
            return recipe.class_weights
        inverse = self.windows.pixels.sum() / np.maximum(self.windows.pixels, 1)
        return tuple((inverse / inverse.mean()).tolist())

    def steps(self, recipe: Recipe) -> int:
        """Steps of an epoch."""
        return max(1, len(self.windows) // recipe.batch)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        names = [one.name for one in self.classes]
        return {
            "images": len(self.labelled),
            "windows_each_epoch": len(self.windows),
            "training_pixels": dict(zip(names, self.windows.pixels.tolist(), strict=True)),
            "held_out_pixels": dict(zip(names, self.held, strict=True)),
            "held_out": [
                [self.validation[plot.image].name, plot.rect.top, plot.rect.left, plot.rect.bottom, plot.rect.right]
                for plot in self.plots
            ],
            "notes": list(self.notes),
        }

    def card(self, recipe: Recipe, said: Said) -> Card:
        """What the network will eat and say."""
        scene = self.labelled[0].scene
        raw, sizes = self.scale, {one.scene.resolution_m for one in self.labelled}
        scaling: dict[str, Any] = {"kind": "constant", "divide_by": float(1 / raw.factor[0])}
        if raw.shift.any() or len(set(raw.factor.tolist())) > 1:
            scaling = {"kind": "mean_std", "mean": raw.shift.tolist(), "std": (1 / raw.factor).tolist()}
        plain = tuple(range(1, len(scene.bands) + 1))
        names = ("red", "green", "blue") if scene.dtype == "uint8" and scene.bands == (1, 2, 3) else None
        return Card.of(
            {
                "name": said.name,
                "bands": [
                    {"name": names[at - 1] if names else f"band {band}", "index": band}
                    for at, band in zip(plain, scene.bands, strict=True)
                ],
                "dtype": scene.dtype,
                "scaling": scaling,
                "resolution": scene.resolution_m if len(sizes) == 1 else None,
                "classes": card_classes(self.classes),
                "layout": "NCHW",
                "says": "logits",
                "activation": "sigmoid" if len(self.classes) == 2 and "ce" not in recipe.parts(2) else "softmax",
                "window": recipe.window,
                "architecture": recipe.architecture,
                "licence": said.licence,
                "training_data": said.training_data,
            },
            "The card of what is trained",
        )


def prepare(asked: Asked, validation: Asked | None, recipe: Recipe, folder: Path, told: Told) -> Prepared:
    """Open and look at all data; `folder` is for copies. Raises SettingsError with what cannot be used, by name."""
    classes = classes_of(asked)
    recipe.parts(len(classes))
    names = [one.name for one in classes]
    labelled = open_all(asked, classes, folder / "images", lambda *at: told("opening", *at))
    surveys = survey_all(labelled, recipe.window, lambda *at: told("looking at", *at))
    notes = list(dict.fromkeys(note for one in labelled for note in one.truth.notes))
    notes += demand_classes(surveys, names, notes)
    sides = [one.scene.rect for one in labelled]
    held_by, held_surveys = list(labelled), surveys
    if validation:
        held_by = open_all(validation, classes, folder / "validation", lambda *at: told("opening", *at))
        _demand_apart(labelled, held_by)
        held_surveys = survey_all(held_by, recipe.window, lambda *at: told("looking at", *at))
        plots = [Plot(at, one.scene.rect) for at, one in enumerate(held_by)]
        windows = Windows(surveys, sides, [], recipe.window, recipe.seed)
    else:
        plots = held_out(surveys, sides, recipe.window, recipe.held_out, recipe.seed)
        windows = Windows(surveys, sides, plots, recipe.window, recipe.seed)
    held = _pixels(held_surveys, plots)
    if lacking := [name for name, count in zip(names, held, strict=True) if not count]:
        notes.append(f"Nothing that is held out is {' or '.join(lacking)}: no score says how well it is found.")
    scale = _scale(labelled, surveys, recipe)
    digest = digest_of([*labelled, *(held_by if validation else ())], asked, classes)
    return Prepared(labelled, held_by, windows, plots, scale, classes, held, digest, tuple(notes))


def _pixels(surveys: Sequence[Survey], plots: Sequence[Plot]) -> list[int]:
    """Labelled pixels of each class in plots, which begin and end with a cell, or with the image."""
    total = np.zeros(surveys[0].counts.shape[-1], np.int64)
    for plot in plots:
        cell, rect = surveys[plot.image].cell, plot.rect
        rows = slice(rect.top // cell, -(-rect.bottom // cell))
        cols = slice(rect.left // cell, -(-rect.right // cell))
        total += surveys[plot.image].counts[rows, cols].sum(axis=(0, 1), dtype=np.int64)
    return [int(count) for count in total]


def _scale(labelled: Sequence[Labelled], surveys: Sequence[Survey], recipe: Recipe) -> Scale:
    """Divided by 255 where pixels are bytes, else standardised, or as asked for."""
    mean, deviation = (np.asarray(each, np.float32) for each in brightness(surveys))
    divide = recipe.divide_by if recipe.divide_by is not None else 255.0 * (labelled[0].scene.dtype == "uint8")
    if not divide:
        return Scale(mean, np.reciprocal(deviation), np.ones_like(mean))
    factor = np.full(len(mean), 1 / divide, np.float32)
    return Scale(np.zeros_like(mean), factor, deviation * factor)


def _demand_apart(labelled: Sequence[Labelled], held: Sequence[Labelled]) -> None:
    """Raise SettingsError where an image to validate on is one of those that train."""
    known = {one.scene.fingerprint: one.name for one in labelled}
    for one in held:
        if one.scene.fingerprint in known:
            raise SettingsError(f"{one.name} is to be validated on, and trained on as {known[one.scene.fingerprint]}.")
    kinds = {(len(one.scene.bands), one.scene.dtype) for one in (labelled[0], *held)}
    if len(kinds) > 1:
        raise SettingsError("The images to validate on have other bands, or another type, than those to train on.")
