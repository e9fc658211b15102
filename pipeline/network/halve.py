"""A network in float16: weights and what flows between its nodes, by the converter that ONNX Runtime brings.

Operators that know no float16, and the numbers of a Resize, stay in float32 between casts. What is put around the
network, scaling and decision, is not touched.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from pipeline.errors import ModelError
from pipeline.network.graph import reads


def halved(model: onnx.ModelProto, ends: bool = True) -> onnx.ModelProto:
    """Make a copy in float16, with `ends` its input and output too; shapes must have been inferred.

    A weight beyond float16's range becomes the last number within. Raises ModelError where the converter fails.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    try:
        convert_float_to_float16(made, keep_io_types=not ends, disable_shape_infer=True)  # in place
    except (AssertionError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ModelError(
            f"The network cannot be brought to float16 ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            "take `precision: fp32`."
        ) from error
    nodes = _in_order(made.graph)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after those that it reads from: the converter puts its casts at the end."""
    nodes = list(graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output}
    before = {index: {maker[name] for name in reads(node) if name in maker} for index, node in enumerate(nodes)}
    return [nodes[index] for index in TopologicalSorter(before).static_order()]
