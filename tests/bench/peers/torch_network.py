"""The network in torch: the ONNX file's own weights in torch's own layers."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional


class TorchNetwork(nn.Module):
    """A U-Net as ONNX names its layers: (N, bands, rows, cols) float32 → logits (N, classes, rows, cols)."""

    def __init__(self, path: str) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.entry, self.exit = graph.input[0].name, graph.output[0].name
        self.names = {one.name: f"weight_{number}" for number, one in enumerate(graph.initializer)}
        for one in graph.initializer:
            weights = torch.from_numpy(numpy_helper.to_array(one).copy())
            # Channels last: up to 1.6 times as quick on a CPU.
            kernel = weights.dim() == 4
            weights = weights.contiguous(memory_format=torch.channels_last) if kernel else weights
            self.register_buffer(self.names[one.name], weights)
        self.steps = [(_LAYERS[node.op_type], list(node.input), node.output[0], _words(node)) for node in graph.node]
        self.last = {name: number for number, step in enumerate(self.steps) for name in step[1]}

    def forward(self, pixels: Tensor) -> Tensor:
        held = {self.entry: pixels.contiguous(memory_format=torch.channels_last)}
        for number, (layer, inputs, output, words) in enumerate(self.steps):
            arguments = [getattr(self, self.names[one]) if one in self.names else held.get(one) for one in inputs]
            held[output] = layer(arguments, words)
            for one in inputs:
                if self.last[one] == number:
                    held.pop(one, None)
            del arguments
        return held[self.exit]


def _words(node: onnx.NodeProto) -> dict:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _conv(inputs: list[Tensor], words: dict) -> Tensor:
    return functional.conv2d(*inputs, padding=words.get("pads", [0, 0])[:2], stride=words.get("strides", [1, 1]))


def _transposed(inputs: list[Tensor], words: dict) -> Tensor:
    return functional.conv_transpose2d(*inputs, stride=words["strides"])


_LAYERS: dict[str, Callable[[list[Tensor], dict], Tensor]] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "Relu": lambda inputs, _: functional.relu(inputs[0], inplace=True),
    "MaxPool": lambda inputs, words: functional.max_pool2d(inputs[0], words["kernel_shape"], words["strides"]),
    "Resize": lambda inputs, _: functional.interpolate(inputs[0], scale_factor=2, mode="nearest"),
    "Concat": lambda inputs, words: torch.cat(inputs, words["axis"]),
}


def torch_network(path: str, threads: int) -> nn.Module:
    """The network ready to be used, with so many threads."""
    torch.set_num_threads(threads)
    return TorchNetwork(path).eval()
