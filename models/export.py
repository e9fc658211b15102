"""From torch to one ONNX file: the graph, proof that it says what torch says, the card inside, and its score."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from models import earth_water
from models.evaluate import Matrix, confusion
from models.unet import UNet
from pipeline.errors import ModelError
from pipeline.grid import reflected
from pipeline.network.card import Card
from pipeline.network.field import field_of
from pipeline.network.mlm import embed

OPSET = 18
CLOSE = 1e-4  # how far a logit may differ between torch and ONNX Runtime
_INPUT, _OUTPUT = "image", "logits"
_STRIPE = 400  # rows scored at a time


def exported(network: UNet, bands: int) -> ModelProto:
    """Export a trained network: float32 (n, bands, rows, cols) → logits (n, classes, rows, cols), all sides open.

    Names of this machine's files, which the exporter notes at every node, are dropped. Raises ModelError where ONNX
    Runtime's answer is further from torch's than 1e-4.
    """
    network = network.eval()
    example = torch.zeros(2, bands, 8 * network.stride, 8 * network.stride)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        dynamic_shapes=({0: "n", 2: "rows", 3: "cols"},),
        verbose=False,
    )
    if program is None:  # the older exporter alone gives nothing back
        raise ModelError("torch exported no graph; install the torch that the extra `train` names.")
    model: ModelProto = program.model_proto
    _forget_where_it_was_made(model)
    onnx.checker.check_model(model, full_check=True)
    check_same(network, model, bands)
    return model


def check_same(network: UNet, model: ModelProto, bands: int) -> float:
    """Give the largest difference between both answers, over sides that the exporter did not see.

    Raises ModelError where it is more than 1e-4, or where the answer is not finite.
    """
    session = _session(model)
    random = np.random.default_rng(0)
    worst = 0.0
    for count, rows, cols in ((1, 8, 12), (3, 16, 10)):
        sides = (count, bands, rows * network.stride, cols * network.stride)
        pixels = random.normal(size=sides).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(pixels)).numpy()
        worst = float(np.maximum(worst, np.abs(_run(session, pixels) - expected).max()))  # nan stays nan, unlike max
    if not worst <= CLOSE:
        raise ModelError(f"ONNX Runtime's answer is {worst:g} from torch's; at most {CLOSE:g} is allowed.")
    return worst


def embedded(model: ModelProto, card: Card) -> ModelProto:
    """Put the card into the model, so that one file is the whole of it."""
    return embed(model, card)


def score(model: ModelProto, card: Card) -> Matrix:
    """Confusion matrix of `earth-water` on the half of the globe that it never saw, as the pipeline would tile it.

    Stripes overlap by the network's margin and columns beyond the half are shown to it too, so that no pixel's answer
    depends on where the stripes lie. Raises ModelError where the network is not bounded.
    """
    field = field_of(model, card.output)
    if not field.bounded:
        raise ModelError(f"The network mixes all its pixels and has no margin to score it with: {field.unbounded}")
    image = earth_water.blue_marble()
    _, height, width = image.shape
    truth, unseen = earth_water.truth(height, width), earth_water.held_out(width)
    shift, factor = (numbers[:, None, None] for numbers in card.affine(None))
    session, margin, stride = _session(model), field.margin, field.stride
    cols = reflected(unseen.start - margin, _aligned(unseen.stop, stride) + margin, width)
    matrix = np.zeros((len(card.classes),) * 2, np.int64)
    for top in range(0, height, _STRIPE):
        rows = reflected(top - margin, top + _STRIPE + margin, height)
        pixels = (image[:, rows][:, :, cols].astype(np.float32) - shift) * factor
        found = _run(session, pixels[None])[0].argmax(axis=0).astype(np.uint8)
        core = found[margin:-margin, margin:-margin][: height - top, : unseen.stop - unseen.start]
        matrix += confusion(truth[top : top + _STRIPE, unseen], core, len(card.classes))
    return matrix


def _aligned(position: int, stride: int) -> int:
    """The next multiple of the stride."""
    return -(-position // stride) * stride


def _session(model: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    answer: NDArray[np.float32] = session.run([_OUTPUT], {_INPUT: pixels})[0]
    return answer


def _forget_where_it_was_made(model: ModelProto) -> None:
    """Drop what the exporter notes beside the graph: source files, classes and lines of Python."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
