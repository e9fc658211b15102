"""Images with their labels, opened and found to fit each other, before anything is learnt of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.crops import IGNORED
from models.masks import Mask, classes_said
from models.meaning import Meaning, meaning_of
from models.pairs import Pair, is_pairs, pairs_between, pairs_of
from models.truth import Truth, open_truth, quick
from pipeline.errors import BlockError, MaskmillError, SettingsError
from pipeline.grid import Rect
from pipeline.network.legend import MaskClass, default_colour
from pipeline.raster.area import Form, find_area
from pipeline.raster.naming import scene_name
from pipeline.raster.polygons import format_of
from pipeline.raster.reader import Pixels, Reader, Valid
from pipeline.raster.source import Scene, open_scene
from pipeline.settings import FAILED

MOST_CLASSES = 32  # that are taken for classes where nobody names them
STRIP = 1 << 22  # pixels of labels that are looked through at once
SHOWN = 5  # problems in a message


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says of data: images, their labels, and what the labels mean, as `maskmill evaluate` takes it."""

    images: Path
    labels: str | None = None
    classes: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    bands: tuple[int, ...] | None = None
    align: bool = False


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image and what is true of its pixels. `truth` says codes as Meaning has them; `digest` is of both files."""

    name: str
    scene: Scene
    truth: Truth
    classes: int
    digest: str

    def read(self, rect: Rect) -> tuple[Pixels, Valid, NDArray[np.uint8]]:
        """(pixels (bands, rows, cols), valid (rows, cols), classes or IGNORED, uint8 (rows, cols)) of a rectangle.

        Beyond the image pixels are reflected and nothing is true. Files are opened for this call alone, so that any
        number of images and of threads is served. Raises BlockError where a file cannot be read.
        """
        inside = rect.intersect(self.scene.rect)
        truth = np.full(rect.shape, IGNORED, np.uint8)
        with Reader(self.scene) as reader, closing(self.truth.reopened()) as labels:
            pixels, valid = reader.read(rect)
            codes = labels.read(inside)
        truth[inside.slices(rect)] = np.where(codes < self.classes, codes, IGNORED)
        truth[~valid] = IGNORED
        return pixels, valid, truth


def open_all(
    asked: Asked, classes: Sequence[MaskClass], folder: Path, done: Callable[[int, int], None] | None = None
) -> list[Labelled]:
    """Open all images and their labels; copies of those that are slow to read by windows lie in `folder`.

    `done` is told how many of how many are open. Raises SettingsError with all that does not fit, by name.
    """
    pairs = _named(asked)
    if not 2 <= len(classes) < IGNORED:
        raise SettingsError(
            f"There are {len(classes)} classes to tell apart ({', '.join(one.name for one in classes[:SHOWN])}): name "
            f"2 to {IGNORED - 1} by --classes. What the labels declare to be no data is none."
        )
    meaning = meaning_of(classes, asked.mapped, asked.ignored)
    opened: list[Labelled] = []
    problems: list[str] = []
    for at, (pair, labels) in enumerate(pairs):
        try:
            opened.append(_opened(pair, labels, (classes, meaning), asked, folder / str(at)))
        except MaskmillError as error:
            problems.append(f"{pair.name}: {error.message}")
        if done:
            done(at + 1, len(pairs))
    demand_none(problems, len(pairs))
    _demand_alike(opened)
    return opened


def card_classes(opened: Sequence[MaskClass]) -> list[dict[str, object]]:
    """The classes as the card will have them: of the labels' own values, where a mask can hold these."""
    own = all(0 <= one.value < FAILED for one in opened)
    return [
        {"index": at, "value": one.value if own else at, "name": one.name, "colour": default_colour(at)}
        for at, one in enumerate(opened)
    ]


def classes_of(asked: Asked) -> tuple[MaskClass, ...]:
    """The classes that data have: as named, else the values that lie in the labels. Raises SettingsError."""
    return classes_said(asked.classes) or _classes_of(_named(asked), asked)


