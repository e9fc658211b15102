"""Files of others are opened in a process of their own first: a crash in a codec, a bomb, a loop is a sentence there.

One such process serves a whole run: it is started for the first file, and anew after one that it dies of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.aoi import interest_of
from pipeline.child import Child, Ended, Result, limit
from pipeline.errors import BlockError, InputError, ModelError, SceneError, SettingsError
from pipeline.grid import Rect
from pipeline.network.card import Card
from pipeline.network.digest import model_digest
from pipeline.network.field import Field, field_of
from pipeline.network.model_file import load_model
from pipeline.network.understand import Gathered, gather
from pipeline.plan import Network
from pipeline.raster.address import is_remote, shown
from pipeline.raster.opening import Wanted, open_image
from pipeline.raster.reader import Reader
from pipeline.raster.source import Scene
from pipeline.raster.stage import stage
from pipeline.settings import TISSUE, Job, SceneEntry
from pipeline.settle import before_the_first_block, open_network

SCENE_SECONDS, REMOTE_SECONDS, MODEL_SECONDS = 120, 300, 600
SCENE_BYTES, MODEL_BYTES = 3 << 30, 16 << 30  # of address space, beyond what the process has at its start
SEQUENTIAL = 1 << 25  # pixels: larger PNGs and JPEGs, read from their beginning, are not read to their end here
_WHOLE = frozenset({"PNG", "JPEG", "WEBP", "BMP"})


class Survey:
    """Opens scenes and models in a child process with limits of time and memory."""

    def __init__(self, child: Child | None = None) -> None:
        self.child = child or Child()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.child.close()

    def scene(self, uri: str, wanted: Wanted, name: str | None, allow: Sequence[str] = ()) -> Scene:
        """Open an image as `open_image` does, and decode some of its tiles.

        Raises SceneError as that does, and where the process dies, or needs more time or memory than the limits.
        """
        places = [uri, *(asset.file for asset in (wanted.assets or {}).values())]
        seconds = REMOTE_SECONDS if any(is_remote(one) or "://" in one for one in places) else SCENE_SECONDS
        asked = uri, wanted, name, allow, seconds
        return self._asked(_Trial(f"the image {shown(uri)}", SceneError, SCENE_BYTES, seconds), _surveyed, *asked)

    def area(self, job: Job, scene: Scene) -> None:
        """Lay the file of a job's area of interest, if it names one, over a scene, and forget it.

        Raises what `interest_of` raises, and SettingsError where the process dies of the file.
        """
        if job.aoi is None or job.aoi == TISSUE:
            return
        file = job.aoi if isinstance(job.aoi, str) else job.aoi.file
        self._asked(_Trial(f"the area {file}", SettingsError, SCENE_BYTES, SCENE_SECONDS), _met, job, scene)

    def network(self, path: Path, job: Job) -> Network:
        """Open a model as `open_network` does. Raises what that raises, and ModelError where the process dies of it."""
        return self._asked(_of_model(path), _networked, path, job)

    def examined(self, path: Path, said: Mapping[str, Any]) -> Examined:
        """Gather what is known of a model, whether it is enough for a card or not. Raises what `network` raises."""
        return self._asked(_of_model(path), _examined, path, said)

    def _asked(self, trial: _Trial, work: Callable[..., Result], *args: object) -> Result:
        """Have it done in the child; what the child dies of is the trial's error, in a sentence."""
        try:
            return self.child.ask(work, *args, seconds=trial.seconds)
        except Ended as end:
            why = _memory(trial.bytes) if end.by_system else "it is damaged, or made to do harm"
            raise trial.error(f"The process that tried to read {trial.what} {end.how}: {why}.") from None
        except MemoryError:
            said = trial.what[0].upper() + trial.what[1:]
            raise trial.error(f"{said} cannot be read: {_memory(trial.bytes)}.") from None


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is tried, which error it is where that fails, and the bytes and seconds that it may take."""

    what: str
    error: type[InputError]
    bytes: int
    seconds: int


def _of_model(path: Path) -> _Trial:
    return _Trial(f"the model {path}", ModelError, MODEL_BYTES, MODEL_SECONDS)


def wanted_of(card: Card, job: Job, entry: SceneEntry | None = None) -> Wanted:
    """Which bands of a scene a network is to eat, as card and job say, and the scene itself."""
    numbers = card.file_bands if any(band.index for band in card.bands) else None
    said = job.bands
    return Wanted(
        names=tuple(band.name for band in card.bands),
        numbers=said if isinstance(said, tuple) else None,
        indices=numbers,
        files=said if isinstance(said, dict) else None,
        assets=entry.bands if entry else None,
        grid=job.grid,
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of a model without a scene: what was gathered, its digest, and its field or why that is unknown."""

    found: Gathered
    digest: str
    field: Field | str


def _memory(limit: int) -> str:
    return f"that takes more than the {limit >> 30} GiB of memory that it may have, or than there are"


def _networked(path: Path, job: Job) -> Network:
    limit(MODEL_BYTES, MODEL_SECONDS)
    return open_network(path, job)


def _examined(path: Path, said: Mapping[str, Any]) -> Examined:
    limit(MODEL_BYTES, MODEL_SECONDS)
    model = load_model(path)
    found = gather(model, path, said)
    layout = found.entries.get("layout")
    field: Field | str = "the layout is missing"
    if layout in ("NCHW", "NHWC"):
        try:
            field = field_of(model, found.graph.output, layout)
        except ModelError as error:
            field = error.message
    return Examined(found, model_digest(model), field)


def _met(job: Job, scene: Scene) -> None:
    limit(SCENE_BYTES, SCENE_SECONDS)
    with before_the_first_block():
        interest_of(job, scene)


def staged(scene: Scene, folder: Path) -> Scene:
    """Stage a scene as `stage` does, in a process of its own: every tile of a stranger's file is decoded for it.

    Raises what that raises, and SceneError where the process dies.
    """
    try:
        with Child() as child:
            return child.ask(stage, scene, folder)
    except Ended as end:
        for partial in folder.glob("*.partial"):
            partial.unlink()
        why = "most likely for its memory" if end.by_system else "it is damaged, or made to do harm"
        raise SceneError(f"The process that staged the image {scene.shown} {end.how}: {why}.") from None


def _surveyed(uri: str, wanted: Wanted, name: str | None, allow: Sequence[str], seconds: int) -> Scene:
    limit(SCENE_BYTES, seconds)
    scene = open_image(uri, wanted, name, allow)
    with Reader(scene) as reader:
        for rect in _sample(scene):
            with suppress(BlockError):  # what cannot be read is a hole, later; here it is only not to be deadly
                _demand_room(scene, reader, rect)
    return scene


def _demand_room(scene: Scene, reader: Reader, rect: Rect) -> None:
    try:
        reader.read(rect)
    except BlockError as error:
        if "memory" in error.message.lower() or "alloc" in error.message.lower():
            raise SceneError(f"The image {scene.shown} needs too much memory to decode: {error.message}") from None
        raise


def _sample(scene: Scene) -> Iterator[Rect]:
    """The first tile, the one in the middle and the last; of a large image in one piece the first rows alone."""
    rows, cols = (min(side, 512) for side in scene.tile)
    whole = scene.driver in _WHOLE and scene.rect.area > SEQUENTIAL
    for half in (0,) if whole else (0, 1, 2):
        top = (scene.height - 1) * half // 2 // rows * rows
        left = (scene.width - 1) * half // 2 // cols * cols
        yield Rect(top, left, top + rows, left + cols).intersect(scene.rect)
