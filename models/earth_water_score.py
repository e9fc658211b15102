"""The score of `earth-water`, as its card says it: on the half of the globe that it never saw."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from models import earth_water
from models.evaluate import Matrix, confusion
from models.parity import speaker
from pipeline.errors import ModelError
from pipeline.grid import reflected
from pipeline.lay import rounded_up
from pipeline.network.card import Card
from pipeline.network.field import field_of

_STRIPE = 400  # rows scored at a time


def score(model: ModelProto, card: Card) -> Matrix:
    """Confusion matrix on the held-out half, as the pipeline would tile it.

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
    say, margin, stride = speaker(model), field.margin, field.stride
    cols = reflected(unseen.start - margin, rounded_up(unseen.stop, stride) + margin, width)
    matrix = np.zeros((len(card.classes),) * 2, np.int64)
    for top in range(0, height, _STRIPE):
        rows = reflected(top - margin, top + _STRIPE + margin, height)
        pixels = (image[:, rows][:, :, cols].astype(np.float32) - shift) * factor
        found = say(pixels[None])[0].argmax(axis=0).astype(np.uint8)
        core = found[margin:-margin, margin:-margin][: height - top, : unseen.stop - unseen.start]
        matrix += confusion(truth[top : top + _STRIPE, unseen], core, len(card.classes))
    return matrix
