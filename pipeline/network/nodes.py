"""Nodes and constants that are put around a network, in forms that every operator set from 10 on reads alike."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_AXES_ARE_INPUTS = 13  # the operator set since which Squeeze, Unsqueeze and ReduceSum take their axes as an input
FLOAT, BYTE, BOOL = int(TensorProto.FLOAT), int(TensorProto.UINT8), int(TensorProto.BOOL)
UNSIGNED = {"uint8": BYTE, "uint16": int(TensorProto.UINT16)}

Ports: TypeAlias = dict[str, tuple[int, list[int]]]
"""Inputs or outputs of the fused graph by name: element type and shape."""


class Nodes:
    """Nodes and constants around the network, named apart from the network's own."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset = opset
        self.prefix = prefix
        self.made: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: NDArray[np.generic] | np.generic | list[int]) -> str:
        """Hold a constant; lists are int64. Returns its name."""
        array = np.array(value, np.int64) if isinstance(value, list) else np.asarray(value)
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, into: str | None = None, **attributes: int | str | list[int]) -> str:
        """Add a node of one output and return the output's name."""
        name = self.prefix + (into or f"{operator}_{len(self.made)}")
        node = helper.make_node(operator, list(inputs), [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.made.append(node)
        return name

    def over(
        self, operator: str, value: str, axes: list[int], into: str | None = None, **attributes: int | str | list[int]
    ) -> str:
        """Add a node that works over axes, said in the way of the operator set."""
        if self.opset >= _AXES_ARE_INPUTS:
            return self.add(operator, value, self.constant(axes), into=into, **attributes)
        return self.add(operator, value, into=into, axes=axes, **attributes)

    def sliced(self, value: str, starts: list[int], stops: list[int], axes: list[int]) -> str:
        """Cut [start, stop) out of some axes."""
        return self.add("Slice", value, *map(self.constant, (starts, stops, axes)))
