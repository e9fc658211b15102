"""The digest of a network: equal where graph and weights are, whatever is written beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from pipeline.network.model_file import attribute_tensors, subgraphs


def model_digest(model: ModelProto) -> str:
    """Digest graph and weights: 32 hexadecimal digits of BLAKE2b.

    What decides pixels goes in: operators, their attributes and wiring by the tensors' names, weights by their values,
    the types of inputs and outputs, operator sets and functions. What only describes stays out: metadata, doc strings,
    producer, IR version, names of the graph and of nodes, shapes noted on the way (value_info), where the weights lie
    and in what order they are listed. `model` is as `load_model` gives it.
    """
    digest = _Digest()
    for opset in sorted((each.domain, each.version) for each in model.opset_import):
        digest.take("opset", *opset)
    digest.graph(model.graph)
    for function in sorted(model.functions, key=lambda each: (each.domain, each.name, each.overload)):
        digest.take("function", function.domain, function.name, function.overload)
        digest.take("takes", *function.input, "gives", *function.output, "attributes", *function.attribute)
        digest.attributes(function.attribute_proto)
        digest.nodes(function.node)
    return digest.hex()


class _Digest:
    """A running hash of values, each with its length, so that no two sequences read alike."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def take(self, *values: str | int | bytes) -> None:
        for value in values:
            data = value if isinstance(value, bytes) else str(value).encode()
            self._hash.update(len(data).to_bytes(8, "little"))
            self._hash.update(data)

    def graph(self, graph: GraphProto) -> None:
        self.take("graph")
        for kind, ports in (("input", graph.input), ("output", graph.output)):
            for port in ports:
                self.take(kind, port.name, port.type.SerializeToString(deterministic=True))
        for tensor in sorted(graph.initializer, key=lambda each: each.name):
            self.tensor(tensor)
        for sparse in sorted(graph.sparse_initializer, key=lambda each: each.values.name):
            self.take("sparse", *sparse.dims)
            self.tensor(sparse.values)
            self.tensor(sparse.indices)
        self.nodes(graph.node)

    def nodes(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            self.take("node", node.domain, node.op_type, node.overload, "takes", *node.input, "gives", *node.output)
            self.attributes(node.attribute)

    def attributes(self, attributes: Iterable[AttributeProto]) -> None:
        for attribute in sorted(attributes, key=lambda each: each.name):
            self.take("attribute", attribute.name, _plain(attribute))
            for tensor in attribute_tensors(attribute):
                self.tensor(tensor)
            for graph in subgraphs(attribute):
                self.graph(graph)

    def tensor(self, tensor: TensorProto) -> None:
        self.take("tensor", tensor.name, tensor.data_type, *tensor.dims)
        if tensor.data_type == TensorProto.STRING:
            self.take(*tensor.string_data)
        else:  # by value: the same weights may lie in raw_data or in a field of their type
            self.take(np.ascontiguousarray(numpy_helper.to_array(tensor)).tobytes())

    def hex(self) -> str:
        return self._hash.hexdigest()


def _plain(attribute: AttributeProto) -> bytes:
    """An attribute's numbers, texts and types; its tensors and graphs are digested on their own."""
    plain = AttributeProto()
    plain.CopyFrom(attribute)
    for field in ("t", "tensors", "sparse_tensor", "sparse_tensors", "g", "graphs", "doc_string"):
        plain.ClearField(field)
    return bytes(plain.SerializeToString(deterministic=True))
