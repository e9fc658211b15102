"""A small U-Net: bounded, exact under tiling, and quick on a CPU.

Each level convolves twice, then halves the sides; on the way back it doubles them by repeating pixels and convolves
twice over what it has and what the level saw on the way down. Nothing looks beyond a fixed distance: no global pooling,
no attention, no statistics of the window. Nearest doubling on a stride of two is exact wherever a window begins, so a
mask made of windows is the mask of the whole image.

Source: Ronneberger, Fischer and Brox, U-Net (2015), https://arxiv.org/abs/1505.04597; batch norm, same padding and
nearest doubling are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class UNet(nn.Module):  # type: ignore[misc, unused-ignore]
    # ^ without torch installed, its classes are unknown to the type checker
    """Logits of each class for each pixel.

    Parameters
    ----------
    bands
        Channels of the input.
    classes
        Channels of the answer.
    widths
        Channels of the levels, the finest first. One less than their number is how often the sides are halved; the
        total stride is 2 to that power, and the input's sides must be multiples of it.

    The input is float32 (N, bands, rows, cols), already scaled; the answer float32 (N, classes, rows, cols).
    Raises ValueError where there are fewer than two levels.

    """

    def __init__(self, bands: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a U-Net has at least two levels; {len(widths)} widths were given")
        self.stride = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(_level(before, after) for before, after in pairwise([bands, *widths]))
        self.halve = nn.MaxPool2d(2)
        upwards = list(pairwise(reversed(widths)))
        # Channels shrink before the pixels double: the same answer as after it, for a quarter of the work.
        self.shrink = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in upwards)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.up = nn.ModuleList(_level(2 * fine, fine) for _, fine in upwards)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, classes, rows, cols) of pixels (N, bands, rows, cols)."""
        seen = []
        for depth, level in enumerate(self.down):
            pixels = level(self.halve(pixels) if depth else pixels)
            seen.append(pixels)
        skips = reversed(seen[:-1])
        for shrink, level, skip in zip(self.shrink, self.up, skips, strict=True):
            pixels = level(torch.cat([skip, self.enlarge(shrink(pixels))], dim=1))
        logits: Tensor = self.head(pixels)
        return logits


def parameters(network: UNet) -> int:
    """How many numbers training finds."""
    return sum(weights.numel() for weights in network.parameters())


def work_per_pixel(network: UNet, side: int = 64) -> float:
    """Multiplications in convolutions per input pixel, counted while the network sees one window of `side` pixels."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    taps: dict[nn.Module, int] = {layer: layer.weight[0].numel() for layer in convolutions}
    counted: list[int] = []

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        counted.append(taps[layer] * answer.numel())

    hooks = [layer.register_forward_hook(count) for layer in convolutions]
    with torch.no_grad():
        network(torch.zeros(1, convolutions[0].in_channels, side, side))
    for hook in hooks:
        hook.remove()
    return sum(counted) / side**2


def _level(before: int, after: int) -> nn.Sequential:
    """Two convolutions of 3 × 3, each with batch norm and ReLU; the sides stay."""
    return nn.Sequential(*_convolution(before, after), *_convolution(after, after))


def _convolution(before: int, after: int) -> list[nn.Module]:
    # Batch norm has a shift of its own, so the convolution needs none.
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
