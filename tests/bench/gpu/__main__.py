"""`python -m tests.bench.gpu [--part PART]…`: what a GPU makes of maskmill; all parts where none is named.

check    which nodes run where; CPU = GPU, class flips per million; are bytes the same by batch, and float32 float32
bare     the fused graph alone, by precision, window, batch and calling threads, with and without bound buffers
run      GeoTIFF → Zarr + COG beside that bare rate: seconds by stage, how busy the GPU is, power and clocks
torch    the same weights in torch, float16 and channels last: windows alone, and slid over an image in memory

Figures are written as they come, to $OUT or .bench/results, as gpu-PART.json. Each part ends by itself after --seconds.
Without a GPU, or with --rehearse, the same code runs in small on the CPU, which says that it works and nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.network.providers import why_no_cuda
from tests.bench.command import ROOT
from tests.bench.gpu import bare, check, whole
from tests.bench.gpu.sheet import Asked, Sheet

PARTS = {"check": check.part, "bare": bare.part, "run": whole.part}


def main(words: list[str]) -> None:
    given = _parser().parse_args(words)
    missing = why_no_cuda()
    if missing and not given.rehearse:
        print(f"There is no GPU to measure: {missing}. What follows is a rehearsal on the CPU.", flush=True)
    rehearsal = bool(missing) or given.rehearse
    asked = Asked.small(given.seconds) if rehearsal else Asked.of(given)
    for name in given.part or [*PARTS, "torch"]:
        print(f"\n{name}", flush=True)
        sheet = Sheet(name, rehearsal)
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            try:
                if name == "torch":
                    _torch(asked, sheet, Path(folder))
                else:
                    PARTS[name](asked, sheet, Path(folder))
            except Exception as error:  # one part's failure leaves the others their minutes
                if rehearsal:
                    raise
                sheet.note(failed=f"{type(error).__name__}: {error}")
                print(f"  failed: {type(error).__name__}: {error}", flush=True)
        print(f"  → {sheet.path}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tests.bench.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    numbers = {"type": lambda text: tuple(map(int, text.split(",")))}
    parser.add_argument("--part", action="append", choices=[*PARTS, "torch"])
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--seconds", type=float, default=480, help="after which a part begins nothing new")
    parser.add_argument("--precisions", type=lambda text: tuple(text.split(",")), default=("fp16", "tf32", "fp32"))
    parser.add_argument("--windows", **numbers, default=(1072, 560, 2096))
    parser.add_argument("--batches", **numbers, default=(8, 4, 16, 2, 1))
    parser.add_argument("--gigapixels", type=float, default=4, help="the scene of the part run")
    parser.add_argument("--compress", default="NONE", help="the scene's compression: NONE, DEFLATE, ZSTD, …")
    parser.add_argument("--flag", default="threads", help="the flag of `maskmill run` that takes the reader threads")
    parser.add_argument("--threads", **numbers, default=(1, 2, 4, 8, 16), help="reader threads of the part run")
    parser.add_argument("--more", default="", help="further flags of `maskmill run`")
    parser.add_argument("--folder", help="where scenes and results of the part run are made; default: the system's")
    return parser


def _torch(asked: Asked, sheet: Sheet, folder: Path) -> None:
    """In a process of its own: torch brings CUDA libraries that need not be ONNX Runtime's."""
    arguments = [sys.executable, "-m", "tests.bench.gpu.peer", str(sheet.path), asked.as_json(), str(folder)]
    done = subprocess.run(arguments, cwd=ROOT, env=os.environ | {"PYTHONPATH": _path()})
    if done.returncode:
        raise SystemExit(f"The part torch ended with {done.returncode}.")


def _path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


if __name__ == "__main__":
    main(sys.argv[1:])
