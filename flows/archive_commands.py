"""The commands for an archive of results: its catalogue, what can go, and two models side by side."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.ending import COMPLETE
from flows.options import Json


def catalogue(directory: Annotated[Path, typer.Argument(metavar="DIR")], as_json: Json = False) -> int:
    """Make the STAC catalogue of DIR and its index, scenes.parquet, anew from the ledgers."""
    from flows import screen
    from pipeline.catalog import update

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
    from pipeline.leftovers import clean as cleaned

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
