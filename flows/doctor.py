"""What this machine can run, and what to do about what it cannot. Nothing here fails: it is told."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import InvalidRequirement, Requirement

from flows.server import answers

NEEDED_DRIVERS = ("GTiff", "COG", "PNG", "JPEG", "VRT")
USEFUL_DRIVERS = ("JP2OpenJPEG", "WEBP")
LITTLE_BYTES = 2 * 2**30
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: `broken` is essential, `limited` leaves something out, `ok` is as it should be."""

    what: str
    state: Literal["ok", "limited", "broken"]
    found: str
    do: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"what": self.what, "state": self.state, "found": self.found, "do": self.do}


def examined() -> list[Check]:
    """Look at everything, the essential first."""
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        packages,
        runtimes,
        _providers,
        _gdal,
        _prefect_server,
        _machine,
    )
    return [check for look in looks for check in _told(look)]


def _told(look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """What a look finds; what it raises becomes a finding, too: a broken package must not hide the others."""
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001  # a doctor reports whatever is wrong
        found = " ".join(f"{type(error).__name__}: {error}".split())
        yield Check(look.__name__.strip("_"), "broken", found, "install maskmill anew in an empty environment")


def _python() -> Iterator[Check]:
    yield Check("Python", "ok", f"{platform.python_version()}, {sys.executable}")


def packages(of: str = "maskmill") -> Iterator[Check]:
    """Whether every package that maskmill requires here is there, in a version that it can use."""
    try:
        said = metadata.requires(of) or []
    except metadata.PackageNotFoundError:
        yield Check(of, "broken", "not installed as a package", "run `pip install .` in its folder")
        return
    for line in said:
        try:
            need = Requirement(line)
        except InvalidRequirement as error:
            yield Check(line, "limited", str(error), "install a maskmill that was built properly")
            continue
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield _package(need)


def _package(need: Requirement) -> Check:
    try:
        version = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        if need.name in _RUNTIMES:  # what matters is that one of the two is there: `runtimes` says so
            return Check(need.name, "limited", "not installed", f"install {need.name}, unless its twin is there")
        return Check(need.name, "broken", "not installed", f"pip install '{need.name}{need.specifier}'")
    if not need.specifier.contains(version, prereleases=True):
        found = f"{version}, which is not {need.specifier}"
        return Check(need.name, "broken", found, f"pip install '{need.name}{need.specifier}'")
    return Check(need.name, "ok", version)


def runtimes() -> Iterator[Check]:
    """Whether exactly one of the two packages that share the module `onnxruntime` is installed."""
    there = [name for name in _RUNTIMES if any(True for _ in metadata.distributions(name=name))]
    if len(there) == 1:
        yield Check("ONNX Runtime", "ok", there[0])
    elif there:
        yield Check(
            "ONNX Runtime",
            "broken",
            "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them",
        )
    else:
        yield Check(
            "ONNX Runtime", "broken", "not installed", "pip install onnxruntime-gpu (it runs without a GPU, too)"
        )


def _providers() -> Iterator[Check]:
    from pipeline.network.providers import CPU, instruction_set, providers_that_start  # noqa: PLC0415

    for name, reason in providers_that_start().items():
        if reason is None:
            yield Check(name, "ok", f"runs ({instruction_set()})" if name == CPU else "runs")
        else:
            yield Check(name, "broken" if name == CPU else "limited", reason)


def _gdal() -> Iterator[Check]:
    import rasterio  # noqa: PLC0415
    from rasterio.io import MemoryFile  # noqa: PLC0415

    with rasterio.Env() as environment:
        drivers = environment.drivers()
    yield Check("GDAL", "ok", f"{rasterio.__gdal_version__}, rasterio {rasterio.__version__}")
    for name in NEEDED_DRIVERS + USEFUL_DRIVERS:
        if name in drivers:
            yield Check(f"GDAL driver {name}", "ok", "there")
        else:
            state: Literal["broken", "limited"] = "broken" if name in NEEDED_DRIVERS else "limited"
            yield Check(f"GDAL driver {name}", state, "missing", "install rasterio from PyPI, whose wheels have it")
    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0)}
    with MemoryFile() as file, file.open(**profile, **place, compress="zstd") as image:
        yield Check("PROJ and ZSTD", "ok", f"EPSG:32633 is {image.crs.to_dict().get('proj', 'known')}")


def _prefect_server() -> Iterator[Check]:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        yield Check("Prefect server", "ok", "none named; `maskmill schedule` starts its own")
    elif answers(url, 5.0):
        yield Check("Prefect server", "ok", f"{url} answers")
    else:
        yield Check("Prefect server", "broken", f"{url} does not answer", "start it, or unset PREFECT_API_URL")


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cores", "ok", str(cores))
    free = psutil.virtual_memory().available
    yield _room("memory", free, "close other programs, or give `--workers 1` and a smaller `--window`")
    yield _room("disk here", shutil.disk_usage(Path.cwd()).free, "make room, or let `--out` name another disk")


def _room(what: str, free: int, do: str) -> Check:
    found = f"{free / 2**30:.1f} GiB free"
    return Check(what, "ok", found) if free >= LITTLE_BYTES else Check(what, "limited", found, do)
