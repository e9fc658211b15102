"""One GPU for each worker, where there are several: each worker is shown its own alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

from pipeline.network.cuda import gpu_count

VISIBLE = "CUDA_VISIBLE_DEVICES"  # numbers or names; the driver reads it when a process first asks for GPUs


def gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = gpu_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(named[:count] if named else map(str, range(count)))


class OneGpu(WorkerPlugin):
    """Shows the n-th worker the n-th GPU, and begins anew where there are more workers than GPUs.

    Dask sets it up in each worker before the first block, and in the one that takes a dead worker's place.
    """

    name = "one-gpu"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def setup(self, worker: Worker) -> None:
        """Set the worker's environment; a local cluster's workers are called by their numbers."""
        os.environ[VISIBLE] = self.names[int(worker.name) % len(self.names)]
