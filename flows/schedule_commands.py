"""The commands for nights: a job by the clock, served on this machine or given to a Prefect work pool."""
# ruff: noqa: PLC0415  # every import inside a command is one that `--help` does not pay for
# ruff: noqa: PLR0917  # no flag is given by position

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.ending import COMPLETE
from flows.options import Json

JobPath = Annotated[Path, typer.Argument(metavar="JOB.yaml")]
Timezone = Annotated[str, typer.Option(metavar="Europe/Vienna", help="Whose clock.")]
WHEN = "When: minute, hour, day, month, weekday."


def schedule(
    job: JobPath,
    cron: Annotated[str, typer.Option(metavar='"0 2 * * *"', help=WHEN)],
    timezone: Timezone = "UTC",
    home: Annotated[Path | None, typer.Option(help="The server's folder; default: OUT/.schedule.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The server's port; default: a free one.")] = None,
) -> int:
    """Run a job by the clock, never two at once, until stopped. Starts a Prefect server if none is named."""
    from flows import screen
    from pipeline.document import load_job

    asked = load_job(job.resolve(), {})
    screen.hear_warnings()
    from flows.environment import prepare_prefect

    prepare_prefect()
    from flows.schedule import serve
    from flows.timing import Timing

    return serve(asked, Timing(name=job.stem, cron=cron, timezone=timezone), home, port)


def deploy(
    job: JobPath,
    pool: Annotated[str, typer.Option("--pool", "-p", metavar="NAME", help="The work pool whose workers run it.")],
    kind: Annotated[
        str | None,
        typer.Option("--type", "-t", metavar="process|docker|kubernetes", help="Make the pool, if there is none."),
    ] = None,
    image: Annotated[str | None, typer.Option(metavar="IMAGE", help="What docker and kubernetes start.")] = None,
    cron: Annotated[str | None, typer.Option(metavar='"0 2 * * *"', help=f"{WHEN} Without it: by hand.")] = None,
    timezone: Timezone = "UTC",
    variables: Annotated[
        list[str] | None,
        typer.Option("--job-variable", "-jv", metavar="KEY=VALUE", help="A variable of the pool's template."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Write the job as a deployment on a Prefect work pool, or update it; its runs never overlap."""
    from flows import screen
    from pipeline.document import load_job

    asked = load_job(job.resolve(), {})
    screen.hear_warnings()
    from flows.environment import prepare_prefect

    prepare_prefect()
    from flows.deploy import Place, deployed, variable
    from flows.timing import Timing, demand_name

    demand_name(job.stem)
    place = Place(pool, kind, image, dict(variable(text) for text in variables or ()))
    timing = Timing(name=job.stem, cron=cron, timezone=timezone) if cron is not None else None
    made = deployed(asked, job.stem, place, timing)
    if as_json:
        screen.emit({**made, "exit_code": COMPLETE})
    else:
        screen.show_facts(f"Deployment {made['deployment']}", made)
    return COMPLETE


def notify(
    job: JobPath,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="$VARIABLE|URL", help="Where notices are POSTed; default: the job's `on_failure`."),
    ] = None,
    silent: Annotated[int, typer.Option(min=1, help="Minutes without a heartbeat: the run has crashed.")] = 10,
    late: Annotated[int, typer.Option(min=1, help="Minutes after which a run should have begun.")] = 15,
    as_json: Json = False,
) -> int:
    """Have the Prefect server tell a webhook of runs of the job that fail, die, go silent or never begin."""
    from flows import screen
    from pipeline.document import load_job

    asked = load_job(job.resolve(), {})
    screen.hear_warnings()
    from flows.environment import prepare_prefect

    prepare_prefect()
    from flows.automation import notified
    from flows.timing import demand_name

    demand_name(job.stem)
    made = notified(asked, job.stem, webhook, silent, late)
    if as_json:
        screen.emit({**made, "exit_code": COMPLETE})
    else:
        screen.show_facts(f"Notices of {made['deployment']}", made)
    return COMPLETE
