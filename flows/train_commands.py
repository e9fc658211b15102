"""The command `maskmill train`: labelled images become a checkpoint, and the same command goes on after a stop."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for
# ruff: noqa: ARG001, PLR0917  # flags are read by name from Typer's context, and none is given by position

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.ending import COMPLETE
from flows.options import Bands, Json, Overwrite, numbers_of

if TYPE_CHECKING:
    from flows.trained import Order

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="A folder with images/ and masks/; or an image, or a folder.")
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="LABELS", help="Of images: a raster, polygons, or a folder of rasters."),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where checkpoint, metrics and curves are kept.")]
Arch = Annotated[
    str,
    typer.Option(metavar="unet|smp:CLASS", help="unet?widths=16,32,64, smp:DeepLabV3Plus?encoder=resnet50."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--classes", metavar="0=ground,1=building", help="Values of labels by name; default: what is there."),
]
Mapped = Annotated[
    list[str] | None, typer.Option("--map", metavar="255=building", help="Other values; polygons: inside=, outside=.")
]
Ignored = Annotated[list[str] | None, typer.Option("--ignore", metavar="255", help="Values of labels to leave out.")]
Align = Annotated[bool, typer.Option("--align", help="Labels of another grid: what is under a pixel's centre counts.")]
Validation = Annotated[Path | None, typer.Option(metavar="DATA", help="What to hold out, instead of a share of DATA.")]
ValidationLabels = Annotated[str | None, typer.Option(metavar="LABELS", help="… and its labels.")]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Begin with these: safetensors, or torch's weights alone.")
]
Loss = Annotated[str, typer.Option(metavar="auto|bce|ce|dice|bce+dice|ce+dice", help="auto: bce for two classes.")]
ClassWeights = Annotated[str | None, typer.Option(metavar="1,5|balanced", help="What a pixel of each class weighs.")]
Epochs = Annotated[int, typer.Option(metavar="N", help="How often the data are gone through, at most.")]
Batch = Annotated[int, typer.Option(metavar="N", help="Windows in a step.")]
Window = Annotated[int, typer.Option(metavar="PX", help="Side of what is seen at once.")]
Rate = Annotated[float, typer.Option(help="Adam's learning rate.")]
HeldOut = Annotated[float, typer.Option(metavar="SHARE", help="What is never trained on: images, or plots of few.")]
Patience = Annotated[int, typer.Option(metavar="N", help="Epochs without a better IoU before it ends; 0: never.")]
DivideBy = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Scale by this; 0: mean and deviation; default: bytes by 255."),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where it learns.")]


def train(
    context: typer.Context,
    data: Data,
    out: Out,
    labels: Labels = None,
    arch: Arch = "unet",
    classes: Classes = None,
    mapped: Mapped = None,
    ignored: Ignored = None,
    align: Align = False,
    bands: Bands = None,
    validation: Validation = None,
    validation_labels: ValidationLabels = None,
    weights: Weights = None,
    loss: Loss = "auto",
    class_weights: ClassWeights = None,
    epochs: Epochs = 50,
    batch: Batch = 16,
    window: Window = 256,
    rate: Rate = 1e-3,
    held_out: HeldOut = 0.2,
    patience: Patience = 10,
    augment: Annotated[bool, typer.Option(help="Flip and turn windows, and change their light.")] = True,
    divide_by: DivideBy = None,
    seed: Annotated[int, typer.Option(help="Of every random number.")] = 0,
    device: Device = "auto",
    name: Annotated[str | None, typer.Option(help="What the model is called; default: the folder's name.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="SPDX", help="Of the weights.")] = None,
    training_data: Annotated[str | None, typer.Option(help="What it was trained on, for the card.")] = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> int:
    """Train a network on labelled images. Stop it at any time; the same command goes on from the last epoch."""
    from models.extra import demand_training

    demand_training()
    from flows.trained import trained

    found = trained(_order(context.params), bool(overwrite))
    _show(found, out, as_json)
    return COMPLETE


def _order(given: Mapping[str, Any]) -> Order:
    """What the flags ask for. Raises SettingsError."""
    from flows.trained import Order
    from models.training.labelled import Asked
    from models.training.learner import device_of
    from models.training.prepared import Said
    from models.training.recipe import Recipe
    from pipeline.budget import cores

    names = ("loss", "epochs", "batch", "window", "rate", "held_out", "patience", "augment", "divide_by", "seed")
    weights = _weights_said(given["class_weights"])
    recipe = Recipe(given["arch"], class_weights=weights, **{name: given[name] for name in names})
    recipe = recipe.on(device_of(given["device"]), cores())
    bands = tuple(numbers_of("--bands", given["bands"])) if given["bands"] else None
    meant = (*(tuple(given[name] or ()) for name in ("classes", "mapped", "ignored")), bands, given["align"])
    held = given["validation"] and Asked(given["validation"], given["validation_labels"], *meant)
    said = Said(given["name"] or given["out"].resolve().name, given["licence"], given["training_data"])
    return Order(recipe, Asked(given["data"], given["labels"], *meant), held, said, given["weights"], given["out"])


def _weights_said(text: str | None) -> tuple[float, ...] | str:
    """What `--class-weights` says. Raises SettingsError."""
    from pipeline.errors import SettingsError

    if text is None or text == "balanced":
        return text or ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(
            f"`--class-weights` cannot be '{text}': say a number for each class, or balanced."
        ) from None


def _show(found: dict[str, object], out: Path, as_json: bool) -> None:
    from flows import screen

    if as_json:
        screen.emit({**found, "exit_code": COMPLETE})
        return
    best = found["best"]
    if isinstance(best, dict):
        facts = {"epoch": best["epoch"], **{f"IoU {name}": value for name, value in best["iou"].items()}}
        screen.show_facts("The best epoch, on what was held out", facts | {"mean IoU": best["mean_iou"]})
    screen.say(f"Curves: {out / 'curves.png'}")
    screen.say(f"Make one file of it: maskmill export {out / 'checkpoint.safetensors'} --out {out.name}.onnx")
