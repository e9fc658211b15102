"""Which S3 server results go to, and with which credentials: the environment's, or a profile's that may expire.

Keys in the environment hold for as long as the process. Those in the file that Amazon's tools write are read again
every few minutes and when they are refused, so that a run outlives them where something renews the file. The keys that
machines and containers are lent obstore renews itself.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from obstore.store import S3Credential

_LOOK_AGAIN = timedelta(minutes=2)
_YES = frozenset({"yes", "true", "on", "1"})


def endpoint_of(said: str | None) -> tuple[str | None, bool]:
    """The server's address (None: Amazon's), and whether a bucket is a host name there; a job's word comes first."""
    around = os.environ
    url = said or around.get("AWS_ENDPOINT_URL_S3") or around.get("AWS_ENDPOINT_URL") or around.get("AWS_ENDPOINT")
    virtual = around.get("AWS_VIRTUAL_HOSTING")
    return (url.rstrip("/") if url else None), virtual.lower() in _YES if virtual else url is None


def profile_of() -> Callable[[], S3Credential] | None:
    """What reads the keys of the profile anew each time; None where the environment has keys or no profile has."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    profile = os.environ.get("AWS_PROFILE") or "default"
    try:
        _keys(file, profile)
    except SettingsError:
        return None
    return lambda: _keys(file, profile)


def _keys(file: Path, profile: str) -> S3Credential:
    said = configparser.RawConfigParser()
    try:
        said.read(file, encoding="utf-8")
        keys = said[profile]
        return {
            "access_key_id": keys["aws_access_key_id"],
            "secret_access_key": keys["aws_secret_access_key"],
            "token": keys.get("aws_session_token"),
            "expires_at": datetime.now(UTC) + _LOOK_AGAIN,
        }
    except (KeyError, OSError, ValueError, configparser.Error):
        # Its text may hold what the file holds.
        raise SettingsError(f"{file} has no keys for the profile {profile}.") from None
