"""Notices by the Prefect server: of a job's runs that fail, die, go silent or never begin, to a webhook.

A run whose process is killed, or whose machine is gone, gives no notice itself, and its state would say Running for
ever. The server sees that its heartbeats stop, calls it crashed, and then tells.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.server import named_server, told_by
from pipeline.errors import MaskmillError, SettingsError
from pipeline.settings import Job

if TYPE_CHECKING:
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import SyncPrefectClient

_HEARTBEAT = "prefect.flow-run.heartbeat"
_BEGUN = [f"prefect.flow-run.{name}" for name in ("Pending", "Running", "Completed", "Failed", "Crashed", "Cancelled")]


@dataclass(frozen=True, slots=True)
class Watch:
    """Whose runs are watched: the deployment's name and id, what a run tells itself, minutes before one is given up."""

    name: str
    deployment: UUID
    tells: bool
    silent: int
    late: int

    @property
    def failures(self) -> list[str]:
        """The types of states that are told: where a job has `on_failure`, its runs tell of what failed themselves."""
        return ["CRASHED"] if self.tells else ["FAILED", "CRASHED"]


def notified(job: Job, name: str, webhook: str | None, silent: int, late: int) -> dict[str, Any]:
    """Have the server that is named tell a webhook of the deployment `segment/NAME`; give what was made, as facts.

    Made again, it takes the place of what was. Raises SettingsError where no server is named or it does not answer, no
    address is known or there is no such deployment; MaskmillError where the server refuses.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415  # imports take two seconds
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError  # noqa: PLC0415

    address = _address(webhook or (job.on_failure.webhook if job.on_failure else None))
    url = named_server("notify")
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"segment/{name}").id
            watch = Watch(name, deployment, job.on_failure is not None, silent, late)
            block = _webhook(name, address)
            for automation in _automations(watch, block):
                _put(client, automation)
        except ObjectNotFound:
            raise SettingsError(
                f"There is no deployment segment/{name} on {url.removesuffix('/api')}: `maskmill schedule` and "
                "`maskmill deploy` make it."
            ) from None
        except PrefectHTTPStatusError as error:
            raise MaskmillError(f"The Prefect server at {url} refused: {told_by(error)}.") from None
    return {
        "deployment": f"segment/{name}",
        "server": url.removesuffix("/api"),
        "told of": "runs that die" if watch.tells else "runs that fail or die",
        "silent": f"called crashed after {silent} minutes without a heartbeat",
        "late": f"told when it has not begun {late} minutes after it was due",
    }


def _address(said: str | None) -> str:
    """The webhook itself; $VARIABLE is read here, since the server has another environment."""
    if said is None:
        raise SettingsError("Say whom to tell: `--webhook '$HOOK'`, or `on_failure: {webhook: $HOOK}` in the job.")
    address = os.environ.get(said[1:], "") if said.startswith("$") else said
    if not re.fullmatch(r"https?://[^\s/]\S*", address):
        where = f"{said} is set to" if re.fullmatch(r"\$\w+", said) else "`--webhook` is"
        raise SettingsError(f"{where} no address that begins with https:// or http://.")
    return address


def _webhook(name: str, address: str) -> UUID:
    """Write the address as a block, which the server keeps encrypted; the block's id."""
    from prefect.blocks.webhook import Webhook  # noqa: PLC0415  # as above
    from prefect.types import SecretDict  # noqa: PLC0415
    from pydantic import SecretStr  # noqa: PLC0415

    block = Webhook(url=SecretStr(address), headers=SecretDict({"Content-Type": "application/json"}))
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    written = block.save(f"maskmill-{plain}-{sha256(name.encode()).hexdigest()[:8]}", overwrite=True)
    return UUID(str(written))


def _automations(watch: Watch, block: UUID) -> list[AutomationCore]:
    """What the server is to do: tell of what failed, call crashed what is silent, tell of what does not begin."""
    from prefect.automations import AutomationCore  # noqa: PLC0415  # as above

    failed = _trigger(watch, "Reactive", {"prefect.state-type": watch.failures}, expect=["prefect.flow-run.*"])
    silent = _trigger(watch, "Proactive", within=60 * watch.silent, after=[_HEARTBEAT], expect=["prefect.flow-run.*"])
    late = _trigger(watch, "Proactive", within=60 * watch.late, after=["prefect.flow-run.Late"], expect=_BEGUN)
    why = f"No heartbeat came for {watch.silent} minutes: its process or its machine is gone."
    crash = {"type": "change-flow-run-state", "state": "CRASHED", "message": why}
    tell = {"type": "call-webhook", "block_document_id": block}
    made = [
        ("failed", "Tells the webhook of a run that failed or died.", failed, tell | {"payload": _failed(watch.name)}),
        ("silent", "Calls a run crashed whose heartbeats have stopped.", silent, crash),
        ("late", "Tells the webhook of a run that was due and has not begun.", late, tell | {"payload": _late(watch)}),
    ]
    return [
        AutomationCore.model_validate(
            {"name": f"maskmill {watch.name}: {what}", "description": words, "trigger": trigger, "actions": [action]}
        )
        for what, words, trigger, action in made
    ]


def _trigger(watch: Watch, posture: str, match: Mapping[str, Any] | None = None, **said: object) -> dict[str, Any]:
    """What the server waits for, of each run of the deployment by itself."""
    deployment = f"prefect.deployment.{watch.deployment}"
    return {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*", **(match or {})},
        "match_related": {"prefect.resource.role": "deployment", "prefect.resource.id": deployment},
        "for_each": ["prefect.resource.id"],
        "posture": posture,
        "threshold": 1,
        **said,
    }


def _failed(name: str) -> str:
    """What is sent, as a template of the server's: JSON, whatever the state's message holds."""
    said = json.dumps(f"maskmill {name}: ")
    return (
        '{"text": {{ (' + said + ' ~ flow_run.state.name ~ ". " ~ (flow_run.state.message or "")) | tojson }}, '
        '"job": {{ ' + json.dumps(name) + " | tojson }}, "
        '"state": {{ flow_run.state.name | tojson }}, "run": {{ flow_run.name | tojson }}}'
    )


def _late(watch: Watch) -> str:
    said = (
        f"maskmill {watch.name}: a run that was due {watch.late} minutes ago has not begun. "
        "Look whether its schedule or a worker of its pool runs."
    )
    return (
        '{"text": {{ ' + json.dumps(said) + ' | tojson }}, "job": {{ ' + json.dumps(watch.name) + " | tojson }}, "
        '"state": "Late"}'
    )


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Write an automation in the place of the one of its name; of several, as somebody may have made, the first."""
    had = client.read_automations_by_name(automation.name)
    if had:
        client.update_automation(had[0].id, automation)
    else:
        client.create_automation(automation)
