"""The fused graph's first part: raw pixels become what the network eats."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from pipeline.network.card import Card
from pipeline.network.host import Host, Recipe
from pipeline.network.nodes import BOOL, FLOAT, Nodes, Ports


def enter(nodes: Nodes, network: Host, card: Card, recipe: Recipe) -> Ports:
    """Raw pixels to what the network eats; returns the graph's inputs."""
    value = nodes.prefix + "pixels"
    if recipe.dtype != "float32":
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    value = nodes.add("Mul", nodes.add("Sub", value, nodes.prefix + "shift"), nodes.prefix + "factor")
    value = nodes.add("Where", nodes.prefix + "valid", value, nodes.constant(np.float32(card.fill)))
    if network.nhwc:
        value = nodes.add("Transpose", value, perm=[0, 2, 3, 1])
    kind = network.input.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        value = nodes.add("Cast", value, to=kind)
    nodes.made[-1].output[0] = network.input.name
    bands, square = len(card.bands), [recipe.window, recipe.window]
    return {
        "pixels": (int(helper.np_dtype_to_tensor_dtype(np.dtype(recipe.dtype))), [recipe.batch, bands, *square]),
        "valid": (BOOL, [recipe.batch, 1, *square]),
        "shift": (FLOAT, [1, bands, 1, 1]),
        "factor": (FLOAT, [1, bands, 1, 1]),
    }
