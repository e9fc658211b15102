"""The flags of `run` and `plan`, and how they become a Job. The names of the flags are those of Job's fields."""
# ruff: noqa: PLC0415  # every import inside a function is one that `--help` does not pay for

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.child import Child
    from pipeline.settings import Job

FLAGS = (
    *(
        "scenes",
        "model",
        "out",
        "bands",
        "device",
        "precision",
        "margin",
        "overlap",
        "resolution",
        "window",
        "block",
        "batch",
        "workers",
        "threads",
        "cluster",
    ),
    *("aoi", "products", "memory", "overwrite"),
)

Scenes = Annotated[list[str] | None, typer.Argument(metavar="SCENE", help="Images, or globs in quotes.")]
Model = Annotated[str | None, typer.Option(metavar="MODEL", help="A zoo name, a folder or an .onnx file.")]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="Where a folder for each scene is made.")]
JobFile = Annotated[Path | None, typer.Option("--job", metavar="JOB.yaml", help="A job file; flags replace its keys.")]
Device = Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where the network runs.")]
Precision = Annotated[str | None, typer.Option(metavar="fp32|tf32|fp16", help="What a GPU computes in.")]
Margin = Annotated[
    str | None, typer.Option(metavar="auto|exact|blend|PIXELS", help="What a window reads beyond its core.")
]
Overlap = Annotated[float | None, typer.Option(help="Blend: the part of a window that it shares with the next.")]
Resolution = Annotated[
    str | None,
    typer.Option(metavar="model|scene|METRES", help="Pixels that the network sees; the mask keeps the scene's."),
]
Window = Annotated[int | None, typer.Option(metavar="PX", help="Side of what the network sees at once.")]
Block = Annotated[int | None, typer.Option(metavar="PX", help="Side of what one worker owns.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Windows in one run of the network.")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Worker processes.")]
Bands = Annotated[str | None, typer.Option(metavar="4,3,2", help="The image's bands, from 1, in the model's order.")]
Aoi = Annotated[
    str | None,
    typer.Option(metavar="FILE[:LAYER]|tissue", help="Polygons, a mask or a slide's tissue; outside is 254, not read."),
]
Products = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Also write: confidence,probabilities,disagreement,outlines.")
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Plan for this much, such as 8G; default: what is free.")
]
Threads = Annotated[
    int | None,
    typer.Option(help="Blocks that each worker has in hand: while one is predicted, others are read and written."),
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="inline|local|gpus|ADDRESS", help="Who does it; a job file says more: certificates, SLURM."),
]
Overwrite = Annotated[bool | None, typer.Option("--overwrite", help="Build anew beside an old result and replace it.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of standard output.")]


def job_of(given: Mapping[str, Any], path: Path | None) -> Job:
    """The job file, if any, with the flags that were given laid over it. Raises SettingsError."""
    from pipeline.document import load_job

    flags = {name: given[name] for name in FLAGS if given[name] not in (None, (), [])}
    if "bands" in flags:
        flags["bands"] = numbers_of("--bands", flags["bands"])
    if "products" in flags:
        flags["products"] = [name.strip() for name in flags["products"].split(",")]
    job = load_job(path.resolve() if path else None, flags)
    # What is named by hand is meant to be done now.
    return job.model_copy(update={"settle": 0.0}) if "scenes" in flags and job.settle is None else job


def warm_child() -> Child:
    """The process that opens files: it makes its imports while this one makes its own."""
    from pipeline.child import Child

    child = Child()
    child.warm("pipeline.survey", "pipeline.work")
    return child


def numbers_of(flag: str, text: str) -> list[int]:
    """The numbers that a flag lists. Raises SettingsError where it lists none."""
    from pipeline.errors import SettingsError

    if not re.fullmatch(r"\d+(\s*,\s*\d+)*", text.strip()):
        raise SettingsError(f"`{flag}` cannot be '{text}': give band numbers from 1, such as 4,3,2.")
    return [int(number) for number in text.split(",")]
