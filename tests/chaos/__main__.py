"""`python -m tests.chaos [--seed N] [--minutes M]`: one disturbed run, or one after another for so many minutes."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.disturb import disturb
from tests.chaos.world import make_world


def main() -> None:
    parser = argparse.ArgumentParser("tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0.0)
    asked = parser.parse_args()
    survived: Counter[str] = Counter()
    until, seed = time.monotonic() + 60 * asked.minutes, asked.seed
    with tempfile.TemporaryDirectory(prefix="maskmill-chaos-") as name:
        make_world(Path(name))
        while seed == asked.seed or time.monotonic() < until:
            start = time.monotonic()
            found = disturb(Path(name), seed)
            survived += found
            told = ", ".join(f"{count} × {fault}" for fault, count in sorted(found.items()))
            print(f"chaos: seed {seed}: the same bytes after {told}, {time.monotonic() - start:.0f} s", flush=True)
            seed += 1
    print(json.dumps({"seeds": seed - asked.seed, "faults": dict(sorted(survived.items()))}))


if __name__ == "__main__":
    main()
