"""When a job runs, and the proof that it will: for `schedule`, which serves it here, and `deploy`, which gives it away.

Two runs of one job never go on at once. A run that falls due meanwhile is cancelled, not kept waiting: what it would
have done is due in the next one too, as the ledgers say, so that no night is lost and none is done twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from pipeline.errors import MaskmillError, SettingsError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

PROOF_SECONDS = 90.0
SHOWN_TIMES = 3


def demand_name(name: str) -> None:
    """Raise SettingsError where Prefect cannot take a job file's name for its deployment."""
    if "%" in name or "/" in name:
        raise SettingsError(f"The job file's name, {name}, names the deployment: it may hold neither / nor %.")


@dataclass(frozen=True, slots=True)
class Timing:
    """What runs when: a deployment's name, five cron fields, and the zone whose clock counts.

    Raises SettingsError where the zone or the fields are not known, or Prefect cannot take the name.
    """

    name: str
    cron: str
    timezone: str

    def __post_init__(self) -> None:
        demand_name(self.name)
        if self.timezone not in available_timezones():
            raise SettingsError(f"There is no time zone `{self.timezone}`; give one such as Europe/Vienna or UTC.")
        from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415  # imports take two seconds
        from pydantic import ValidationError  # noqa: PLC0415

        try:
            CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError:
            raise SettingsError(
                f"`--cron` cannot be '{self.cron}': give minute, hour, day, month and weekday, such as '0 2 * * *'."
            ) from None

    def in_words(self, times: list[datetime]) -> str:
        """Moments by the zone's clock."""
        zone = ZoneInfo(self.timezone)
        return ", ".join(f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}" for moment in times)


def one_at_a_time() -> ConcurrencyLimitConfig:
    """The limit of a deployment whose runs never overlap."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy  # noqa: PLC0415

    return ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def runs_of(client: SyncPrefectClient, deployment: UUID, states: tuple[str, ...], limit: int = 200) -> list[Any]:
    """The deployment's flow runs in these states, the earliest first."""
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter  # noqa: PLC0415
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415

    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": list(states)}}}),
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment]}}),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=limit,
    )


def proven(deployment: UUID) -> list[datetime]:
    """The next times, read from runs that really stand in the server. Raises MaskmillError where none comes.

    Registering a deployment removes its future runs, so that those found here were made by a scheduler that lives.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    until = time.monotonic() + PROOF_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < until:
            now = datetime.now().astimezone()
            times = [run.expected_start_time for run in runs_of(client, deployment, ("SCHEDULED",))]
            if coming := [moment for moment in times if moment and moment > now]:
                return coming[:SHOWN_TIMES]
            time.sleep(1.0)
    raise MaskmillError(
        f"The Prefect server has made no scheduled run within {PROOF_SECONDS:.0f} s: its scheduler does not work and "
        "no night would ever come; `maskmill doctor` says whether the packages fit (SQLAlchemy must be below 2.1)."
    )
