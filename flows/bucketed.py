"""A job whose results go to a bucket: each scene is made in a workshop here, held there, and followed there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.folder import Folder
from pipeline.outside import Store
from pipeline.settings import Job

if TYPE_CHECKING:
    from pipeline.store.bucket import Bucket

Listen = Callable[[Any], None]
Follow = Callable[[Folder, Listen], AbstractContextManager[Listen]]


@contextmanager
def mirrored(job: Job, name: str) -> Iterator[Follow]:
    """What follows a scene's run to where the job's results go; in a folder, nothing has to.

    Raises LeaseError where another run holds the scene, and what `Mirror` raises.
    """
    if job.mirror is None:
        yield lambda _folder, listen: nullcontext(listen)
        return
    from pipeline.mirror import Mirror  # noqa: PLC0415  # needed for buckets alone
    from pipeline.store.hold import Hold  # noqa: PLC0415  # as above

    bucket = _bucket(job.mirror, job.store)
    with Hold.acquire(bucket, name) as hold:
        mirror = Mirror(bucket, hold, job.out, name)
        mirror.prepare()
        yield mirror.following


@cache  # of a process: its requests are counted together
def _bucket(address: str, said: Store) -> Bucket:
    from pipeline.store.bucket import Bucket  # noqa: PLC0415  # as above

    return Bucket(address, said)
