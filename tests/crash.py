"""An update of the catalogue, killed before each of the acts that change the disk, one after the other.

`python -m tests.crash WORLD PLACE NAMES`: for k = 1, 2, … the world is copied to PLACE/k, and a forked process updates
the copy and dies before its k-th rename, link, removal or making of a folder, as by SIGKILL; the first that lives ends
it. The kernel's view is real: nothing of the catalogue is replaced.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

ACTS = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}


def die_before(act):
    """Have this process killed before its next acts, the one of this number, from 1."""
    left = act

    def heard(event, arguments):
        nonlocal left
        if event in ACTS:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


def main(world, place, names):
    from pipeline.catalog import update

    act = 0
    while True:
        act += 1
        there = Path(place) / str(act)
        shutil.copytree(world, there)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                die_before(act)
                update(there, names)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
