"""Scenes in a bucket, below a prefix: listed as the store gives them, a thousand at a time, with what it says of them.

Credentials, region and endpoint come from the environment, as GDAL has them too, which reads what is listed here. A
delivery of many files (SAFE, Landsat, Zarr) is no scene here: its folder cannot be opened in a bucket.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING

from flows.sources.folder import OF_LANDSAT
from flows.sources.listed import LeftOut, Listed, Stamp
from flows.sources.names import name_of
from flows.sources.patterns import Pattern
from pipeline.errors import SceneError
from pipeline.origin import BucketOrigin
from pipeline.raster.endpoint import Endpoint, unsigned
from pipeline.settings import SceneEntry

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureConfig, AzureStore, ClientConfig, GCSConfig, GCSStore, RetryConfig, S3Config, S3Store

_IN_DELIVERY = re.compile(r"\.(SAFE|zarr)/", re.IGNORECASE)
_CHUNK = 1000
_PATIENCE = 20  # seconds in all, for what fails
_SLACK = 2.0  # seconds: a Date has whole ones
_AMAZON, _GOOGLE = "https://s3.amazonaws.com", "https://storage.googleapis.com"


_REASONS = {  # by what stands in an error or its name; the first that fits
    "PermissionDenied|Unauthenticated": "the server refuses the credentials that the environment holds",
    "NotFound": "there is no such bucket",
    r"(?i)\baccount\b": "the environment names no account (AZURE_STORAGE_ACCOUNT_NAME)",
    r"(?i)metadata|credential|imds|169\.254": "the environment holds no credentials for it (AWS_, GS_ or "
    "AZURE_NO_SIGN_REQUEST=YES asks without)",
    r"(?i)error sending request|connect|timed out|dns": "no server answers there",
}


@dataclass(frozen=True, slots=True)
class Prefix:
    """A folder of a bucket: `scheme`://`bucket`/`path`/."""

    scheme: str
    bucket: str
    path: str

    @classmethod
    def of(cls, origin: BucketOrigin) -> Prefix:
        """What an address names."""
        scheme, _, rest = origin.prefix.partition("://")
        bucket, _, path = rest.partition("/")
        return cls(scheme, bucket, path.strip("/"))

    def scenes(self, origin: BucketOrigin, left: LeftOut) -> Iterator[Listed]:
        """The scenes below it, by key. Raises SceneError where it cannot be listed."""
        pattern, parts = Pattern.of(origin.pattern), 0
        for said in self._objects():
            path = said["path"][len(self.path) :].lstrip("/")
            if not pattern.takes(path):
                continue
            if not pattern.says_ending and (_IN_DELIVERY.search(path) or OF_LANDSAT.fullmatch(path.rpartition("/")[2])):
                parts += 1
                continue
            entry = SceneEntry(
                name=name_of(path, pattern.says_ending, origin.name),
                uri=f"{self.scheme}://{self.bucket}/{said['path']}",
            )
            yield Listed(entry, Stamp(said["size"], said["last_modified"].timestamp(), said["e_tag"]))
        if parts:
            left.remark(
                f"{parts} files in {self} belong to deliveries (SAFE, Landsat, Zarr), whose folders are not read in a "
                "bucket: name them by a STAC catalogue, or take single files by a `pattern`."
            )

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.path}"

    def _objects(self) -> Iterator[ObjectMeta]:
        from obstore.exceptions import BaseError  # noqa: PLC0415  # needed for buckets alone

        try:
            for chunk in self._store().list(self.path or None, chunk_size=_CHUNK):
                yield from chunk
        except (BaseError, ValueError, OSError) as error:
            raise SceneError(f"The bucket {self.bucket} cannot be listed: {_reason(error)}.") from None

    def _store(self) -> S3Store | GCSStore | AzureStore:
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  # as above

        client: ClientConfig = {"connect_timeout": "10s", "timeout": "60s"}
        retry: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=_PATIENCE)}
        if self.scheme == "gs":
            google: GCSConfig = {"skip_signature": unsigned("gs")}
            return GCSStore(self.bucket, config=google, client_options=client, retry_config=retry)
        if self.scheme == "az":
            azure: AzureConfig = {"skip_signature": unsigned("az")}
            return AzureStore(self.bucket, config=azure, client_options=client, retry_config=retry)
        at = Endpoint.of()
        said: S3Config = {"virtual_hosted_style_request": at.virtual, "skip_signature": at.unsigned}
        if at.url:
            said["endpoint"] = at.url
            client["allow_http"] = at.url.startswith("http://")
        return S3Store(self.bucket, config=said, client_options=client, retry_config=retry)

    def clock(self) -> Callable[[], float]:
        """The store's time, as its answers say it, or this machine's where they do not; asked for once, when needed."""
        url = _GOOGLE if self.scheme == "gs" else Endpoint.of().url or _AMAZON
        return time.time if self.scheme == "az" else lambda: time.time() + _ahead(url)


@cache
def _ahead(url: str) -> float:
    """Seconds that a server's clock is ahead of this machine's; 0 where it cannot be told. No credentials are sent."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  # an endpoint is http or https
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
            said = answer.headers["Date"]
    except urllib.error.HTTPError as error:  # what it refuses has a date too
        said = error.headers["Date"]
    except (OSError, ValueError):
        return 0.0
    try:
        ahead = parsedate_to_datetime(said).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
    return ahead if abs(ahead) > _SLACK else 0.0


def _reason(error: Exception) -> str:
    """Why, without what the server sent back, which may repeat credentials."""
    text = f"{type(error).__name__} {error}"
    code = re.search(r"<Code>(\w+)</Code>", text)
    if code:
        return f"the server says {code[1]}"
    return next((said for sign, said in _REASONS.items() if re.search(sign, text)), "the store gives no reason")
