"""Faults by real means: a disk that refuses (a library that is loaded first), and a disk that is small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOR_EVER = 1 << 20

# What reads, writes and syncs files whose names hold FLAKY_FILES, and does not while there are bytes in the file
# FLAKY_LEFT: each refusal takes one of them, unless there are very many.
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int refused(int fd) {
    const char *part = getenv("FLAKY_FILES"), *left = getenv("FLAKY_LEFT");
    char link[64], name[4096];
    if (!part || !left) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    struct stat found;
    if (!strstr(name, part) || stat(left, &found) || found.st_size == 0) return 0;
    if (found.st_size < FOR_EVER && truncate(left, found.st_size - 1)) return 0;
    errno = atoi(getenv("FLAKY_ERRNO"));
    return 1;
}

ssize_t write(int fd, const void *from, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return refused(fd) ? -1 : real(fd, from, count);
}

ssize_t read(int fd, void *into, size_t count) {
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    return refused(fd) ? -1 : real(fd, into, count);
}

ssize_t pread64(int fd, void *into, size_t count, off64_t at) {
    ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
    return refused(fd) ? -1 : real(fd, into, count, at);
}

size_t fread(void *into, size_t size, size_t count, FILE *file) {
    size_t (*real)(void *, size_t, size_t, FILE *) = dlsym(RTLD_NEXT, "fread");
    return refused(fileno(file)) ? 0 : real(into, size, count, file);
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    return refused(fd) ? -1 : real(fd);
}
"""


class Flaky:
    """An environment in which files whose names hold `part` are refused so many times, with an errno."""

    def __init__(self, library: Path, left: Path) -> None:
        self.library, self.left = library, left

    def refuses(self, part: str, times: int, errno: int) -> dict[str, str]:
        """The environment of the processes that are to meet it."""
        self.left.write_bytes(bytes(times))
        said = {"FLAKY_FILES": part, "FLAKY_LEFT": str(self.left), "FLAKY_ERRNO": str(errno)}
        return {"LD_PRELOAD": str(self.library), **said}

    @property
    def times_left(self) -> int:
        """How often it will be refused yet."""
        return self.left.stat().st_size


def flaky(folder: Path) -> Flaky:
    """Build the library; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no compiler")
    (folder / "flaky.c").write_text(_SOURCE)
    library = folder / "flaky.so"
    built = [
        compiler,
        "-shared",
        "-fPIC",
        f"-DFOR_EVER={FOR_EVER}",
        "-o",
        str(library),
        str(folder / "flaky.c"),
        "-ldl",
    ]
    subprocess.run(built, check=True)
    return Flaky(library, folder / "flaky.left")


def in_python(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with this repository in its path."""
    return _run([sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], environment)


def on_small_disk(size: str, folder: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process for which `folder` is a disk of its own; skips the test where none can be mounted."""
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount += [f'mount -t tmpfs -o size={size} none "$0" && exec "$@"', str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    return _run([*mount, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], {})


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, timeout=240, check=False)
