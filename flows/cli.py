"""The command `maskmill`: arguments become a Job, results become tables or one JSON line, ends become exit codes.

0 complete · 2 nothing could start · 3 finished with holes or refused scenes, each named · 1 anything else ·
130 and 143 stopped by Ctrl-C or SIGTERM. Only Typer is imported here; `--help` must not pay for GDAL or Prefect.
"""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for
# ruff: noqa: ARG001, PLR0917  # flags are read by name from Typer's context, and none is given by position

from __future__ import annotations

import os
import sys
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from flows import archive_commands, evaluate_commands, schedule_commands, show_commands
from flows.ending import COMPLETE, HOLES, NOT_STARTED, exit_code
from flows.export_command import export
from flows.model_commands import models
from flows.options import (
    Aoi,
    Bands,
    Batch,
    Block,
    Cluster,
    Device,
    JobFile,
    Json,
    Margin,
    Memory,
    Model,
    Out,
    Overlap,
    Overwrite,
    Precision,
    Products,
    Resolution,
    Scenes,
    Threads,
    Window,
    Workers,
    job_of,
    warm_child,
)
from flows.train_commands import train

if TYPE_CHECKING:
    from pipeline.child import Child
    from pipeline.settings import Job

app = typer.Typer(
    name="maskmill",
    help="Turn large images into masks with an ONNX network: exact at the seams, bounded in memory, resumable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models, name="models")
app.command()(train)
app.command()(export)
app.command()(archive_commands.catalogue)
app.command()(archive_commands.clean)
app.command()(archive_commands.compare)
app.command()(archive_commands.mosaic)
app.command()(show_commands.show)
app.command()(evaluate_commands.evaluate)
app.command()(schedule_commands.schedule)
app.command()(schedule_commands.deploy)
app.command()(schedule_commands.notify)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
) -> None:
    """Turn large images into masks with an ONNX network: exact at the seams, bounded in memory, resumable."""
    if debug:
        os.environ["MASKMILL_DEBUG"] = "1"


@app.command()
def run(
    context: typer.Context,
    scenes: Scenes = None,
    model: Model = None,
    out: Out = None,
    job: JobFile = None,
    device: Device = None,
    precision: Precision = None,
    margin: Margin = None,
    overlap: Overlap = None,
    resolution: Resolution = None,
    window: Window = None,
    block: Block = None,
    batch: Batch = None,
    workers: Workers = None,
    threads: Threads = None,
    cluster: Cluster = None,
    bands: Bands = None,
    aoi: Aoi = None,
    products: Products = None,
    memory: Memory = None,
    overwrite: Overwrite = None,
    prefect: Annotated[bool, typer.Option("--prefect", help="Make it a Prefect flow run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which scenes would be done, and why.")] = False,
    as_json: Json = False,
) -> int:
    """Make the masks. Stop it at any time; the same command goes on from there."""
    from flows import screen

    asked = job_of(context.params, job)
    screen.hear_warnings()
    if dry_run:
        return _list_due(asked, as_json)
    child = None if prefect or os.environ.get("PREFECT_API_URL") else warm_child()
    from flows.notice import noticed

    report = noticed(asked, job.stem if job else None, lambda: _run_asked(asked, child))
    return _finish_run(report, as_json)


