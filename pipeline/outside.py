"""Results in a bucket: its address, what a job says of its store, and the folder in which they are made."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

_ADDRESS = re.compile(r"(s3|gs|az)://[A-Za-z0-9][\w.-]+(/[\w.=+/ -]*)?")


class Store(BaseModel):
    """How a bucket's store is asked. Credentials are in the environment, or in the files that its own tools read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$", repr=False)
    region: str | None = None
    requester_pays: bool = False
    max_requests: int | None = Field(default=None, ge=1, strict=True)
    workshop: Path | None = None


def address_of(value: object) -> str | None:
    """A bucket's address without a slash at its end; None for all else."""
    return value.rstrip("/") if isinstance(value, str) and _ADDRESS.fullmatch(value) else None


def parts_of(address: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix of an address."""
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    return scheme, bucket, prefix.strip("/")


def workshop_of(address: str, store: object) -> Path:
    """Where the results of a bucket are made: below `store: {workshop: …}`, or in the user's cache."""
    said = store.get("workshop") if isinstance(store, Mapping) else getattr(store, "workshop", None)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    endpoint = store.get("endpoint") if isinstance(store, Mapping) else getattr(store, "endpoint", None)
    digest = hashlib.sha256(f"{endpoint or ''} {address}".encode()).hexdigest()[:12]
    return Path(str(said) if said else caches / "maskmill" / "workshops") / f"{parts_of(address)[1]}-{digest}"
