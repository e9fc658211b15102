"""`make stack`: one night of all services, told as it goes. Ends with 0 when the morning is as it should be."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.stack.morning import demand
from tests.stack.night import spend_a_night
from tests.stack.postgres import MISSING, installed


def main() -> int:
    """Spend the night in a folder that is gone afterwards."""
    if not installed():
        print(MISSING, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="maskmill-stack-") as folder:
        found = spend_a_night(Path(folder), lambda text: print(text, flush=True))
        demand(found)
        if found["as_root"]:
            print("The services ran as root: no other user can run this Python, or read this folder.")
        print(f"{found['night']['state']['name']}: {len(found['masks'])} scenes, the bytes of an undisturbed run.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