@app.command()
def plan(
    context: typer.Context,
    scenes: Scenes = None,
    model: Model = None,
    out: Out = None,
    job: JobFile = None,
    device: Device = None,
    precision: Precision = None,
    margin: Margin = None,
    overlap: Overlap = None,
    resolution: Resolution = None,
    window: Window = None,
    block: Block = None,
    batch: Batch = None,
    workers: Workers = None,
    threads: Threads = None,
    cluster: Cluster = None,
    bands: Bands = None,
    aoi: Aoi = None,
    products: Products = None,
    memory: Memory = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> int:
    """Say what `run` would do and need. Writes nothing."""
    from flows import screen

    asked = job_of(context.params, job)
    child = warm_child()
    from flows.planned import in_words
    from flows.tasks import plan_job

    screen.hear_warnings()
    plans, room = plan_job(asked, child)
    refusals = [f"{one['scene']} would be refused: {one['refused']}" for one in plans if one["refused"]]
    code = COMPLETE if not refusals else NOT_STARTED if len(refusals) == len(plans) else HOLES
    code = NOT_STARTED if room and room.refusal else code
    for one in [] if as_json else [one for one in plans if "blocks" in one]:
        screen.show_facts(f"Plan for {one['scene']}", in_words(one))
    for sentence in (*refusals, *([room.sentence] if room and room.sentence else ())):
        screen.complain(sentence)
    if as_json:
        screen.emit({"plans": plans, "room": room and room.as_dict(), "exit_code": code})
    return code


@app.command()
def status(directory: Annotated[str, typer.Argument(metavar="DIR")], as_json: Json = False) -> int:
    """Say how far every scene in DIR is, from the ledgers alone; works while a run goes on."""
    from flows import screen
    from flows.bucketed import here
    from flows.status import status_of

    with here(directory) as ledgers:
        found = [one.as_dict() for one in status_of(ledgers)]
    if as_json:
        screen.emit({"scenes": found, "exit_code": COMPLETE})
    else:
        screen.show_rows(f"Scenes in {directory}", found)
    return COMPLETE


@app.command()
def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR/SCENE")],
    sample: Annotated[int, typer.Option(min=1, help="How many blocks to compute again.")] = 8,
    as_json: Json = False,
) -> int:
    """Compute a random sample of blocks again, and prove windows against one pass over a crop."""
    from flows import screen
    from flows.bucketed import here
    from flows.tasks import verify_scene

    with here(folder, scene=True) as place:
        report = verify_scene(place, sample)
    if as_json:
        screen.emit(report.as_dict())
    else:
        screen.show_facts(f"Proof of {folder}", report.as_dict())
    return int(report.exit_code)


@app.command()
def doctor(as_json: Json = False) -> int:
    """Say what this machine can run, and what to do about what it cannot."""
    from flows import screen
    from flows.doctor import examined

    checks = examined()
    broken = any(check.state == "broken" for check in checks)
    if as_json:
        screen.emit({"checks": [check.as_dict() for check in checks], "exit_code": int(broken)})
    else:
        screen.show_rows("This machine", [check.as_dict() for check in checks])
    return int(broken)


def _run_asked(job: Job, child: Child | None) -> dict[str, Any]:
    """Run a job, with a child as plain functions, else as a Prefect flow; the mapping of its JobReport."""
    from flows import screen

    with screen.watched() as moved:
        if child is None:
            from flows.environment import run_through_prefect

            return run_through_prefect(job, moved)
        from flows.morning import reported
        from flows.tasks import run_job

        return reported(job, lambda: run_job(job, moved, child).as_dict())


def _list_due(job: Job, as_json: bool) -> int:
    """Show what a run would do, and why; what could not be listed is named on stderr."""
    from flows import screen
    from flows.archive import select
    from flows.lines import JobReport
    from flows.room import room_for
    from flows.sources.listed import LeftOut

    found = select(job, left := LeftOut())
    room = room_for(job, found)
    due = [{"scene": one.entry.name, "why": str(one.why)} for one in found.due]
    said = JobReport.aside(found, job, left.problems)
    code = NOT_STARTED if room and room.refusal else said.exit_code
    if as_json:
        alone = {str(why): count for why, count in found.left_alone.items()}
        more = {"left": said.left, "carried_over": said.carried_over, "exit_code": code}
        screen.emit({"due": due, "left_alone": alone, "room": room and room.as_dict(), **more})
    else:
        screen.show_rows("Due", due)
        screen.show_rows("Left alone", list(said.left))
        if room:
            screen.show_facts("Disk, estimated", room.as_dict())
    about = [room.sentence] if room and room.sentence else []
    for note in (*left.notes(), *found.notes(), *said.problems, *about):
        screen.complain(note)
    return code


def _finish_run(report: dict[str, Any], as_json: bool) -> int:
    """Show a JobReport's mapping; name each hole and each refused scene on stderr."""
    from flows import screen

    for problem in report["problems"]:
        screen.complain(problem)
    if as_json:
        screen.emit(report)
    else:
        screen.show_rows("Scenes", report["scenes"])
    return int(report["exit_code"])


def main() -> NoReturn:
    """The console script."""
    # Output may be closed, or unable to say ×: neither may end a run.
    sys.stdout, sys.stderr = sys.stdout or StringIO(), sys.stderr or StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(exit_code(app, sys.argv[1:]))


if __name__ == "__main__":
    main()
