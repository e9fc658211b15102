"""Whom services run as where the tests run as root: as in their containers, somebody who is not."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def can_run(folder: Path) -> bool:
    """Whether that user can import maskmill and work in a folder: Python, or the folder, may be root's alone."""
    words = [sys.executable, "-c", "import flows.cli, os, sys; os.listdir(sys.argv[1])", str(folder)]
    around = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return not subprocess.run(words, cwd="/", env=around, capture_output=True, **ordinary()).returncode


def _known(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
