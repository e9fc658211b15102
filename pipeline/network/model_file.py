"""The model's file: found, read whole, and checked.

An .onnx file is not trusted: what it names beside itself must lie in its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from pipeline.errors import ModelError

LIMIT = 2**31 - 1  # bytes: a protobuf message holds no more, and the fused graph must be one
_GIB = 2**30

_MISTAKEN = {  # how a file begins that is often taken for a model
    b"<": "it is a page of HTML or XML: download the file itself",
    b"version https://git-lfs": "it is a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"PK": "it is a zip archive, as PyTorch saves weights: export the network to ONNX",
    b"\x89HDF": "it is an HDF5 file, as Keras saves weights: export the network to ONNX",
}


def find_model(spec: str | Path) -> Path:
    """Find the .onnx file that a path means: a file, or a folder that holds exactly one. Raises ModelError."""
    path = Path(spec)
    try:
        if path.is_file():
            return path
        found = sorted(each for each in path.glob("*.onnx") if each.is_file())
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror or error}.") from None
    if not path.is_dir():
        raise ModelError(f"There is no model at {path}: name an .onnx file, or a folder that holds one.")
    if len(found) != 1:
        names = ", ".join(each.name for each in found[:5]) or "none"
        raise ModelError(f"The folder {path} holds {len(found)} .onnx files ({names}); name the one to use.")
    return found[0]


def load_model(path: Path) -> ModelProto:
    """Read and check an ONNX model, weights and all.

    Weights that lie beside the file are read into the model, so that what is returned needs no file any more.

    Raises ModelError where the file cannot be read, is not a valid ONNX model, needs more than 2 GiB, or names weights
    that are missing, cut short, or outside its folder (by an absolute path, `..` or a link).
    """
    model = _parsed(path)
    folder = path.parent.resolve()
    outside = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    held = model.ByteSize()
    for tensor in outside:
        held += _bytes_of(tensor, path)
        if held > LIMIT:
            raise ModelError(f"The weights of {path} take more than 2 GiB, which is more than one ONNX graph can hold.")
    for tensor in outside:
        _bring_in(tensor, folder, path)
    _check(model, path)
    return model


def _check(model: ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(model)
        for tensor in tensors(model):
            numpy_helper.to_array(tensor)  # the checker lets weights pass that do not fill their shape
    except (onnx.checker.ValidationError, ValueError, TypeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"{path} is not a valid ONNX model: {reason}.") from None


def _parsed(path: Path) -> ModelProto:
    try:
        size = path.stat().st_size
        if size > LIMIT:
            raise ModelError(
                f"{path} takes {size / _GIB:.1f} GiB; an ONNX file holds at most 2 GiB, so that it cannot be one."
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror or error}.") from None
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ModelError(f"{path} is not an ONNX file, or it was cut short{_hint(content)}.") from None
    if not model.graph.node:
        raise ModelError(f"{path} is not an ONNX model: its {size} bytes hold no graph{_hint(content)}.")
    return model


def _hint(content: bytes) -> str:
    start = content.lstrip()
    return next((f"; {what}" for begin, what in _MISTAKEN.items() if start.startswith(begin)), "")


_PACKED = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}  # bits; the rest take whole bytes


def _bytes_of(tensor: TensorProto, path: Path) -> int:
    """How many bytes a tensor's weights take, by its shape and type."""
    if any(side < 0 for side in tensor.dims):
        raise ModelError(f"The weights `{tensor.name}` of {path} have the shape {list(tensor.dims)}, which cannot be.")
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        raise ModelError(f"The weights `{tensor.name}` of {path} have the unknown type {tensor.data_type}.") from None
    bits = _PACKED.get(kind.name, kind.itemsize * 8)
    return -(-math.prod(int(side) for side in tensor.dims) * bits // 8)


def _bring_in(tensor: TensorProto, folder: Path, path: Path) -> None:
    """Read a tensor's weights from the file beside the model into the tensor."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    expected = _bytes_of(tensor, path)
    try:
        source = (folder / location).resolve(strict=True)
        if not source.is_relative_to(folder) or not source.is_file():
            raise ModelError(
                f"The weights `{tensor.name}` of {path} point to {location!r}, which is no file inside the model's own "
                "folder; maskmill reads no other. Put the weights beside the model."
            )
        start, length = int(said.get("offset") or 0), int(said.get("length") or expected)
        if start < 0 or length != expected:
            raise ValueError(f"{length} bytes from byte {start}")
        with source.open("rb") as file:
            file.seek(start)
            data = file.read(expected)
    except ModelError:
        raise
    except FileNotFoundError:
        raise ModelError(
            f"The weights of {path} are missing: it names the file {location!r} beside it. Copy that file too."
        ) from None
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a circle of links
        raise ModelError(f"The weights `{tensor.name}` of {path} cannot be read from {location!r}: {error}.") from None
    if len(data) != expected:
        raise ModelError(
            f"The weights `{tensor.name}` of {path} need {expected} bytes, and {location!r} holds {len(data)} from "
            f"byte {start}: the file was cut short."
        )
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model holds: weights, constants, sparse ones, those of subgraphs and of functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for attribute in chain.from_iterable(node.attribute for node in nodes):
        yield from attribute_tensors(attribute)
        for graph in subgraphs(attribute):
            yield from _graph_tensors(graph)


def attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    """The tensors that an attribute holds itself, sparse ones as values and indices."""
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("sparse_tensor"):
        yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
    for sparse in attribute.sparse_tensors:
        yield from (sparse.values, sparse.indices)


def subgraphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    """The graphs that an attribute holds: the branches of If, the bodies of Loop and Scan."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs
