"""What a run has its blocks done by: that its preparations keep nobody from ending."""

from __future__ import annotations

import subprocess
import sys

HANGS = """
import importlib, time
from flows.crew import import_early
importlib.import_module = lambda name: time.sleep(1000)
import_early()
"""


def test_a_process_that_ends_does_not_wait_for_what_it_was_importing():
    """As where Ctrl-C came amid an import of the main thread, which leaves Python's lock of imports taken."""
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=60)
