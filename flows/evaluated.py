"""From what `maskmill evaluate` is asked to what is scored: masks that are there, or those that a model makes first."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flows import screen
from flows.bucketed import demand_folder
from flows.options import FLAGS, job_of, warm_child
from models.calibration import Calibration, Maximised
from models.evaluation import Evaluation, How, Trio, evaluate, is_masks, trios_of
from models.masks import MASK
from models.pairs import Pair, pairs_of
from pipeline.errors import SettingsError
from pipeline.raster.naming import scene_name
from pipeline.settings import Job, SceneEntry


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was asked. `flags` are those of a run, None where they were not given."""

    what: str
    against: str | None
    images: str | None
    labels: str | None
    how: How
    calibrate: str | None
    job: Path | None
    flags: Mapping[str, Any]


def evaluated(asked: Asked) -> tuple[Evaluation, dict[str, Any]]:
    """Score what was asked for, and its plain data for JSON.

    Raises an InputError where nothing can be scored; a model's masks are made in `out`, or in a folder that is removed.
    """
    calibration = _calibration(asked.calibrate)
    with ExitStack() as stack:
        if is_masks(Path(asked.what)):
            trios, problems = _there(asked)
        else:
            out = asked.flags["out"] or stack.enter_context(tempfile.TemporaryDirectory(prefix="maskmill-"))
            demand_folder(Path(out), "evaluate")
            trios, problems = _made(asked, out, calibration is not None)
        found = evaluate(trios, asked.how, calibration.take_in if calibration else None)
    found.problems = [*problems, *found.problems]
    said = found.as_dict()
    return found, said | ({"calibration": calibration.as_dict()} if calibration else {})


def _calibration(maximise: str | None) -> Calibration | None:
    if maximise not in (None, "f1", "iou"):
        raise SettingsError(f"`--calibrate` cannot be '{maximise}': it is f1 or iou.")
    return Calibration(cast("Maximised", maximise)) if maximise else None


def _there(asked: Asked) -> tuple[list[Trio], list[str]]:
    """Masks that are there, with their labels."""
    if asked.images or any(value is not None for value in (*asked.flags.values(), asked.job)):
        raise SettingsError(f"{asked.what} is a mask, so nothing is run: leave the flags of a run out, and --images.")
    if (asked.against is None) == (asked.labels is None):
        raise SettingsError("Name the labels, once: maskmill evaluate MASK LABELS.")
    return trios_of(Path(asked.what), asked.against or asked.labels or "")


def _made(asked: Asked, out: str, probabilities: bool) -> tuple[list[Trio], list[str]]:
    """Masks that a model makes of the images, with their labels; what went wrong is told."""
    if (asked.against is None) == (asked.images is None) or (asked.images is None) != (asked.labels is None):
        raise SettingsError("Name either DATA, or --images and their --labels: maskmill evaluate MODEL DATA.")
    pairs = _named(pairs_of(Path(asked.against))) if asked.against else {}
    given = {"model": asked.what, "scenes": [asked.images or "images"], **asked.flags, "out": out}
    job = job_of(dict.fromkeys(FLAGS) | given, asked.job)
    if pairs:
        scenes = tuple(SceneEntry(name=name, uri=str(pair.image)) for name, pair in pairs.items())
        job = job.model_copy(update={"scenes": scenes})
    if probabilities:
        job = job.model_copy(update={"products": job.products | {"probabilities"}})
    problems = _run(job)
    if asked.labels:
        trios, missing = trios_of(Path(out), asked.labels)
        return trios, [*problems, *missing]
    masks = {name: Path(out, name, MASK) for name in pairs}
    return [Trio(name, path, str(pairs[name].truth)) for name, path in masks.items() if path.is_file()], problems


def _run(job: Job) -> list[str]:
    """Do a job as `maskmill run` does; what went wrong, in sentences."""
    child = warm_child()
    from flows.tasks import run_job  # noqa: PLC0415  # the child makes its imports while this one makes its own

    screen.hear_warnings()
    with screen.watched() as moved:
        return list(run_job(job, moved, child).problems)


def _named(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """Pairs by the names that their scenes can have. Raises SettingsError where two would have one."""
    named: dict[str, Pair] = {}
    for pair in pairs:
        name = scene_name(f"{pair.name.replace('/', '--')}.tif")
        if name in named:
            raise SettingsError(f"{pair.image} and {named[name].image} would both be called {name}: rename one.")
        named[name] = pair
    return named
