"""The same weights in torch: float16, channels last; raw bytes in, classes out, as the fused graph has it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from tests.bench import networks
from tests.bench.command import ROOT
from tests.bench.gpu.card import Card
from tests.bench.gpu.engines import MARGIN, texture, windows
from tests.bench.gpu.sheet import Asked, Sheet

SLID = 16_384  # px: the side of the image in memory that is slid over


def main(sheet: Sheet, asked: Asked, folder: Path) -> None:
    asked = asked.anew()
    try:
        import torch
    except ImportError as error:
        sheet.note(missing=str(error))
        print(f"  {error}")
        return
    torch.backends.cudnn.benchmark = True
    sheet.note(torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    step, device = _step(torch, asked, folder)
    for side in asked.windows:
        for batch in asked.batches:
            if not asked.in_time():
                return
            try:
                _bare(torch, sheet, asked, step, device, side, batch)
            except torch.cuda.OutOfMemoryError:
                sheet.row("windows", window=side, batch=batch, refused="out of memory")
                torch.cuda.empty_cache()
    slid = SLID if device == "cuda" else 256
    _slide(torch, sheet, asked, step, device, slid)


def _step(torch, asked: Asked, folder: Path):
    """Raw windows on the device to classes on the device."""
    sys.path.insert(0, str(ROOT / "tests" / "bench" / "peers"))
    from torch_network import TorchNetwork

    file = networks.network_of("article", folder, None).file
    device = "cuda" if asked.device == "cuda" else "cpu"
    kind = torch.float16 if device == "cuda" else torch.float32
    network = TorchNetwork(str(file)).eval().to(device, kind, memory_format=torch.channels_last)
    shift = torch.tensor(networks._MEAN, device=device).view(1, 3, 1, 1)
    factor = torch.tensor([1 / one for one in networks._STD], device=device).view(1, 3, 1, 1)

    def step(raw):
        scaled = ((raw.float() - shift) * factor).to(kind).contiguous(memory_format=torch.channels_last)
        said = network(scaled)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return said.argmax(1).to(torch.uint8)

    return step, device


def _bare(torch, sheet: Sheet, asked: Asked, step, device: str, side: int, batch: int) -> None:
    """From pinned memory and back into it, one batch after another."""
    raw = torch.from_numpy(np.stack(windows(batch, side)[0]))
    raw = raw.pin_memory() if device == "cuda" else raw

    def once():
        return step(raw.to(device, non_blocking=True)).cpu()

    with torch.inference_mode(), Card() as card:
        for _ in range(3):
            once()
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < asked.each:
            once()
            done += batch
        seconds = time.perf_counter() - start
    figures = {"window": side, "batch": batch, "megapixels": done * side**2 / 1e6 / seconds}
    sheet.row("windows", **figures, busy=card.busy, **{"of cores": done * (side - 2 * MARGIN) ** 2 / 1e6 / seconds})


def _slide(torch, sheet: Sheet, asked: Asked, step, device: str, slid: int) -> None:
    """An image in memory, its cores one after another, nothing read and nothing written: what a script would do."""
    side, batch = asked.windows[0], asked.batches[0]
    core = side - 2 * MARGIN
    image, mask = texture(), np.empty((slid, slid), np.uint8)
    places = [(row, col) for row in range(0, slid, core) for col in range(0, slid, core)]
    rows = (np.arange(slid + side) - MARGIN) % image.shape[1]
    with torch.inference_mode(), Card() as card:
        start = time.perf_counter()
        for at in range(0, len(places), batch):
            chosen = places[at : at + batch]
            raw = np.stack([image[:, rows[r : r + side]][:, :, rows[c : c + side]] for r, c in chosen])
            pixels = torch.from_numpy(raw)
            pixels = pixels.pin_memory() if device == "cuda" else pixels
            said = step(pixels.to(device, non_blocking=True)).cpu().numpy()
            for (row, col), one in zip(chosen, said, strict=True):
                mask[row : row + core, col : col + core] = one[: slid - row, : slid - col]
        seconds = time.perf_counter() - start
    figures = {"image": slid, "window": side, "batch": batch, "megapixels a second": slid**2 / 1e6 / seconds}
    sheet.row("slid", **figures, busy=card.busy)


if __name__ == "__main__":
    main(Sheet("torch", path=Path(sys.argv[1])), Asked.from_json(sys.argv[2]), Path(sys.argv[3]))
