"""The commands `maskmill models`: what ships, what a model needs and says, and whether one runs."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for

from __future__ import annotations

from typing import Annotated

import typer

from flows.ending import COMPLETE
from flows.options import FLAGS, Aoi, Bands, Device, JobFile, Json, job_of

models = typer.Typer(no_args_is_help=True, help="The models that ship, and what a model needs and says.")


@models.command("list")
def list_models(as_json: Json = False) -> int:
    """List the models that ship."""
    from flows import screen, zoo

    found = zoo.listed()
    if as_json:
        screen.emit({"models": found, "exit_code": COMPLETE})
    else:
        screen.show_rows("Models", found)
    return COMPLETE


@models.command("show")
def show_model(model: Annotated[str, typer.Argument(metavar="MODEL")], as_json: Json = False) -> int:
    """Show a model's card, its stride, reach and margin, and its digest."""
    from flows import screen, zoo

    found = zoo.shown(model)
    if as_json:
        screen.emit({**found, "exit_code": COMPLETE})
    else:
        screen.show_facts(model, found)
    return COMPLETE


@models.command("check")
def check_model(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    scene: Annotated[str | None, typer.Argument(metavar="SCENE", help="Run on its middle; default: noise.")] = None,
    job: JobFile = None,
    device: Device = None,
    bands: Bands = None,
    aoi: Aoi = None,
    as_json: Json = False,
) -> int:
    """Say what is understood of a model, from where, what is missing and what it costs; and run one window."""
    from flows import screen
    from flows.check import as_lines, checked

    given = {"model": model, "scenes": [scene or "noise"], "out": ".", "device": device, "bands": bands, "aoi": aoi}
    found = checked(job_of(dict.fromkeys(FLAGS) | given, job), scene is not None)
    if found.problem:
        screen.complain(found.problem)
    if as_json:
        screen.emit(found.as_dict())
    else:
        screen.say(found.file)
        screen.show_rows("Card", as_lines(found.card))
        for part in ("field", "output", "margin", "ran"):
            if facts := {key: value for key, value in getattr(found, part).items() if value is not None}:
                screen.show_facts(part.capitalize(), facts)
        for note in found.notes:
            screen.say(note)
    return found.exit_code
