"""Masks against labels, scene by scene and over all: what is to be scored, how, and what came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.boundary import LARGEST
from models.compare import is_scene, scenes_of
from models.masks import MASK, Mask, open_mask
from models.meaning import Meaning, meaning_of
from models.scoring import Scored, Tally, score
from models.summary import of_scene, summary
from models.truth import Truth, open_truth, quick
from pipeline.errors import MaskmillError, SettingsError
from pipeline.raster.naming import scene_name
from pipeline.raster.reader import Reader


@dataclass(frozen=True, slots=True)
class How:
    """How labels are read and scored: see models.meaning, models.truth, models.masks and models.boundary."""

    mapped: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    align: bool = False
    tolerance: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= LARGEST:
            raise SettingsError(f"`--tolerance` cannot be {self.tolerance}: it is 0 to {LARGEST} pixels.")


@dataclass(frozen=True, slots=True)
class Trio:
    """A scene's name, its mask, and its labels: a raster, or polygons as `FILE:layer` says."""

    name: str
    mask: Path
    labels: str


@dataclass(slots=True)
class Evaluation:
    """All scenes that were scored, and why some were not."""

    how: How
    scenes: list[Scored] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> Tally:
        """What was counted over all scenes."""
        whole = Tally(*(getattr(self.scenes[0].tally, name) for name in ("classes", "layered", "matrices", "outlines")))
        whole.matrices, whole.outlines = whole.matrices.copy(), whole.outlines.copy()
        for one in self.scenes[1:]:
            whole.add(one.tally)
        return whole

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the scenes in the order of their mean IoU, the worst first."""
        said = [of_scene(one) for one in self.scenes]
        return {
            **summary(self.whole),
            "tolerance": self.how.tolerance,
            "scenes": sorted(said, key=lambda one: 2.0 if one["macro"]["iou"] is None else one["macro"]["iou"]),
            "problems": self.problems,
            "exit_code": 3 if self.problems else 0,
        }


Visit = Callable[[Mask, Truth, Meaning], None]


def evaluate(trios: Sequence[Trio], how: How, visit: Visit | None = None) -> Evaluation:
    """Score masks against their labels. `visit` is called for each that was scored.

    A scene that cannot be scored is a problem. Raises SettingsError where none can.
    """
    found = Evaluation(how)
    for trio in trios:
        try:
            found.scenes.append(_scored(trio, how, found.scenes, visit))
        except MaskmillError as error:
            found.problems.append(f"{trio.name} is not scored: {error.message}")
    if not found.scenes:
        raise SettingsError(" ".join(found.problems[:3]) or "There is nothing to score.")
    if not found.whole.scored.any():
        apart = ", ".join(f"{pixels:,} {name}" for name, pixels in found.whole.apart().items())
        raise SettingsError(f"No pixel has both a label and a class in the mask ({apart}): there is nothing to score.")
    return found


def _scored(trio: Trio, how: How, before: Sequence[Scored], visit: Visit | None) -> Scored:
    mask = open_mask(trio.mask, trio.name, how.classes)
    if before and _kind(mask) != (kind := _kind(before[0].tally)):
        raise SettingsError(f"It has the classes {_kind(mask)[0]}, and {before[0].name} has {kind[0]}.")
    meaning = meaning_of(mask.classes, how.mapped, how.ignored)
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder:
        truth = open_truth(trio.labels, mask, meaning, how.align, Path(folder, "labels"))
        with Reader(quick(mask.scene, Path(folder, "mask"))) as reader:
            scored = score(mask, truth, meaning, how.tolerance, reader)
        if visit:
            visit(mask, truth, meaning)
    return scored


def _kind(one: Mask | Tally) -> tuple[dict[int, str], bool]:
    return {each.value: each.name for each in one.classes}, one.layered


def is_masks(path: Path) -> bool:
    """Whether a path is a file, a scene's result, or a folder of them, and so no model."""
    if path.is_dir():
        return is_scene(path) or any(is_scene(one) for one in path.iterdir() if not one.name.startswith("."))
    return path.is_file() and path.suffix.lower() not in (".onnx", ".yaml", ".json")


def trios_of(masks: Path, labels: str) -> tuple[list[Trio], list[str]]:
    """Match masks with labels: a file is those of every mask, of a folder each mask has the file that is called as it.

    Returns them and what is missing, in sentences. Raises SettingsError where nothing matches.
    """
    paths = _paths(masks)
    if not Path(labels).is_dir():
        return [Trio(name, path, labels) for name, path in paths.items()], []
    named: dict[str, list[Path]] = {}
    for file in sorted(Path(labels).iterdir()):
        if file.is_file() and not file.name.startswith(".") and file.suffix.lower() not in (".xml", ".json", ".txt"):
            for name in {scene_name(str(file)), scene_name(f"{file}.tif")}:
                named.setdefault(name, []).append(file)
    problems = [_missing(name, named.get(name, []), labels) for name in paths if len(named.get(name, [])) != 1]
    trios = [Trio(name, path, str(named[name][0])) for name, path in paths.items() if len(named.get(name, [])) == 1]
    if not trios:
        raise SettingsError(" ".join(problems[:3]) or f"There is no mask in {masks}.")
    return trios, problems


def _paths(masks: Path) -> dict[str, Path]:
    """Masks by their scene: one that a run made is called as its folder."""
    if masks.is_dir():
        return {name: folder / MASK for name, folder in scenes_of(masks).items()}
    return {masks.resolve().parent.name if masks.name == MASK else scene_name(str(masks)): masks}


def _missing(name: str, files: Sequence[Path], labels: str) -> str:
    if files:
        return f"{name} is not scored: {' and '.join(file.name for file in files)} could both be its labels."
    return f"{name} is not scored: no file of {labels} is called so."