def digest_of(opened: Sequence[Labelled], asked: Asked, classes: Sequence[MaskClass]) -> str:
    """What a resumed training knows the data again by: names, digests and bands, and what the labels mean."""
    told = [f"{one.name} {one.digest} {one.scene.bands}" for one in opened]
    told += [f"{one.value} {one.name}" for one in classes]
    told += [repr((asked.mapped, asked.ignored, asked.align))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def demand_none(problems: Sequence[str], of: int) -> None:
    """Raise SettingsError with the first few problems, where there are any."""
    if problems:
        more = f" And {len(problems) - SHOWN} more." if len(problems) > SHOWN else ""
        raise SettingsError(f"{len(problems)} of {of} images cannot be trained on. {' '.join(problems[:SHOWN])}{more}")


def _named(asked: Asked) -> list[tuple[Pair, str]]:
    """Each image with its labels. Raises SettingsError."""
    images, labels = asked.images, asked.labels
    if not images.exists():
        raise SettingsError(f"There is no file or folder {images}.")
    if labels is None:
        if images.is_dir() and is_pairs(images):
            return [(pair, str(pair.truth)) for pair in pairs_of(images)]
        raise SettingsError(
            f"{images} has no folders images and masks: give a folder that has, or name the labels of these images by "
            "--labels: a raster, polygons, or a folder of rasters."
        )
    if images.is_dir() and Path(labels).is_dir():
        return [(pair, str(pair.truth)) for pair in pairs_between(images, Path(labels))]
    if Path(labels).is_dir():
        raise SettingsError(f"{images} is one image, and {labels} a folder: name the image's own labels.")
    files = [file for file in sorted(images.iterdir()) if file.is_file()] if images.is_dir() else [images]
    area = find_area(labels)
    if len(files) > 1 and area.form is not Form.VECTOR:
        raise SettingsError(f"{labels} cannot be the labels of {len(files)} images: give polygons, or a folder.")
    if not images.is_dir() and format_of(images):
        raise SettingsError(f"{images} holds polygons: give the image first, and polygons by --labels.")
    return [(Pair(scene_name(str(file)), file, Path(area.path)), labels) for file in files]


def _opened(pair: Pair, labels: str, said: tuple[Sequence[MaskClass], Meaning], asked: Asked, folder: Path) -> Labelled:
    classes, meaning = said
    scene = open_scene(str(pair.image.resolve()), asked.bands, scene_name(f"{pair.name.replace('/', '--')}.tif"))
    mask = Mask(pair.image.resolve(), scene, tuple(classes), False, {})
    truth = open_truth(labels, mask, meaning, asked.align, folder / "labels", "image")
    digest = f"{scene.fingerprint} {find_area(labels).digest}"
    return Labelled(pair.name, quick(scene, folder / "image"), truth, len(classes), digest)


def _demand_alike(opened: Sequence[Labelled]) -> None:
    """Raise SettingsError unless all images have as many bands, of one type."""
    kinds: dict[tuple[int, str], str] = {}
    for one in opened:
        kinds.setdefault((len(one.scene.bands), one.scene.dtype), one.name)
    if len(kinds) > 1:
        said = ", ".join(f"{name} has {bands} bands of {dtype}" for (bands, dtype), name in kinds.items())
        raise SettingsError(f"The images are not alike: {said}. Choose bands that all have by --bands.")


def _classes_of(pairs: Sequence[tuple[Pair, str]], asked: Asked) -> tuple[MaskClass, ...]:
    """The values that lie in the labels. Raises SettingsError where they are no classes."""
    ignored = {int(text) for entry in asked.ignored for text in entry.split(",") if text.strip().lstrip("+-").isdigit()}
    values: set[float] = set()
    for pair, labels in pairs:
        area = find_area(labels)
        if area.form is Form.VECTOR:
            return classes_said(("background", scene_name(str(pair.truth))))
        scene = open_scene(area.path, None, "labels")
        for part in _values(scene):
            values |= part - ignored
            if len(values) > MOST_CLASSES or any(value != int(value) or value < 0 for value in values):
                shown = ", ".join(f"{value:.6g}" for value in sorted(values)[:SHOWN])
                raise SettingsError(
                    f"The labels {labels} have values such as {shown}, which nobody named: say which are classes, as "
                    "in --classes 0=background,255=building, and leave others out by --ignore."
                )
    names = ("background", "foreground") if len(values) == 2 and min(values) == 0 else ()
    return tuple(
        MaskClass(
            index=at, value=int(value), name=names[at] if names else f"class {value:.0f}", colour=default_colour(at)
        )
        for at, value in enumerate(sorted(values))
    )


def _values(scene: Scene) -> Iterator[set[float]]:
    """The values of valid pixels, strip by strip. Raises SettingsError for labels that cannot be read."""
    rows = max(1, STRIP // scene.width)
    with Reader(scene) as reader:
        for top in range(0, scene.height, rows):
            try:
                pixels, valid = reader.read(Rect(top, 0, top + rows, scene.width).intersect(scene.rect))
            except BlockError as error:
                raise SettingsError(f"The labels {scene.shown} cannot be read: {error.message}") from None
            yield set(np.unique(pixels[0][valid]).tolist())
