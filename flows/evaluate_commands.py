"""The command `maskmill evaluate`: a model on labelled images, or masks that are there already, against the truth."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for
# ruff: noqa: PLR0917  # no flag is given by position

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import Bands, Device, JobFile, Json, Margin, Memory, Out, Precision, Window, Workers

if TYPE_CHECKING:
    from models.evaluation import Evaluation

What = Annotated[str, typer.Argument(metavar="MODEL|MASK", help="A model; or a mask, a result or a folder of results.")]
Against = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA|LABELS", help="Folders images/ and masks/; or a raster, polygons or a folder of rasters."
    ),
]
Images = Annotated[str | None, typer.Option(metavar="SCENE", help="A model: images, instead of DATA.")]
Labels = Annotated[str | None, typer.Option(metavar="LABELS", help="… and their labels: a raster, polygons, a folder.")]
Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="255=building", help="What labels mean; polygons: inside=building,outside=ground."),
]
Ignored = Annotated[list[str] | None, typer.Option("--ignore", metavar="255", help="Values of labels to leave out.")]
Classes = Annotated[
    list[str] | None, typer.Option("--classes", metavar="0=ground,1=building", help="Of a mask that does not say them.")
]
Align = Annotated[
    bool,
    typer.Option(
        "--align",
        help="Labels of another grid: the one under each pixel's centre counts; pixels beyond them are not scored.",
    ),
]
Tolerance = Annotated[int, typer.Option(metavar="PX", help="How far outlines may be off, for boundary F1.")]
Calibrate = Annotated[
    str | None, typer.Option(metavar="f1|iou", help="Also say which threshold would be best; not on test data.")
]
Report = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write it down.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw it.")]


def evaluate(
    what: What,
    against: Against = None,
    images: Images = None,
    labels: Labels = None,
    mapped: Mapped = None,
    ignored: Ignored = None,
    classes: Classes = None,
    align: Align = False,
    tolerance: Tolerance = 2,
    calibrate: Calibrate = None,
    report: Report = None,
    picture: Picture = None,
    out: Out = None,
    job: JobFile = None,
    device: Device = None,
    precision: Precision = None,
    margin: Margin = None,
    window: Window = None,
    workers: Workers = None,
    bands: Bands = None,
    memory: Memory = None,
    as_json: Json = False,
) -> int:
    """Score masks, or a model, against labels: IoU, Dice, precision, recall, kappa, boundary F1, by class and scene."""
    from flows.evaluated import Asked, evaluated
    from models.evaluation import How

    how = How(tuple(mapped or ()), tuple(ignored or ()), tuple(classes or ()), align, tolerance)
    flags = {"out": out, "device": device, "precision": precision, "margin": margin, "window": window}
    flags |= {"workers": workers, "bands": bands, "memory": memory}
    asked = Asked(what, against, images, labels, how, calibrate, job, flags)
    found, said = evaluated(asked)
    _put(found, said, report, picture)
    _show(said, as_json)
    return int(said["exit_code"])


def _put(found: Evaluation, said: dict[str, Any], report: Path | None, picture: Path | None) -> None:
    import json

    from pipeline.store.objects import put_whole

    if report:
        put_whole(report, json.dumps(said, indent=1, ensure_ascii=False).encode())
    if picture:
        from models.score_picture import draw

        draw(found, picture)


def _show(said: dict[str, Any], as_json: bool) -> None:
    from flows import screen

    for problem in said["problems"]:
        screen.complain(problem)
    for note in dict.fromkeys(note for one in said["scenes"] for note in one["notes"]):
        screen.complain(note)
    if as_json:
        screen.emit(said)
        return
    screen.show_rows("Classes", said["classes"])
    if len(said["scenes"]) > 1:
        screen.show_rows("Scenes, the worst first", [_line(one) for one in said["scenes"]])
    for one in said["confusion"]:
        screen.show_rows("Pixels by truth (rows) and mask (columns)", _table(one))
    macro = {f"mean {name}": value for name, value in said["macro"].items()}
    facts = {"pixels": said["pixels"], "scored pixels": said["scored"], **said["apart"]}
    screen.show_facts("All", {**macro, "accuracy": said["accuracy"], "kappa": said["kappa"], **facts})
    if chosen := said.get("calibration"):
        screen.show_rows(f"Thresholds that maximise {chosen['maximised']}, by class", chosen["classes"])
        screen.say(f"For the card: `{chosen['card']}` (mean {chosen['score']:.4f}; now {chosen['threshold_now']}).")
        screen.say(chosen["caution"])


def _line(one: dict[str, Any]) -> dict[str, Any]:
    means = {f"mean {name}": value for name, value in one["macro"].items()}
    return {"scene": one["scene"], "scored pixels": one["scored"], **means, "kappa": one["kappa"]}


def _table(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Those rows and columns of a matrix that hold a pixel."""
    shown = [at for at in range(len(said["mask"])) if any(row[at] for row in said["pixels"])]
    rows = zip(said["truth"], said["pixels"], strict=True)
    return [{"truth": name, **{said["mask"][at]: row[at] for at in shown}} for name, row in rows if any(row)]
