"""The limit: session.run over the windows of maskmill's plan, in as many processes of one thread, and nothing else.

The pixels lie in memory; cutting, scaling and argmax are not timed.
"""

from __future__ import annotations

import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import rasterio
from given import given, say, scaled, session_of


def reflected(start: int, stop: int, size: int) -> np.ndarray:
    index = np.mod(np.arange(start, stop), 2 * (size - 1))
    return np.minimum(index, 2 * (size - 1) - index)


def run(task: SimpleNamespace, share: int, ready: object, queue: object) -> None:
    with rasterio.open(task.scene) as file:
        scene = file.read()
    _, height, width = scene.shape
    session, core, mask = session_of(task, 1), task.core, None
    name = session.get_inputs()[0].name
    places = [(top, left) for top in range(0, height, core) for left in range(0, width, core)]
    # Where windows are blended, blocks share some and compute them twice.
    windows = [places[number % len(places)] for number in range(share, task.windows, task.threads)]
    mask = np.zeros((height, width), np.uint8)
    total = 0.0
    for first in range(-1, len(windows), task.batch):  # the first is to warm up
        chosen = windows[max(0, first) : max(0, first) + task.batch]
        chosen += chosen[-1:] * (task.batch - len(chosen))
        batch = np.stack([cut(scene, task, *place) for place in chosen])
        if first == -1:
            session.run(None, {name: batch})
            ready.wait()
        start = time.perf_counter()
        said = session.run(None, {name: batch})[0]
        total += time.perf_counter() - start
        for (top, left), one in zip(chosen, said, strict=True):
            kept = one[:, task.margin : task.margin + core, task.margin : task.margin + core].argmax(0)
            place = mask[top : top + core, left : left + core]
            place[:] = kept[: place.shape[0], : place.shape[1]]
    queue.put((total, mask))


def cut(scene: np.ndarray, task: SimpleNamespace, top: int, left: int) -> np.ndarray:
    _, height, width = scene.shape
    rows = reflected(top - task.margin, top - task.margin + task.window, height)
    cols = reflected(left - task.margin, left - task.margin + task.window, width)
    return scaled(scene[:, rows[:, None], cols], task)


def main() -> None:
    task = given()
    context = multiprocessing.get_context("spawn")
    queue, ready = context.Queue(), context.Barrier(task.threads)
    processes = [context.Process(target=run, args=(task, k, ready, queue)) for k in range(task.threads)]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    np.save(f"{task.out}.npy", np.max([mask for _, mask in found], axis=0))
    seconds = max(seconds for seconds, _ in found)
    say(0, (), seconds=seconds, window=task.window, overlap=2 * task.margin, mask=f"{task.out}.npy")


if __name__ == "__main__":
    main()
