"""The command `maskmill export`: a checkpoint becomes the one ONNX file that `maskmill run` takes."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.ending import COMPLETE
from flows.options import Json

On = Annotated[Path | None, typer.Option("--on", metavar="IMAGE", help="Also compare with torch on this image.")]
Side = Annotated[
    int | None, typer.Option(metavar="PX", min=1, help="Rows and columns of the file, as QGIS needs; default: any.")
]


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What `maskmill train` keeps.")],
    out: Annotated[Path, typer.Option(metavar="MODEL.onnx", help="The file to write.")],
    on: On = None,
    side: Side = None,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Weights in float16: half the size, if it says the same.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Make one ONNX file of a trained network and its card, and prove that it says what torch says."""
    from flows import screen
    from models.extra import demand_training

    demand_training()
    from models.ship import ship

    found = ship(checkpoint, out, on, side, fp16)
    if as_json:
        screen.emit(found.as_dict() | {"exit_code": COMPLETE})
        return COMPLETE
    facts = found.as_dict()
    screen.show_rows("The same as torch says?", [each.as_dict() for each in found.parity])
    screen.show_facts(str(out), {key: facts[key] for key in _SHOWN if facts[key] is not None})
    for note in found.notes:
        screen.say(note)
    return COMPLETE


_SHOWN = ("bytes", "digest", "opset", "input", "precision", "stride", "reach", "unbounded_because")
