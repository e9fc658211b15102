"""Whom services run as where the tests run as root: as in their containers, somebody who is not."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Where any Python of this version finds all.
PATHS = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
_USERS = ("postgres", "nobody")


def ordinary() -> dict[str, Any]:
    """What makes `subprocess` start a process as an ordinary user; nothing where this process is one already."""
    if os.geteuid() != 0:
        return {}
    who = next(one for name in _USERS if (one := _known(name)))
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Let a file or a folder be the ordinary user's."""
    if said := ordinary():
        os.chown(path, said["user"], said["group"])


def python_for(folder: Path) -> str | None:
    """A Python by which that user can run maskmill in a folder: ours, or the system's where ours is root's alone."""
    system = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    return next((one for one in (sys.executable, system) if one and _can_run(one, folder)), None)


def _can_run(python: str, folder: Path) -> bool:
    words = [python, "-c", "import flows.cli, prefect.server.api.server, os, sys; os.listdir(sys.argv[1])", str(folder)]
    around = {**os.environ, "PYTHONPATH": PATHS, "HOME": str(folder), "PREFECT_HOME": str(folder / "probe")}
    with suppress(PermissionError):
        return not subprocess.run(words, cwd="/", env=around, capture_output=True, **ordinary()).returncode
    return False


def _known(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
