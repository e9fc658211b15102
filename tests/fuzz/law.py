"""What holds for whatever a stranger gives: it is taken, or refused in a sentence, within a limit of time."""

from __future__ import annotations

import json
import os
import signal
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, settings

from pipeline.errors import BlockError, InputError

SECONDS = 20  # that one example may take: a hang, and not a slow machine, takes as many
TIMES = float(os.environ.get("FUZZ", "1"))


def fuzzed(examples: int, dear: bool = False) -> settings:
    """So many examples, times FUZZ; each run draws others, and prints how to draw a failing one again.

    One of the `dear`, which take seconds, is not looked for in a smaller form.
    """
    return settings(
        max_examples=max(1, round(examples * TIMES)),
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate) if dear else (Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


fuzz = pytest.mark.fuzz


@contextmanager
def limited(seconds: int = SECONDS):
    """Fail where what is done inside takes longer."""

    def late(*_):
        raise AssertionError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_sentence(text):
    """One line, ended as a sentence is, of a length that somebody reads."""
    assert "Traceback" not in text
    assert "Unexpected: " not in text
    assert text.endswith((".", "?", "…", ")")), text
    assert len(text) < 4000, len(text)
    text.encode()  # a lone surrogate could not be printed


def lawful(function, *arguments, **named):
    """Call it: what it gives, or None where it refuses in a sentence. Anything else fails the test."""
    with limited():
        try:
            return function(*arguments, **named)
        except (InputError, BlockError) as error:
            is_sentence(error.message)
            return None


def told(done, codes=(0, 2, 3)):
    """A command's end: a promised code, sentences on stderr, the code in the last line of --json too."""
    assert done.returncode in codes, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    assert "Unexpected: " not in done.stderr
    assert not done.left
    if done.returncode == 2 and done.stderr:
        assert done.stderr.splitlines()[-1].startswith("maskmill: "), done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.startswith("{") else None


def listing(folder):
    """Every file below a folder, and its bytes."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }
