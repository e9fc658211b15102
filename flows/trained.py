"""From what `maskmill train` is asked to a trained network; how far it is goes to stderr."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows import screen
from models.training.course import Course, demand_folder
from models.training.labelled import Asked
from models.training.prepared import Said, prepare
from models.training.recipe import Recipe
from models.training.weights import read_weights


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained, on what, and where it is kept."""

    recipe: Recipe
    data: Asked
    validation: Asked | None
    said: Said
    weights: Path | None
    out: Path


def trained(order: Order, overwrite: bool) -> dict[str, Any]:
    """Train, or go on; returns what metrics.json holds.

    Raises an InputError for what cannot be trained, before anything is written.
    """
    recipe, weights = order.recipe, None
    if order.weights:
        weights, digest = read_weights(order.weights)
        recipe = replace(recipe, weights=digest)
    demand_folder(order.out, overwrite=False)
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder, _watching(recipe.epochs) as watching:
        data = prepare(order.data, order.validation, recipe, Path(folder), watching.stage)
        course = Course(recipe, data, data.card(recipe, order.said), order.out)
        if weights is not None and (overwrite or not course.begun):
            left = course.begin_with(weights)
            if left:
                more = "…" if len(left) > 4 else "."
                watching.say(f"Not in {order.weights} is what begins at random: {', '.join(left[:4])}{more}")
        for note in data.notes:
            watching.say(note)
        with course.held():
            demand_folder(order.out, overwrite)
            course.resume()
            if course.story.done:
                watching.say(f"{course.story.done} epochs are done already.")
            course.run(watching)
    return course.metrics()


class _Lines:
    """Progress as plain lines: one for each epoch."""

    def stage(self, what: str, done: int, of: int) -> None:
        """Say that all images are opened, or looked at."""
        if done == of:
            screen.complain(f"{what} {of} images: done.")

    def say(self, sentence: str) -> None:
        """Say a note."""
        screen.complain(sentence)

    def step(self, epoch: int, of: int, done: int, loss: float) -> None:
        """Steps are not told."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Say what an epoch came to."""
        screen.complain(_told(line))


class _Bar(_Lines):
    """Progress on a terminal: a bar of the epoch's steps with its loss, and a line for each epoch above it."""

    def __init__(self, progress: Any, epochs: int) -> None:  # noqa: ANN401  # rich is imported where it is shown
        self._progress, self._epochs = progress, epochs
        self._task = progress.add_task("opening images", total=None, said="")

    def stage(self, what: str, done: int, of: int) -> None:
        """Show how many images are opened, or looked at."""
        self._progress.update(self._task, description=f"{what} images", completed=done, total=of)

    def say(self, sentence: str) -> None:
        """Say a note above the bar."""
        self._progress.console.print(f"maskmill: {sentence}", markup=False, highlight=False)

    def step(self, epoch: int, of: int, done: int, loss: float) -> None:
        """Move the bar."""
        said = f"loss {loss:.4f}"
        self._progress.update(
            self._task, description=f"epoch {epoch} of {self._epochs}", completed=done, total=of, said=said
        )

    def epoch(self, line: dict[str, Any]) -> None:
        """Say what an epoch came to, above the bar."""
        self.say(_told(line))


@contextmanager
def _watching(epochs: int) -> Iterator[_Lines]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # noqa: PLC0415  # only a terminal needs it
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, epochs)


def _told(line: dict[str, Any]) -> str:
    each = ", ".join(f"{name} {value:.3f}" for name, value in line["iou"].items() if value is not None)
    losses = f"loss {line['loss']:.4f}, held out {line['validation_loss']:.4f}"
    return f"epoch {line['epoch']}: {losses}, IoU {each}"
