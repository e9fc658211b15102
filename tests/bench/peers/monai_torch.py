"""MONAI's sliding windows over the network in torch."""

from __future__ import annotations

import time

from given import given
from sliding import measure
from torch_network import torch_network

if __name__ == "__main__":
    task, start = given(), time.perf_counter()
    measure(task, start, torch_network(task.model, task.threads), ("monai", "torch"))
