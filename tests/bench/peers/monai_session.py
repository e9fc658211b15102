"""MONAI's sliding windows over the network in ONNX Runtime."""

from __future__ import annotations

import time

import torch
from given import given, session_of
from sliding import measure
from torch import Tensor

if __name__ == "__main__":
    task, start = given(), time.perf_counter()
    torch.set_num_threads(task.threads)
    session = session_of(task, 0)
    name = session.get_inputs()[0].name

    def predictor(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: pixels.numpy()})[0])

    measure(task, start, predictor, ("monai", "torch"))
