"""A bucket: objects that are put whole, created only if absent, listed and fetched; and what to say where it refuses.

A store that is away, or that answers with 5xx, is asked again after growing pauses for as long as a disk is. Every call
is counted, and a job may set a ceiling. What a server sends back is never repeated: it may hold credentials.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import SettingsError
from pipeline.outside import Store, parts_of
from pipeline.store.objects import PATIENCE, put_whole

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Config, S3Store

PART = 8 << 20  # bytes of a part where an object is put in several
_PIECE = 4 << 20
_REASONS = {  # by what stands in an error or its name; the first that fits
    "PermissionDenied|Unauthenticated|AccessDenied|ExpiredToken": "it refuses the credentials that are given here, or "
    "they have expired",
    "NoSuchBucket": "there is no such bucket",
    "NotFound": "there is no such bucket or object",
    r"(?i)metadata|credential|imds|169\.254": "no credentials for it are given here, by the environment or a file",
    "(?i)error sending request|connection|connect error|operation timed out|dns error": "no server answers there",
}
Result = TypeVar("Result")


class Bucket:
    """A folder of a bucket. Keys are relative to it.

    Raises SettingsError, here and in every method, where the store refuses for good or the ceiling is reached.
    """

    def __init__(self, address: str, said: Store, patience: float = PATIENCE) -> None:
        self.address, self.said = address, said
        self.requests = 0
        self._lock = threading.Lock()
        self._prefix = parts_of(address)[2]
        self._store = _opened(address, said, patience)
        self._conditional: bool | None = None

    def key(self, name: str) -> str:
        """The whole key of an object."""
        return f"{self._prefix}/{name}" if self._prefix else name

    def put(self, name: str, content: bytes | Path) -> None:
        """Put an object whole; a file of several parts is read as they go."""
        import obstore  # noqa: PLC0415  # needed for buckets alone

        size = content.stat().st_size if isinstance(content, Path) else len(content)
        many = size > PART
        self._ask(
            lambda: obstore.put(self._store, self.key(name), content, use_multipart=many, chunk_size=PART),
            f"{name} cannot be put into",
            2 + -(-size // PART) if many else 1,
        )

    def create(self, name: str, content: bytes) -> bool:
        """Put an object unless there is one; say whether what is there now is this. Of several at once, one succeeds.

        Where the store has no conditional put, look `conditional`, the last succeeds.
        """
        import obstore  # noqa: PLC0415  # as above
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415  # as above

        def create() -> bool:
            try:
                obstore.put(self._store, self.key(name), content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        # An answer that was lost on its way is asked for again, and then it is there.
        return self._ask(create, f"{name} cannot be put into") or self.get(name) == content

    @property
    def conditional(self) -> bool:
        """Whether the store puts an object only if absent; tried once."""
        if self._conditional is None:
            name = f".leases/.probe-{uuid.uuid4().hex}"
            self.create(name, b"1")
            self._conditional = not self.create(name, b"2")
            self.delete([name])
        return self._conditional

    def get(self, name: str) -> bytes | None:
        """What an object holds; None where there is none."""
        import obstore  # noqa: PLC0415  # as above
        from obstore.exceptions import NotFoundError  # noqa: PLC0415  # as above

        def got() -> bytes | None:
            try:
                return bytes(obstore.get(self._store, self.key(name)).bytes())
            except (NotFoundError, FileNotFoundError):
                return None

        return self._ask(got, f"{name} cannot be read from")

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to a file here, whole."""
        content = self.get(name)
        if content is None:
            raise SettingsError(f"{name} went from {self.address} while it was fetched: run again.")
        put_whole(path, content)

    def list(self, folder: str) -> dict[str, ObjectMeta]:
        """What lies below a folder, by names relative to it."""
        import obstore  # noqa: PLC0415  # as above

        within = self.key(folder).rstrip("/")

        def listed() -> list[ObjectMeta]:
            pages = obstore.list(self._store, within or None, chunk_size=1000)
            return [one for page in pages for one in page]

        found = self._ask(listed, f"{folder} cannot be listed in")
        self._count(len(found) // 1000)
        skipped = len(within) + 1 if within else 0
        return {str(one["path"])[skipped:]: one for one in found}

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there too."""
        import obstore  # noqa: PLC0415  # as above
        from obstore.exceptions import NotFoundError  # noqa: PLC0415  # as above

        def gone(name: str) -> None:
            try:
                obstore.delete(self._store, self.key(name))
            except (NotFoundError, FileNotFoundError):
                return

        for name in names:
            self._ask(lambda name=name: gone(name), f"{name} cannot be removed from")  # type: ignore[misc]

    def now(self) -> float:
        """The store's time, as it dates an object that is put now; to the second."""
        name = f".leases/.now-{uuid.uuid4().hex}"
        self.put(name, b"")
        seen = self.modified(name)
        self.delete([name])
        return time.time() if seen is None else seen

    def modified(self, name: str) -> float | None:
        """When an object was put, by the store's clock; None where there is none."""
        import obstore  # noqa: PLC0415  # as above
        from obstore.exceptions import NotFoundError  # noqa: PLC0415  # as above

        def seen() -> float | None:
            try:
                return float(obstore.head(self._store, self.key(name))["last_modified"].timestamp())
            except (NotFoundError, FileNotFoundError):
                return None

        return self._ask(seen, f"{name} cannot be looked at in")

    def _count(self, requests: int) -> None:
        with self._lock:
            self.requests += requests
            most = self.said.max_requests
            if most is not None and self.requests > most:
                raise SettingsError(
                    f"`store: {{max_requests: {most}}}` is reached for {self.address}. What is there is kept; the same "
                    "command goes on from there."
                )

    def _ask(self, act: Callable[[], Result], what: str, requests: int = 1) -> Result:
        from obstore.exceptions import BaseError  # noqa: PLC0415  # as above

        self._count(requests)
        try:
            return act()
        except (BaseError, ValueError, OSError) as error:
            raise SettingsError(f"{what} {self.address}: {_reason(error)}. Run again when that is mended.") from None


def _opened(address: str, said: Store, patience: float) -> S3Store | GCSStore | AzureStore:
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  # as above

    from pipeline.store.credentials import endpoint_of, profile_of  # noqa: PLC0415  # as above

    scheme, bucket, _ = parts_of(address)
    client: ClientConfig = {"connect_timeout": "10s", "timeout": "120s"}
    retry: RetryConfig = {"max_retries": 20, "retry_timeout": timedelta(seconds=patience)}
    if scheme == "gs":
        return GCSStore(bucket, client_options=client, retry_config=retry)
    if scheme == "az":
        return AzureStore(bucket, client_options=client, retry_config=retry)
    url, virtual = endpoint_of(said.endpoint)
    config: S3Config = {"virtual_hosted_style_request": virtual, "request_payer": said.requester_pays}
    if said.region:
        config["region"] = said.region
    if url:
        config["endpoint"] = url
        client["allow_http"] = url.startswith("http://")
    provider = profile_of()
    return S3Store(bucket, config=config, client_options=client, retry_config=retry, credential_provider=provider)


def _reason(error: Exception) -> str:
    """Why, without what the server sent back."""
    text = f"{type(error).__name__} {error}"
    said = next((said for sign, said in _REASONS.items() if re.search(sign, text)), None)
    code = re.search(r"<Code>(\w+)</Code>", text)
    return said or (f"the server says {code[1]}" if code else "the store gives no reason")
