"""No peer: how far the torch network's logits are from ONNX Runtime's, over a part of the scene."""

from __future__ import annotations

import time

import numpy as np
import rasterio
import torch
from given import given, say, scaled, session_of
from rasterio.windows import Window
from torch_network import torch_network

SIDE = 512


def main() -> None:
    task, start = given(), time.perf_counter()
    with rasterio.open(task.scene) as file:
        pixels = scaled(file.read(window=Window(0, 0, SIDE, SIDE)), task)[None]
    session = session_of(task, 1)
    expected = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    with torch.inference_mode():
        found = torch_network(task.model, task.threads)(torch.from_numpy(pixels)).numpy()
    say(start, ("torch",), difference=float(np.abs(found - expected).max()))


if __name__ == "__main__":
    main()
