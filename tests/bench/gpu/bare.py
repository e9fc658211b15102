"""The fused graph alone: pixels a second through `Engine.run`, by precision, window, batch and calling threads."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from pipeline.errors import MaskmillError
from pipeline.network.engine import Engine
from pipeline.network.providers import CUDA
from tests.bench.gpu.card import Card
from tests.bench.gpu.engines import MARGIN, article, engine_of, take_options, told_by, windows
from tests.bench.gpu.sheet import Asked, Sheet

VARIANTS = {  # at the first window and batch alone: what else might be faster
    "channels last": {"prefer_nhwc": "1"},
    "exhaustive search": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "tf32 off by environment alone": {},
}
CALLERS = (1, 2, 3)


def part(asked: Asked, sheet: Sheet, folder: Path) -> None:
    asked = asked.anew()
    for precision in asked.precisions:
        _rows(asked, sheet, folder, precision, "plain", asked.windows, asked.batches)
        for name, options in VARIANTS.items() if asked.device == "cuda" else ():
            if name.startswith("tf32") and precision != "fp32":
                continue
            _rows(asked, sheet, folder, precision, name, asked.windows[:1], asked.batches[:1], **options)


def _rows(
    asked: Asked, sheet: Sheet, folder: Path, precision: str, variant: str, sides: tuple, batches: tuple, **options: str
) -> None:
    left = max(30.0, asked.seconds - (time.monotonic() - asked.began))
    if not asked.in_time():
        return
    what = {"device": asked.device, "precision": precision, "each": asked.each, "seconds": left, "variant": variant}
    try:
        for row in told_by(__name__, what, str(folder), sides, batches, limit=left + 60, **options):
            sheet.row("bare", precision=precision, variant=variant, **row)
    except RuntimeError as error:
        sheet.row("failed", precision=precision, variant=variant, because=str(error)[-300:])


def rate(engine: Engine, callers: int, seconds: float) -> float:
    """Windows a second of so many threads that call the engine, each with a batch of its own."""
    batches = [windows(engine.batch, engine.window, seed) for seed in range(callers)]
    ready, done = threading.Barrier(callers + 1), [0] * callers
    until = [0.0]

    def call(number: int) -> None:
        engine.run(*batches[number])  # its lane is made
        ready.wait()
        while time.perf_counter() < until[0]:
            engine.run(*batches[number])
            done[number] += 1

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    until[0] = float("inf")
    ready.wait()
    start = time.perf_counter()
    until[0] = start + seconds
    for thread in threads:
        thread.join()
    return sum(done) * engine.batch / (time.perf_counter() - start)


def measured(engine: Engine, callers: int, seconds: float) -> dict:
    """One row: windows and megapixels a second, of windows and of their cores; how busy the GPU was."""
    with Card() as card:
        found = rate(engine, callers, seconds)
    core = engine.window - 2 * MARGIN
    return {
        "window": engine.window,
        "batch": engine.batch,
        "callers": callers,
        "megapixels": found * engine.window**2 / 1e6,
        "of cores": found * core**2 / 1e6,
        "busy": card.busy,
        "card": card.said,
    }


def _in_process(what: dict, folder: str, sides: list[int], batches: list[int]) -> None:
    take_options()
    if what["variant"].startswith("tf32"):
        from pipeline.network import providers

        plain = providers.cuda_providers
        providers.cuda_providers = lambda precision="fp32": plain("fp16")  # fp16's options, under TF32's variable
    _, network = article(Path(folder))
    until = time.monotonic() + what["seconds"]
    for side in sides:
        for batch in batches:
            if time.monotonic() > until:
                return
            start = time.perf_counter()
            try:
                engine = engine_of(network, what["device"], what["precision"], side, batch)
                engine.warm()
            except MaskmillError as error:
                print(json.dumps({"window": side, "batch": batch, "refused": error.message}))
                continue
            ready = time.perf_counter() - start
            first = side == sides[0] and batch == batches[0]
            for callers in CALLERS if first else CALLERS[1:2]:
                row = measured(engine, callers, what["each"])
                print(json.dumps({**row, "bound": engine.provider == CUDA, "seconds to ready": ready}))
            if first and what["variant"] == "plain":
                engine = engine_of(
                    network, what["device"], what["precision"], side, batch, bound=engine.provider != CUDA
                )
                row = measured(engine, CALLERS[1], what["each"])
                print(json.dumps({**row, "bound": engine.provider != CUDA}))


if __name__ == "__main__":
    _in_process(*(json.loads(word) for word in sys.argv[1:]))
