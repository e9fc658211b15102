"""The figures of the README, one line for each, no verdict.

rate     a scene of 100 megapixels through the whole command, beside bare session.run on as many windows, with as many
         processes of one thread and the same batch
memory   peaks of worker and coordinator at 30 and at 300 megapixels
resume   a run of 1000 blocks, killed when most are done: from the command to the first block that is due
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pipeline.store.ledger import read_ledger
from pipeline.store.record import State
from tests.bench.command import WORKERS, plan_of, run, shown
from tests.bench.scenes import write_scene

BARE_RUNS = 30  # windows timed in each process


def bare(model: str, window: int, ready: multiprocessing.synchronize.Barrier) -> float:
    """Seconds per window of the bare network, one thread, batch 1."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    pixels = np.random.default_rng(0).random((1, 3, window, window), np.float32)
    session.run(None, {name: pixels})
    ready.wait()
    start = time.perf_counter()
    for _ in range(BARE_RUNS):
        session.run(None, {name: pixels})
    return (time.perf_counter() - start) / BARE_RUNS


def _bare_in_process(queue: multiprocessing.Queue, *args: object) -> None:
    queue.put(bare(*args))


def bare_rate(model: str, window: int) -> float:
    """Windows per second of all processes together."""
    context = multiprocessing.get_context("spawn")
    queue, ready = context.Queue(), context.Barrier(WORKERS)
    processes = [context.Process(target=_bare_in_process, args=(queue, model, window, ready)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    rate = sum(1 / queue.get() for _ in processes)
    for process in processes:
        process.join()
    return rate


def rate(folder: Path, model: str) -> None:
    scene, flags = folder / "scene.tif", ("--model", model, "--workers", str(WORKERS))
    write_scene(scene, 10_240, 9_766)
    planned = plan_of(scene, *flags)
    before = bare_rate(model, planned["window"])
    seconds, report = run(scene, folder / Path(model).stem, *flags)
    after = bare_rate(model, planned["window"])  # machines slow down and speed up: the mean of both is fair
    alone = planned["windows"] / ((before + after) / 2)
    blocks = sum(report["seconds_by_stage"].values()) / WORKERS
    speed, stages = report["pixels"] / 1e6 / seconds, report["seconds_by_stage"]
    print(f"rate: {Path(model).stem}: {speed:.2f} megapixels/s, {seconds:.1f} s in all; bare {alone:.1f} s", end="; ")
    print(f"ratio {alone / seconds:.3f}, of the blocks alone {alone / blocks:.3f}; stages {stages}")


def memory(folder: Path, model: str) -> None:
    sides: tuple[str, ...] = ()  # the same for both
    for name, rows, cols in (("30", 5_000, 6_000), ("300", 15_000, 20_000)):
        scene = folder / f"megapixels-{name}.tif"
        write_scene(scene, rows, cols)
        sides = sides or ("--block", "2048", "--window", str(plan_of(scene, "--model", model)["window"]))
        seconds, report = run(scene, folder / "memory", "--model", model, *sides)
        used = report["memory"]
        print(
            f"memory: {name} megapixels in {seconds:.1f} s: worker {used['worker_peak'] / 2**20:.0f} MiB of "
            f"{used['planned']['worker'] / 2**20:.0f} planned, coordinator {used['coordinator_peak'] / 2**20:.0f} of "
            f"{used['planned']['coordinator'] / 2**20:.0f}"
        )


def resume(folder: Path, model: str) -> None:
    scene = folder / "thousand.tif"
    write_scene(scene, 25 * 128, 40 * 128)
    command = [sys.executable, "-m", "flows.cli", "run", str(scene), "--model", model, "--out", str(folder / "resume")]
    sides = [
        "--block",
        "128",
        "--window",
        str(128 + 2 * shown(model)["margin"]),
        "--device",
        "cpu",
        "--margin",
        "exact",
    ]
    ledger = folder / "resume" / "thousand" / "ledger"
    first = subprocess.Popen([*command, *sides], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (ledger / "journal.jsonl").exists() or len(read_ledger(ledger)[1].of(State.PENDING)) > 100:
        if first.poll() is not None:
            raise SystemExit(f"the first run ended by itself, with {first.returncode}")
        time.sleep(0.2)
    first.kill()
    first.wait()
    pending = len(read_ledger(ledger)[1].of(State.PENDING))
    start = time.perf_counter()
    second = subprocess.Popen([*command, *sides], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(read_ledger(ledger)[1].of(State.PENDING)) >= pending:
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    print(f"resume: {pending} of 1000 blocks pending: new blocks in the ledger after {seconds:.1f} s", end="; ")
    second.wait()
    print(f"{time.perf_counter() - start:.1f} s to the published result")
