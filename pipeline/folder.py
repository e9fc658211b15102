"""A scene's folder: where everything of one result lies, what a half-finished one looks like, and how it is replaced.

<out>/<scene>/            the result: mask.zarr, mask.tif, quicklook.png, report.json, ledger/
<out>/<scene>/.stage/     what is being made; gone when the scene is published
<out>/.<scene>.new/       with --overwrite: a whole result being made beside the old one
<out>/.<scene>.old/       the old one, for the instant in which they change places
<out>/.golden-<random>/   results of a golden scene, while it is proved
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.document import MISSHAPEN
from pipeline.errors import IdentityError, SettingsError
from pipeline.night import Night
from pipeline.plan import Choices, Plan
from pipeline.raster.address import kept
from pipeline.raster.naming import demand_name
from pipeline.settings import Job, SceneEntry
from pipeline.store.objects import put_whole, sentences

STAGE, LEDGER, ZARR = ".stage", "ledger", "mask.zarr"
GOLDEN = ".golden-"
FORMAT = 1  # of plan.json


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder in which a scene's result is made: beside the old one where `beside` is set.

    Raises SceneError for a name that would lead out of `out`.
    """

    out: Path
    name: str
    beside: bool = False

    def __post_init__(self) -> None:
        demand_name(self.name)

    @property
    def final(self) -> Path:
        """Where users find the result."""
        return self.out / self.name

    @property
    def path(self) -> Path:
        """Where this result is made."""
        return self.out / f".{self.name}.new" if self.beside else self.final

    @property
    def ledger(self) -> Path:
        """The journal's folder; the plan and the lease lie in it too."""
        return self.path / LEDGER

    @property
    def stage(self) -> Path:
        """What is not published yet."""
        return self.path / STAGE

    @property
    def building(self) -> Path:
        """The Zarr hierarchy that workers write into."""
        return self.stage / ZARR

    @property
    def products(self) -> Path:
        """The finished files beside the Zarr, until they are published."""
        return self.stage / "products"

    @property
    def published(self) -> Path:
        """The Zarr hierarchy that users read."""
        return self.path / ZARR

    @property
    def store(self) -> Path:
        """The hierarchy that holds the blocks that the ledger names."""
        return self.building if self.building.exists() or not self.published.exists() else self.published

    def choices(self) -> tuple[dict[str, Any], Choices] | None:
        """(identity, choices) of the result that lies here; None where none does.

        Raises IdentityError where the folder holds files that are no result of ours.
        """
        file = self.ledger / "plan.json"
        try:
            said = _of_this_format(file, json.loads(file.read_text(encoding="utf-8")))
            return said["identity"], Choices.from_dict(said["choices"])
        except FileNotFoundError:
            self._demand_ours()
            return None
        except NotADirectoryError:
            raise SettingsError(f"{self.path} is a file; --out must name a folder for results.") from None
        except OSError as error:
            raise SettingsError(f"{file} cannot be read ({error.strerror}): take another --out.") from None
        except MISSHAPEN as error:
            raise IdentityError(f"{file} is damaged ({error}); --overwrite builds the result anew beside it.") from None

    def asked(self) -> dict[str, Any]:
        """The job that made this result, as data. Raises SettingsError where there is no result, else as `choices`."""
        try:
            file = self.ledger / "plan.json"
            asked: dict[str, Any] = _of_this_format(file, json.loads(file.read_text(encoding="utf-8")))["asked"]
        except (OSError, *MISSHAPEN):
            raise SettingsError(f"{self.path} holds no result; name a scene's folder, such as out/scene.") from None
        return asked

    def _demand_ours(self) -> None:
        """What a run leaves before it has a plan is a ledger folder with a lease; anything else is somebody's."""
        if not self.path.exists():
            return
        if strange := sorted({entry.name for entry in self.path.iterdir()} - {LEDGER, STAGE}):
            raise IdentityError(
                f"{self.path} holds {strange[0]} and no ledger, so it is no result that can be gone on with. "
                "Take another --out, or --overwrite to replace it when the new result is complete."
            )

    def freeze(self, identity: dict[str, Any], choices: Choices, asked: dict[str, Any]) -> None:
        """Write down what every later run must obey, and what was asked for, so that it can be verified."""
        said = {"format": FORMAT, "identity": identity, "choices": choices.as_dict(), "asked": asked}
        put_whole(self.ledger / "plan.json", json.dumps(said, indent=1, sort_keys=True).encode())

    def reopen(self) -> None:
        """Give the workers a copy of a published hierarchy, made of links: readers keep the old one meanwhile."""
        copy = self.stage / f"{ZARR}.copy"
        with sentences(copy):
            shutil.rmtree(copy, ignore_errors=True)
            self.stage.mkdir(exist_ok=True)
            shutil.copytree(self.published, copy, copy_function=_link)
            copy.rename(self.building)

    def publish(self) -> None:
        """Move what is staged into place, the Zarr last, and clear the stage."""
        with sentences(self.path):
            for entry in sorted(self.products.iterdir()):
                entry.replace(self.path / entry.name)
            if self.published.exists():
                replaced = self.stage / f"{ZARR}.replaced"
                shutil.rmtree(replaced, ignore_errors=True)
                self.published.rename(replaced)
            self.building.rename(self.published)
            shutil.rmtree(self.stage)

    def clear_stage(self) -> None:
        """Remove what a kill left of the stage of a result that is published."""
        shutil.rmtree(self.stage, ignore_errors=True)

    def take_place(self) -> None:
        """Put a result that was made beside the old one in its place."""
        old = self.out / f".{self.name}.old"
        with sentences(self.final):
            shutil.rmtree(old, ignore_errors=True)
            if self.final.exists():
                self.final.rename(old)
            self.path.rename(self.final)
            shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove a result that was begun in vain."""
        shutil.rmtree(self.path, ignore_errors=True)


def asked_of(job: Job, plan: Plan) -> dict[str, Any]:
    """The job with this one scene, its paths absolute: what `verify` starts from."""
    absolute = {
        "scenes": [_kept_scene(job, plan)],
        "model": plan.network.path,
        "out": str(job.out.resolve()),
        "allow": [str(folder.resolve()) for folder in job.allow],
        "aoi": plan.area.asked() if plan.area else None,
    }
    # Whose workers did it is nobody's business later on, and what they were called with may be secret.
    # Which scenes there were besides, and when they count, is no matter of this one.
    return {
        **job.model_dump(mode="json", exclude={"cluster", "scenes", "settle", "mirror", "store", *Night.model_fields}),
        **absolute,
    }


def _kept_scene(job: Job, plan: Plan) -> dict[str, Any]:
    """The entry of `scenes` that names this one alone."""
    said = {"name": plan.scene.name, "uri": kept(plan.scene.uri)}
    entry = next((one for one in job.scenes if isinstance(one, SceneEntry) and one.name == plan.scene.name), None)
    if entry is None or entry.bands is None:
        return said
    bands = {name: one.model_copy(update={"file": kept(one.file)}) for name, one in entry.bands.items()}
    return {**said, "bands": {name: one.model_dump(mode="json") for name, one in bands.items()}}


def _of_this_format(file: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What a plan.json says. Raises IdentityError where another version wrote it in another way."""
    if said["format"] != FORMAT:
        raise IdentityError(
            f"{file} is of format {said['format']!r} and this version reads {FORMAT}: use the version that made it, "
            "or another --out; --overwrite builds the result anew beside it."
        )
    return said


def exchange_interrupted(out: Path, name: str) -> bool:
    """Whether a kill came between the renames that put a new result in an old one's place."""
    return (out / f".{name}.old").exists()


def finish_exchange(out: Path, name: str) -> None:
    """Finish an interrupted exchange, so that nobody finds an empty place."""
    final, new, old = out / name, out / f".{name}.new", out / f".{name}.old"
    if old.exists() and not final.exists():
        (new if new.exists() else old).rename(final)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it where the file system has no links. Shards are replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
