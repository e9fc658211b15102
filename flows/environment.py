"""How Prefect is set up before it is imported: it reads the environment once, at import.

What a user has set stays as it is; their own ~/.prefect is used.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    # The embedded server needs 11 to 30 s to start and gives up after 20 by default.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # What we log per scene reaches the run's page, too.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,pipeline",
}


def prepare_prefect() -> None:
    """Set what is not set. Must be called before `import prefect`."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
