"""What a disk says: that it is full, or that it is away for a moment."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, a quota, or what one file may hold."""

AWAY = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ENOTCONN),
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    }
)
"""What disks and file servers say that may be back in a moment."""

_PROBE = 8 << 20  # bytes: more than any one write that may have been refused


def has_room(folder: Path) -> bool:
    """Whether a folder takes a few megabytes more: GDAL tells that a write was refused, and not why."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
    except OSError as error:
        return error.errno not in FULL
    return True
