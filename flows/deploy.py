"""A job as a deployment of a Prefect work pool: a worker there starts each run, as a process, a container or a pod.

The flow is imported where it runs (`flows.segment.segment`): no code is pulled, maskmill is installed there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.environment import LOGGERS
from flows.masking import demand_no_secret
from flows.screen import complain
from flows.server import named_server, told_by
from flows.timing import Timing, one_at_a_time, proven
from pipeline.errors import MaskmillError, SettingsError
from pipeline.settings import Job

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import WorkPool

KINDS = ("process", "docker", "kubernetes")


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs happen: a work pool, its kind where it may have to be made, an image, the template's variables.

    Raises SettingsError where these do not fit each other.
    """

    pool: str
    kind: str | None = None
    image: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise SettingsError(f"`--type` cannot be '{self.kind}': say process, docker or kubernetes.")
        if "image" in self.variables:
            raise SettingsError("An image is said by `--image`, not by `--job-variable`.")
        if not isinstance(self.variables.get("env", {}), Mapping):
            raise SettingsError('The job variable env is a mapping: say env={"AWS_REGION": "eu-central-1"}, as JSON.')
        if self.kind is not None:
            _demand_image(self.kind, self.kind != "process", self.image)


def variable(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is JSON is what it says, any other is text. Raises SettingsError without a key."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise SettingsError(f"`--job-variable` cannot be '{text}': say KEY=VALUE, such as mem_limit=8g.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def deployed(job: Job, name: str, place: Place, timing: Timing | None) -> dict[str, Any]:
    """Write the deployment `segment/NAME`, or update it; give what was made, as facts to show.

    What is not said any more is gone: a schedule, an image, variables. Raises SettingsError where the job holds a
    secret, no server is named or it does not answer, or the pool does not fit; MaskmillError where the server refuses,
    or schedules nothing.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415  # imports take two seconds
    from prefect.exceptions import PrefectHTTPStatusError  # noqa: PLC0415

    demand_no_secret(job)
    url = named_server("deploy")
    with get_client(sync_client=True) as client:
        try:
            pool = _pool(client, place)
            deployment = _written(client, job, name, place, timing)
        except PrefectHTTPStatusError as error:
            raise MaskmillError(f"The Prefect server at {url} refused: {told_by(error)}.") from None
    return {
        "deployment": f"segment/{name}",
        "server": url.removesuffix("/api"),
        "pool": f"{place.pool} ({pool.type})",
        "image": place.image,
        "next": timing.in_words(proven(deployment)) if timing else "when it is asked for",
        "worker": f"prefect worker start --pool {place.pool}",
    }


def _pool(client: SyncPrefectClient, place: Place) -> WorkPool:
    """The work pool, made if there is none. Raises SettingsError where it is not what was asked for."""
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

    try:
        pool = client.read_work_pool(place.pool)
    except ObjectNotFound:
        if place.kind is None:
            raise SettingsError(
                f"There is no work pool `{place.pool}`: say `--type process`, docker or kubernetes to make it."
            ) from None
        complain(f"making the work pool {place.pool} …")
        return _made_pool(client, place.pool, place.kind)
    if place.kind not in (None, pool.type):
        raise SettingsError(f"The work pool `{place.pool}` is of type {pool.type}, not {place.kind}; name another.")
    _demand_image(pool.type, _takes_image(pool), place.image)
    return pool


def _made_pool(client: SyncPrefectClient, name: str, kind: str) -> WorkPool:
    from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415
    from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type  # noqa: PLC0415

    template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
    if template is None:
        raise MaskmillError(
            f"The Prefect server knows no template of a {kind} pool: `prefect work-pool create {name} --type {kind}` "
            "makes one where prefect's package for it is installed."
        )
    return client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))


def _takes_image(pool: WorkPool) -> bool:
    return "image" in pool.base_job_template.get("variables", {}).get("properties", {})


def _demand_image(kind: str, takes_image: bool, image: str | None) -> None:
    """A pool of containers needs an image with maskmill in it: its own default is Prefect's, which lacks it."""
    if takes_image and not image:
        raise SettingsError(f"A {kind} pool starts containers: say `--image`, one that docker/Dockerfile makes.")
    if image and not takes_image:
        raise SettingsError(f"A {kind} pool starts no containers: `--image` has no meaning there.")


def _written(client: SyncPrefectClient, job: Job, name: str, place: Place, timing: Timing | None) -> UUID:
    from prefect.client.schemas.actions import DeploymentScheduleCreate  # noqa: PLC0415
    from prefect.client.schemas.objects import ConcurrencyOptions  # noqa: PLC0415
    from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415
    from prefect.utilities.callables import parameter_schema  # noqa: PLC0415

    from flows.segment import segment  # noqa: PLC0415

    limit = one_at_a_time()
    variables = {**place.variables, **({"image": place.image} if place.image else {})}
    variables["env"] = {"PREFECT_LOGGING_EXTRA_LOGGERS": LOGGERS, **variables.get("env", {})}
    return client.create_deployment(
        flow_id=client.create_flow(segment),
        name=name,
        entrypoint=f"{segment.__module__}.{segment.fn.__name__}",
        pull_steps=[],
        parameters={"job": job.model_dump(mode="json")},
        parameter_openapi_schema=parameter_schema(segment).model_dump(exclude_unset=True),
        enforce_parameter_schema=True,
        description=segment.description,
        work_pool_name=place.pool,
        job_variables=variables,
        schedules=[
            DeploymentScheduleCreate(schedule=CronSchedule(cron=timing.cron, timezone=timing.timezone), active=True)
        ]
        if timing
        else [],
        paused=False,
        concurrency_limit=limit.limit,
        concurrency_options=ConcurrencyOptions(collision_strategy=limit.collision_strategy),
    )
