"""What holds for all tests."""

import os
import signal
import tempfile

import pytest
from hypothesis import settings

from tests.warm import Warm

# Two slow cores shared with others: how long one example takes says nothing about the code.
settings.register_profile("maskmill", deadline=None)
# A gate says the same of the same commit; whoever works on it draws anew each time.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "maskmill"))

# What is measured here is measured here: the user's cache is neither read nor written.
_CACHE = tempfile.TemporaryDirectory(prefix="maskmill-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


@pytest.fixture(autouse=True)
def _signals():
    """Each test hears Ctrl-C.

    A shell that starts the tests in the background ignores it for them, and a command that ran in this process keeps
    its handlers.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="module")
def warm():
    """The command in a process that has its imports behind it."""
    process = Warm()
    yield process
    process.close()
