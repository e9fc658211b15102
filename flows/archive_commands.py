"""The commands for an archive of results: its catalogue, what can go, and two models side by side."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.ending import COMPLETE, HOLES
from flows.options import Json


def catalogue(directory: Annotated[Path, typer.Argument(metavar="DIR")], as_json: Json = False) -> int:
    """Make the STAC catalogue of DIR and its index, scenes.parquet, anew from the ledgers."""
    from flows import screen
    from flows.bucketed import demand_folder
    from pipeline.catalog import update

    demand_folder(directory, "catalogue")
    made = update(directory, None).as_dict()
    if as_json:
        screen.emit({**made, "exit_code": COMPLETE})
    else:
        screen.show_facts(f"Catalogue of {directory}", made)
    return COMPLETE


def clean(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Remove what interrupted runs have left in DIR; results, and what a run would go on with, stay."""
    from flows import screen
    from flows.bucketed import demand_folder
    from pipeline.leftovers import clean as cleaned

    demand_folder(directory, "clean")
    found = cleaned(directory, dry_run)
    for sentence in found.held:
        screen.complain(sentence)
    if as_json:
        screen.emit({**found.as_dict(), "dry_run": dry_run, "exit_code": COMPLETE})
    else:
        screen.show_rows("Would be removed" if dry_run else "Removed", [one.as_dict() for one in found.removed])
        if found.foreign:
            screen.show_rows("Not ours, left alone", [{"path": path} for path in found.foreign])
    return COMPLETE


def mosaic(
    target: Annotated[Path, typer.Argument(metavar="FILE.vrt")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, patterns in quotes, folders.")],
    last: Annotated[bool, typer.Option("--last-on-top", help="Where they overlap, the last counts.")] = False,
    as_json: Json = False,
) -> int:
    """Write a VRT that shows images or masks on one grid as one image; where they overlap, the first counts."""
    from flows import screen
    from flows.sources.listed import LeftOut
    from flows.sources.mosaic import images_of, put_mosaic

    chosen = images_of(images, left := LeftOut())
    written = put_mosaic(chosen, target, last)
    for problem in left.problems:
        screen.complain(problem)
    code = HOLES if left.problems else COMPLETE
    if as_json:
        screen.emit({"mosaic": str(target), "images": len(chosen), "written": written, "exit_code": code})
    else:
        screen.say(f"{target} shows {len(chosen)} images{'' if written else ', as before'}.")
    return code


def compare(
    a: Annotated[Path, typer.Argument(metavar="A")],
    b: Annotated[Path, typer.Argument(metavar="B")],
    page: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="Also draw it, in one file.")] = None,
    as_json: Json = False,
) -> int:
    """Hold the masks of two folders against each other, scene by scene: agreement, areas, where they differ most."""
    from flows import screen
    from flows.bucketed import demand_folder
    from models.compare import compare as compared

    for folder in (a, b):
        demand_folder(folder, "compare")
    found = compared(a, b)
    if page:
        from models.compare_page import write_page

        write_page(found, a, b, page)
    said = found.as_dict()
    for problem in said["problems"]:
        screen.complain(problem)
    if as_json:
        screen.emit(said)
        return int(said["exit_code"])
    for one in said["scenes"]:
        for note in one["notes"]:
            screen.say(f"{one['scene']}: {note}")
        agreement = "no pixel is a class in both" if one["agreement"] is None else f"{one['agreement']:.4%} agree"
        screen.show_rows(f"{one['scene']}: {agreement}", one["classes"])
        screen.show_rows("Where they differ most", one["differ_most"])
    for side in ("a", "b"):
        for name in said[f"only_in_{side}"]:
            screen.say(f"{name} is in {side.upper()} alone.")
    return int(said["exit_code"])
