"""The commands for an archive of results: its catalogue."""
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
