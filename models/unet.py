"""The U-Net: bounded, exact under tiling. With nothing but its bands and outputs said, it is the article's.

Each level convolves twice, then halves the sides; on the way back it doubles them and convolves twice over what it has
and what the level saw on the way down. Nothing looks beyond a fixed distance: no global pooling, no attention, no
statistics of the window. Doubling on a stride of two is exact wherever a window begins, so a mask made of windows is
the mask of the whole image.

Source: Ronneberger, Fischer and Brox, U-Net (2015), https://arxiv.org/abs/1505.04597; "same" padding, batch norm and
doubling by repeated pixels are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.architecture import Norm, Rise

WIDTHS = (64, 128, 256)
"""Channels of the article's levels."""


class UNet(nn.Module):  # type: ignore[misc, unused-ignore]
    # ^ without torch installed, its classes are unknown to the type checker
    """Logits for each pixel.

    Parameters
    ----------
    bands
        Channels of the input.
    outputs
        Channels of the answer.
    widths
        Channels of the levels, the finest first. One less than their number is how often the sides are halved; the
        total stride is 2 to that power, and the input's sides must be multiples of it.
    norm
        What stands between a convolution and its ReLU: nothing, or batch norm, which folds into the convolution when
        the network is exported.
    rise
        How sides are doubled: by a transposed convolution of 2 × 2 with a stride of 2, or by a convolution of 1 × 1,
        each of whose pixels is then repeated: a quarter of the work, and no pattern of four.

    The input is float32 (N, bands, rows, cols), already scaled; the answer float32 (N, outputs, rows, cols).
    Raises ValueError where there are fewer than two levels.

    """

    def __init__(
        self, bands: int, outputs: int, widths: Sequence[int] = WIDTHS, norm: Norm = "none", rise: Rise = "transposed"
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a U-Net has at least two levels; {len(widths)} widths were given")
        self.stride = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(_level(before, after, norm) for before, after in pairwise([bands, *widths]))
        self.halve = nn.MaxPool2d(2)
        upwards = list(pairwise(reversed(widths)))
        self.rise = nn.ModuleList(_doubling(coarse, fine, rise) for coarse, fine in upwards)
        self.up = nn.ModuleList(_level(2 * fine, fine, norm) for _, fine in upwards)
        self.head = nn.Conv2d(widths[0], outputs, 1)
        if norm == "none":
            self.apply(_evened)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, outputs, rows, cols) of pixels (N, bands, rows, cols)."""
        seen = []
        for depth, level in enumerate(self.down):
            pixels = level(self.halve(pixels) if depth else pixels)
            seen.append(pixels)
        skips = reversed(seen[:-1])
        for rise, level, skip in zip(self.rise, self.up, skips, strict=True):
            pixels = level(torch.cat([skip, rise(pixels)], dim=1))
        logits: Tensor = self.head(pixels)
        return logits


def parameters(network: nn.Module) -> int:
    """How many numbers training finds."""
    return sum(weights.numel() for weights in network.parameters())


def work_per_pixel(network: nn.Module, side: int = 64) -> float:
    """Multiplications in convolutions per input pixel, counted while the network sees one window of `side` pixels."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    taps: dict[nn.Module, int] = {layer: _taps(layer) for layer in convolutions}
    counted: list[int] = []

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        counted.append(taps[layer] * answer.numel())

    hooks = [layer.register_forward_hook(count) for layer in convolutions]
    with torch.no_grad():
        network(torch.zeros(1, convolutions[0].in_channels, side, side))
    for hook in hooks:
        hook.remove()
    return sum(counted) / side**2


def _taps(layer: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Multiplications for each number of the answer; of a transposed convolution one tap in every stride reaches it."""
    if isinstance(layer, nn.ConvTranspose2d):
        return int(layer.weight[:, 0].numel() // math.prod(layer.stride))
    return int(layer.weight[0].numel())


def _level(before: int, after: int, norm: Norm) -> nn.Sequential:
    """Two convolutions of 3 × 3, each with its norm and ReLU; the sides stay."""
    return nn.Sequential(*_convolution(before, after, norm), *_convolution(after, after, norm))


def _convolution(before: int, after: int, norm: Norm) -> list[nn.Module]:
    # Batch norm has a shift of its own, so the convolution needs none.
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=norm == "none")
    return [convolution, *([nn.BatchNorm2d(after)] if norm == "batch" else []), nn.ReLU(inplace=True)]


def _doubling(coarse: int, fine: int, rise: Rise) -> nn.Module:
    if rise == "transposed":
        return nn.ConvTranspose2d(coarse, fine, 2, stride=2)
    # Channels shrink before the pixels double: the same answer as after it, for a quarter of the work.
    return nn.Sequential(nn.Conv2d(coarse, fine, 1), nn.Upsample(scale_factor=2, mode="nearest"))


def _evened(layer: nn.Module) -> None:
    """Begin so that ReLU neither fades nor grows what passes through, where no norm sees to it.

    Source: He et al., Delving deep into rectifiers (2015), equation 10; the U-Net's paper asks for the same.
    """
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
