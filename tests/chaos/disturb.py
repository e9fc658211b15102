"""One disturbed run, from its seed to the comparison of bytes."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.world import Disturbed, assert_same

MOST_FAULTS = 12  # in one run; from then on it is left alone
BETWEEN = 0.7  # seconds between two, in the mean
TO_THE_END = 240.0  # seconds in which a run that is left alone must be done
AGAIN = {3, 130, 143, -9}  # exit codes after which the same command goes on: holes, stopped, terminated, killed


def disturb(folder: Path, seed: int) -> Counter[str]:
    """Disturb a run of the world in a folder until it is done; returns how often it survived what.

    Raises AssertionError where it hangs, ends as it should not, leaves something running, or makes other bytes.
    """
    rng, survived, out = random.Random(seed), Counter[str](), f"seed-{seed}"
    code: int | None = None
    while code != 0:
        run = Disturbed(folder, out)
        try:
            while run.process.poll() is None and survived.total() < MOST_FAULTS:
                time.sleep(rng.expovariate(1 / BETWEEN))
                fault = rng.choice(FAULTS)
                if fault(run, rng):
                    survived[fault.__name__.replace("_", " ")] += 1
            code = run.ended(TO_THE_END)
            assert code in AGAIN | {0}, f"seed {seed}: it ended with {code}: {run.said()}"
            assert "Traceback" not in run.said(), run.said()
        finally:
            run.close()
    assert_same(folder, out)
    shutil.rmtree(folder / out)
    return survived
