"""A picture of an image and its mask, as a command asks for it: which scene, which mask, which file, which screen."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SceneError, SettingsError
from pipeline.folder import Folder
from pipeline.quicklook import as_png
from pipeline.raster.address import absolute
from pipeline.raster.opening import Wanted
from pipeline.raster.source import Scene
from pipeline.settings import Job, SceneEntry
from pipeline.show import masks_at, show, window_at, window_of
from pipeline.store.objects import put_whole
from pipeline.survey import Survey

VIEWERS = ("open",) if sys.platform == "darwin" else ("xdg-open", "wslview")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was given; `mask` is None where `scene` is the folder of a result."""

    scene: str
    mask: str | None
    window: str | None
    bounds: str | None
    out: Path | None
    size: int
    bands: tuple[int, ...] | None


def drawn(asked: Asked) -> dict[str, Any]:
    """Draw it and write it; returns where it is and what it shows. Raises an InputError before anything is written."""
    if asked.window and asked.bounds:
        raise SettingsError("`--window` and `--bounds` both say which part to show: leave one out.")
    if asked.bands is not None and len(asked.bands) not in (1, 3):
        raise SettingsError(f"`--bands` names {len(asked.bands)} bands; a picture shows three, or one.")
    uri, wanted, name, allow = _image(asked)
    masks = masks_at(asked.mask or asked.scene, uri)
    with Survey() as survey:
        scene = survey.scene(uri, wanted, name, allow)
    view = scene.rect
    if asked.window:
        view = window_of(asked.window, scene)
    elif asked.bounds:
        view = window_at(_bounds(asked.bounds), scene)
    target = _target(asked, scene, masks.mask)
    picture = show(scene, masks, view, asked.size)
    put_whole(target, as_png(picture))
    rows, cols = [view.top, view.bottom], [view.left, view.right]
    return {"picture": str(target), "scene": scene.name, "rows": rows, "columns": cols}


def _image(asked: Asked) -> tuple[str, Wanted, str | None, tuple[str, ...]]:
    """(image, which bands of it, its name, folders that a VRT may name images in); of a result, as its ledger says."""
    wanted = Wanted((), asked.bands)
    place = Path(asked.mask or asked.scene)
    if not (place / "ledger" / "plan.json").is_file():
        if asked.mask is None:
            raise SettingsError(f"{asked.scene} is no folder of a result, which names its image: say SCENE and MASK.")
        return absolute(asked.scene), wanted, None, ()
    job = Job.model_validate(Folder(place.parent, place.name).asked())
    entry = next(one for one in job.scenes if isinstance(one, SceneEntry))
    if asked.bands is None:
        files = job.bands if isinstance(job.bands, dict) else None
        wanted = Wanted((), None, files=files, assets=entry.bands, grid=job.grid)
    allow = tuple(str(folder) for folder in job.allow)
    return entry.uri if asked.mask is None else absolute(asked.scene), wanted, entry.name, allow


def _bounds(text: str) -> list[float]:
    """Four numbers, the first two below the other two. Raises SettingsError."""
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise SettingsError(f"`--bounds` cannot be '{text}': say left,bottom,right,top in the image's coordinates.")
    if not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise SettingsError(f"`--bounds` cannot be '{text}': left must be below right, and bottom below top.")
    return numbers


def _target(asked: Asked, scene: Scene, mask: str) -> Path:
    """Where the picture goes. Raises SettingsError where that is no PNG, or one of the files that are shown."""
    target = asked.out or Path(f"{scene.name}-shown.png")
    if target.suffix.lower() != ".png":
        raise SettingsError(f"`--out` cannot be {target}: the picture is a PNG, so name it FILE.png.")
    if target.is_dir():
        raise SettingsError(f"`--out` cannot be {target}: that is a folder.")
    if target.exists() and any(Path(one).exists() and target.samefile(one) for one in (scene.uri, mask)):
        raise SceneError(f"`--out` cannot be {target}: that is what is shown.")
    return target


def on_the_screen(picture: Path) -> bool:
    """Have the system's viewer show a picture, where there are a screen and a viewer; say whether it does."""
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    viewer = next((found for name in VIEWERS if (found := shutil.which(name))), None)
    if viewer is None:
        return False
    # It may be the viewer itself, and stay: it is not waited for, and not ended with this process.
    nothing = subprocess.DEVNULL
    subprocess.Popen(  # noqa: S603  # a file of ours
        [viewer, str(picture.resolve())], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )
    return True
