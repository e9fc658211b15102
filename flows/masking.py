"""What is secret, and how a text is told without it: passwords, keys, tokens, and the signatures of addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError
from pipeline.raster.address import shown, without_password

if TYPE_CHECKING:
    from pipeline.settings import Job

_WORD = r"[\w-]*(?:password|passwd|secret|token|api_?key|access_?key|signature|credential)[\w-]*"
# AWS_SECRET_ACCESS_KEY=…, api_key: …, "token": "…", ?sig=…; no $VARIABLE
_SAID = re.compile(rf"(?i)((?:\b{_WORD}|(?<=[?&])sig)[\"']?\s*[=:]\s*[\"']?)[^\s&,;\"'$][^\s&,;\"']*")
_NAMED = re.compile(rf"(?i){_WORD}|webhook")


def masked(text: str) -> str:
    """The text without passwords and signatures in addresses, and without the values of keys, tokens and secrets."""
    return _SAID.sub(r"\1***", shown(text))


def without_secrets(job: Job) -> dict[str, object]:
    """A job's JSON form, to be looked at and not to be run: in it, what is secret is `***`."""
    said: dict[str, object] = _without(job.model_dump(mode="json"), masked)
    return said


def demand_no_secret(job: Job) -> None:
    """Raise SettingsError where a job holds what must not lie in the database of a Prefect server."""
    said = job.model_dump(mode="json")
    if place := next(_differing(said, _without(said, _without_keys)), None):
        raise SettingsError(
            f"`{place}` holds a password, a key or a signature, which would lie in Prefect's database where all its "
            "users read it: leave it to the environment of what runs the job; in a cluster's arguments and in "
            "`on_failure` name it as $VARIABLE."
        )


def _without_keys(text: str) -> str:
    """The text without what is surely secret: not each address with a question mark holds a signature."""
    return _SAID.sub(r"\1***", without_password(text))


def _without(value: object, clean: Callable[[str], str], key: str = "") -> Any:  # noqa: ANN401  JSON is anything
    if isinstance(value, dict):
        return {name: _without(each, clean, str(name)) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, clean, key) for each in value]
    if not isinstance(value, str):
        return value
    return "***" if _NAMED.fullmatch(key) and value and not value.startswith("$") else clean(value)


def _differing(one: object, other: object, place: str = "") -> Iterator[str]:
    """Where two documents of one shape differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            yield from _differing(one[key], other[key], f"{place}.{key}" if place else str(key))
    elif isinstance(one, list) and isinstance(other, list):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differing(left, right, f"{place}.{at}")
    elif one != other:
        yield place
