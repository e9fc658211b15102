"""Which S3 server is meant: one answer from the environment, for GDAL, which reads, and for what lists.

`AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL` are what all but GDAL know; `AWS_S3_ENDPOINT`, `AWS_HTTPS`,
`AWS_VIRTUAL_HOSTING` and `AWS_NO_SIGN_REQUEST` are GDAL's, and win where they are set. Credentials each finds itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

_YES = frozenset({"yes", "true", "on", "1"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks S3.

    Parameters
    ----------
    url
        Its address, without a slash at the end; None: Amazon's own.
    virtual
        Whether a bucket is asked for by a host name of its own; without it by the path.
    unsigned
        Whether it is asked without credentials.

    """

    url: str | None
    virtual: bool
    unsigned: bool

    @classmethod
    def of(cls, said: Mapping[str, str] = os.environ) -> Self:
        """What the environment says."""
        url = said.get("AWS_ENDPOINT_URL_S3") or said.get("AWS_ENDPOINT_URL") or said.get("AWS_ENDPOINT")
        if host := said.get("AWS_S3_ENDPOINT"):
            url = f"http{'s' if _yes(said, 'AWS_HTTPS', True) else ''}://{host.partition('://')[2] or host}"
        virtual = _yes(said, "AWS_VIRTUAL_HOSTING", _yes(said, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", url is None))
        unsigned = _yes(said, "AWS_NO_SIGN_REQUEST", _yes(said, "AWS_SKIP_SIGNATURE", False))
        return cls(url.rstrip("/") if url else None, virtual, unsigned)

    def for_gdal(self) -> dict[str, str]:
        """GDAL's settings that say the same."""
        said = {"AWS_NO_SIGN_REQUEST": "YES"} if self.unsigned else {}
        if self.url is None:
            return said
        scheme, _, host = self.url.rpartition("://")
        https = "NO" if scheme == "http" else "YES"
        return {
            **said,
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": https,
            "AWS_VIRTUAL_HOSTING": "YES" if self.virtual else "NO",
        }


def unsigned(scheme: str, said: Mapping[str, str] = os.environ) -> bool:
    """Whether a store of another kind, gs or az, is asked without credentials: by GDAL's setting."""
    return _yes(said, {"gs": "GS_NO_SIGN_REQUEST", "az": "AZURE_NO_SIGN_REQUEST"}[scheme], False)


def _yes(said: Mapping[str, str], name: str, default: bool) -> bool:
    return said[name].strip().lower() in _YES if said.get(name) else default
