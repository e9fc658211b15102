"""From torch to ONNX: the graph, with as many sides open as the network allows.

It takes a float32 image (n, bands, rows, cols), already scaled, and answers in float32 with the same n, rows and cols.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import nn

from models.architecture import stride_of
from models.parity import Pixels, Said, Speaker, speaker
from pipeline.errors import ModelError
from pipeline.network.card import Card
from pipeline.network.providers import ORT_ERRORS, sentence

OPSET = 18
INPUT = "image"
_LEAST = 8  # px: an example's sides are multiples of this, or of the stride
_OPEN: Mapping[int, str] = {0: "n", 2: "rows", 3: "cols"}


class Answering(nn.Module):  # type: ignore[misc, unused-ignore]
    # ^ without torch installed, its classes are unknown to the type checker
    """A network of logits with the activation of its card behind it: it answers in probabilities."""

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network = network
        behind = {"softmax": nn.Softmax(dim=1), "sigmoid": nn.Sigmoid(), "none": nn.Identity()}
        self.activation = behind[card.activation]
        self.stride = stride_of(network)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probabilities (n, channels, rows, cols) of pixels (n, bands, rows, cols); of values, these."""
        answer: torch.Tensor = self.activation(self.network(pixels))
        return answer


@dataclass(frozen=True, slots=True)
class Graph:
    """An exported network, and why a side of it is not open; None where all are."""

    model: ModelProto
    fixed: str | None


def exported(network: nn.Module, bands: int, answers: str = "logits", side: int | None = None) -> Graph:
    """Export a network; its output is called what it `answers`.

    Batch, rows and columns are open. With `side`, rows and columns are that many pixels, and they are 256 or so where
    the network cannot be exported open, or does not run at another size. Names of this machine's files, which the
    exporter notes at every node, are dropped. Raises ModelError where the network cannot be exported at all, or where
    what it gives is no raster of the image's size.
    """
    network = network.eval()
    stride = stride_of(network)
    if side is not None and (side < stride or side % stride):
        raise ModelError(f"A side of {side} pixels does not suit the network: take a multiple of its stride, {stride}.")
    _demand_raster(network, bands, stride)
    if side is not None:
        return Graph(_free_or_not(network, bands, answers, (side, side)), f"its sides are to be {side} pixels")
    step = max(stride, _LEAST)
    try:
        model = _graph(network, (torch.zeros(2, bands, 8 * step, 10 * step), _OPEN), answers)
        _run_at(model, bands, (1, 10 * step, 9 * step))
        return Graph(model, None)
    except ModelError as error:
        whole = -(-256 // stride) * stride
        return Graph(_free_or_not(network, bands, answers, (whole, whole)), error.message)


def _free_or_not(network: nn.Module, bands: int, answers: str, sides: tuple[int, int]) -> ModelProto:
    """Export with these sides, the batch open where that can be."""
    try:
        model = _graph(network, (torch.zeros(2, bands, *sides), {0: "n"}), answers)
        _run_at(model, bands, (3, *sides))
    except ModelError:
        model = _graph(network, (torch.zeros(1, bands, *sides), {}), answers)
        _run_at(model, bands, (1, *sides))
    return model


def noise(model: ModelProto, bands: int, stride: int) -> Iterator[Pixels]:
    """Two batches of normally distributed pixels, of sides that the exporter did not see where they are open."""
    random, step = np.random.default_rng(0), max(stride, _LEAST)
    count, rows, cols = (model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value for axis in (0, 2, 3))
    for sides in ((1, 8 * step, 12 * step), (3, 10 * step, 8 * step)):
        shape = (count or sides[0], bands, rows or sides[1], cols or sides[2])
        yield random.normal(size=shape).astype(np.float32)


def spoken(network: nn.Module) -> Speaker:
    """A network as torch runs it."""

    def say(pixels: Pixels) -> Said:
        with torch.no_grad():
            answer: Said = network(torch.from_numpy(pixels)).numpy()
        return answer

    return say


def _graph(network: nn.Module, example: tuple[torch.Tensor, Mapping[int, str]], answers: str) -> ModelProto:
    """Export with the sides open that the example names. Raises ModelError with torch's reason."""
    pixels, opened = example
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (pixels,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[answers],
                dynamic_shapes=(dict(opened),),
                verbose=False,
            )
        if program is None:  # the older exporter alone gives nothing back
            raise ModelError("torch exported no graph; install the torch that the extra `train` names.")
        model: ModelProto = program.model_proto
        _forget_where_it_was_made(model)
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise ModelError(f"torch cannot export the network with {_named(opened)} open: {cause[:300]}") from error
    return model


def _run_at(model: ModelProto, bands: int, sides: tuple[int, int, int]) -> None:
    """Raise ModelError where the graph does not run at (n, rows, cols), or answers in other sides."""
    pixels = np.zeros((sides[0], bands, *sides[1:]), np.float32)
    try:
        found = speaker(model)(pixels)
    except ORT_ERRORS as error:
        raise ModelError(f"ONNX Runtime cannot run the network on {sides}: {sentence(error)}.") from error
    if (found.shape[0], *found.shape[2:]) != sides:
        raise ModelError(f"The network answers {sides} pixels with {found.shape}.")


def _demand_raster(network: nn.Module, bands: int, stride: int) -> None:
    """Raise ModelError unless the network answers an image with one raster of its size."""
    step = max(stride, _LEAST)
    sides = (2, bands, 8 * step, 10 * step)
    try:
        with torch.no_grad():
            found = network(torch.zeros(sides))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"The network cannot take an image of {sides}: {' '.join(str(error).split())[:300]}"
        ) from error
    if not isinstance(found, torch.Tensor):
        said = list(found[0] if isinstance(found, list) and found else found)
        what = "it finds objects" if {"boxes", "scores"} <= set(map(str, said)) else "these are several answers"
        raise ModelError(
            f"The network answers with {', '.join(map(str, said))}: {what}, and what is exported here answers with one "
            "raster of classes or values."
        )
    if found.ndim != 4 or (found.shape[0], *found.shape[2:]) != (sides[0], *sides[2:]):
        raise ModelError(
            f"The network answers an image of {sides} with {tuple(found.shape)}; a mask has the image's batch, rows "
            "and columns."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's advice to itself; what matters is raised."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _named(opened: Mapping[int, str]) -> str:
    return ", ".join(opened.values()) or "no side"


def _forget_where_it_was_made(model: ModelProto) -> None:
    """Drop what the exporter notes beside the graph: source files, classes and lines of Python."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
