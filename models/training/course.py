"""A training from its data to a checkpoint: OUT/checkpoint.safetensors (the best epoch), state.safetensors (the last
one, to go on from), metrics.json and curves.png. Each is written whole; a kill leaves the old or the new one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.checkpoint import Checkpoint, opened, put_sealed
from models.evaluate import iou
from models.training.batches import Batches
from models.training.curves import curves
from models.training.learner import Learner, Seen
from models.training.prepared import Prepared
from models.training.recipe import Recipe
from pipeline.errors import IdentityError, SettingsError
from pipeline.network.card import Card
from pipeline.store.lease import Lease
from pipeline.store.objects import put_whole, remove

CHECKPOINT, STATE, METRICS, CURVES = "checkpoint.safetensors", "state.safetensors", "metrics.json", "curves.png"


class Watching(Protocol):
    """Who is told how training goes."""

    def step(self, epoch: int, of: int, done: int, loss: float) -> None:
        """Say that so many steps of an epoch are done."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Say what an epoch came to, as metrics.json has it."""


@dataclass(slots=True)
class Story:
    """What happened so far: a line for each epoch, and the best one."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0

    @property
    def done(self) -> int:
        """Epochs that are done."""
        return len(self.lines)

    def score(self, epoch: int) -> float:
        """The mean IoU that an epoch reached."""
        return float(self.lines[epoch - 1]["mean_iou"]) if epoch else -1.0

    def told(self, line: dict[str, Any]) -> bool:
        """Take an epoch's line; returns whether it is the best so far."""
        self.lines.append(line)
        if self.score(self.done) > self.score(self.best):
            self.best = self.done
            return True
        return False

    def over(self, recipe: Recipe) -> bool:
        """Whether training is at its end."""
        waited = self.done - self.best
        return self.done >= recipe.epochs or bool(recipe.patience and self.best and waited >= recipe.patience)


class Course:
    """One training in one folder. It goes on from where an earlier one was stopped, exactly."""

    def __init__(self, recipe: Recipe, data: Prepared, card: Card, out: Path) -> None:
        self._recipe, self._data, self._card, self._out = recipe, data, card, out
        self.story = Story()
        self._learner = Learner(recipe, card, data.class_weights(recipe))

    def begin_with(self, weights: dict[str, Any]) -> list[str]:
        """See Learner.begin_with."""
        return self._learner.begin_with(weights)

    @property
    def begun(self) -> bool:
        """Whether the folder has a state to go on from."""
        return (self._out / STATE).exists()

    def held(self) -> Lease:
        """Keep other trainings out of the folder. Raises LeaseError where one is at work in it."""
        return Lease.acquire(self._out / ".lease", f"a training in {self._out}")

    def resume(self) -> None:
        """Go on from the folder's state, if it has one. Raises IdentityError where it is another training's."""
        if not self.begun:
            return
        tensors, said = opened(self._out / STATE, "state")
        self._recipe.demand_same(said["recipe"])
        if said["data"] != self._data.digest:
            raise IdentityError(
                f"The training in {self._out} began with other data (names, bytes, bands or what labels mean): give "
                "another --out, or begin anew with --overwrite."
            )
        self._learner.restore(tensors, said)
        self.story = Story(list(said["lines"]), int(said["best"]))

    def run(self, watching: Watching) -> None:
        """Train to the end; after each epoch all is on disk."""
        batches = Batches(self._data.labelled, self._data.scale, self._recipe.batch)
        held = Batches(self._data.validation, self._data.scale, self._recipe.batch)
        while not self.story.over(self._recipe):
            epoch = self.story.done + 1
            steps = self._data.steps(self._recipe)
            made = batches.to_train_on(self._data.windows, epoch, self._recipe.seed, self._recipe.augment)
            loss = self._learner.learn(made, epoch, partial(watching.step, epoch, steps))
            seen = self._learner.look(held.to_validate(self._data.plots, self._recipe.window))
            line = self._line(epoch, loss, seen)
            if self.story.told(line):
                self._checkpoint(line).save(self._out / CHECKPOINT)
            self._keep()
            watching.epoch(line)

    def metrics(self) -> dict[str, Any]:
        """Plain data: what it was, what each epoch came to, and which was the best."""
        return {
            "recipe": self._recipe.as_dict(),
            "card": self._card.model_dump(mode="json"),
            "data": self._data.as_dict(),
            "epochs": self.story.lines,
            "best_epoch": self.story.best,
            "best": self.story.lines[self.story.best - 1] if self.story.best else None,
        }

    def _line(self, epoch: int, loss: float, seen: Seen) -> dict[str, Any]:
        each = iou(seen.matrix)
        names = [one.name for one in self._card.classes]
        return {
            "epoch": epoch,
            "loss": loss,
            "validation_loss": seen.loss,
            "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(names, each, strict=True)},
            "mean_iou": float(np.nanmean(each)) if not np.isnan(each).all() else 0.0,
        }

    def _checkpoint(self, line: dict[str, Any]) -> Checkpoint:
        scores = {f"IoU {name}, held out": round(value, 4) for name, value in line["iou"].items() if value is not None}
        return Checkpoint(self._recipe.architecture, self._card, self._learner.weights(), int(line["epoch"]), scores)

    def _keep(self) -> None:
        """Put the state and what people look at; the state last, which says that an epoch is done."""
        put_whole(self._out / METRICS, json.dumps(self.metrics(), indent=1, ensure_ascii=False).encode())
        put_whole(self._out / CURVES, curves(self.story.lines))
        tensors, said = self._learner.state()
        said |= {"recipe": self._recipe.as_dict(), "data": self._data.digest}
        put_sealed(self._out / STATE, "state", tensors, said | {"lines": self.story.lines, "best": self.story.best})


def demand_folder(out: Path, overwrite: bool) -> None:
    """Raise SettingsError where a folder holds other things than a training; removes an old one if asked to."""
    if out.is_file():
        raise SettingsError(f"{out} is a file: give a folder by --out.")
    there = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else set()
    if there and not (there & {STATE, CHECKPOINT}):
        raise SettingsError(
            f"{out} holds other things ({', '.join(sorted(there)[:3])}): give an empty folder by --out."
        )
    if overwrite:
        for name in (STATE, CHECKPOINT, METRICS, CURVES):
            remove(out / name)
