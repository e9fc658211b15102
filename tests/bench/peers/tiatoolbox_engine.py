"""TIAToolbox's SemanticSegmentor over the image as a slide, the network in torch, written to its own Zarr."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from given import given, say, scaled
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from torch_network import torch_network

WINDOW, MARGIN = 512, 64
CORE = WINDOW - 2 * MARGIN


class Model(ModelABC):
    """The network as TIAToolbox wants it: patches (N, row, col, band) uint8 → (N, row, col, class) of the core."""

    def __init__(self, task: SimpleNamespace) -> None:
        super().__init__()
        self.network, self.task = torch_network(task.model, task.threads), task

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(pixels)

    @staticmethod
    def infer_batch(model: Model, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        raw = batch_data.numpy().transpose(0, 3, 1, 2)
        with torch.inference_mode():
            said = model(torch.from_numpy(np.stack([scaled(one, model.task) for one in raw]))).softmax(1)
        kept = said[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return kept.permute(0, 2, 3, 1).contiguous().numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        return image.argmax(-1)


def main() -> None:
    task, start = given(), time.perf_counter()
    plain = [{"units": "baseline", "resolution": 1.0}]
    config = IOSegmentorConfig(
        input_resolutions=plain,
        output_resolutions=plain,
        patch_input_shape=(WINDOW, WINDOW),
        patch_output_shape=(CORE, CORE),
        stride_shape=(CORE, CORE),
        save_resolution=plain[0],
    )
    shutil.rmtree(task.out, ignore_errors=True)
    engine = SemanticSegmentor(Model(task), batch_size=1, num_workers=0, device="cpu", verbose=False)
    found = engine.run(
        [Path(task.scene)],
        ioconfig=config,
        patch_mode=False,
        auto_get_mask=False,
        save_dir=Path(task.out),
        output_type="zarr",
        overwrite=True,
        wsireader_kwargs={"mpp": (1.0, 1.0), "power": 10},
    )
    written = next(iter(found.values())) if isinstance(found, dict) else found[0]
    mask = f"{written}/predictions"
    say(start, ("tiatoolbox", "torch"), window=WINDOW, overlap=2 * MARGIN, mask=mask)


if __name__ == "__main__":
    main()
