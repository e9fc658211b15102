"""The command `maskmill show`: an image, its mask, and one over the other, in a file or on the screen."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for
# ruff: noqa: PLR0917  # no flag is given by position

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.ending import COMPLETE
from flows.options import Bands, Json, numbers_of


def show(
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="An image, or a result's folder, DIR/SCENE, alone.")],
    mask: Annotated[
        str | None, typer.Argument(metavar="MASK", help="A mask, a result's folder, or what --out named.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="TOP:BOTTOM,LEFT:RIGHT", help="Rows and columns to show, half-open.")
    ] = None,
    bounds: Annotated[
        str | None, typer.Option(metavar="LEFT,BOTTOM,RIGHT,TOP", help="The same in the image's coordinates.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Where to; else SCENE-shown.png here, and on the screen.")
    ] = None,
    size: Annotated[int, typer.Option(min=64, max=4096, help="Pixels of a picture's longer side.")] = 640,
    bands: Bands = None,
    as_json: Json = False,
) -> int:
    """Draw an image, its mask and both side by side: any window of it, with legend and scale bar."""
    from flows import screen
    from flows.show import Asked, drawn, on_the_screen

    numbers = tuple(numbers_of("--bands", bands)) if bands else None
    found = drawn(Asked(scene, mask, window, bounds, out, size, numbers))
    if as_json:
        screen.emit({**found, "exit_code": COMPLETE})
        return COMPLETE
    seen = out is None and sys.stdout.isatty() and on_the_screen(Path(found["picture"]))
    screen.say(f"{found['picture']}{' is on the screen.' if seen else ''}")
    return COMPLETE
