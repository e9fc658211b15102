"""A lane: the buffers of one calling thread, bound to a session once and used by each of its runs.

On a GPU the inputs lie in pinned memory and beside the session, so that a run takes no memory and no detour; outputs
come into pinned memory. On the CPU the session reads and writes the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.network.cuda import pinned

_NUMPY = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others are called alike


def dtype_of(value: ort.NodeArg) -> str:
    """Numpy's name for the type of a session's input or output."""
    kind: str = value.type
    return _NUMPY.get(kind, kind.removeprefix("tensor(").removesuffix(")"))


class Lane:
    """Arrays for all inputs and outputs of a session of fixed shapes; `cuda` is CUDA's major version, 0 for the CPU.

    To be used by one thread at a time. `pinned` says whether the GPU reads all of it without a detour.
    """

    def __init__(self, session: ort.InferenceSession, cuda: int = 0) -> None:
        self._session = session
        self._binding = session.io_binding()
        self.pinned = cuda > 0
        self._inputs = {value.name: self._buffer(value, cuda) for value in session.get_inputs()}
        self._outputs = {value.name: self._buffer(value, cuda) for value in session.get_outputs()}
        self._beside = {name: _value(array, cuda) for name, array in self._inputs.items()}
        self._cuda = cuda
        for name, value in self._beside.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, array in self._outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run(self, feed: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Run on what is fed, by the session's names: rows that are short of the batch are the last one again.

        Returns the outputs; they are overwritten by the next run.
        """
        for name, given in feed.items():
            array = self._inputs[name]
            for row, one in zip(array, given, strict=False):
                np.copyto(row, one, casting="equiv")
            array[len(given) :] = array[len(given) - 1]
            if self._cuda:
                self._beside[name].update_inplace(array)
        self._session.run_with_iobinding(self._binding)
        return self._outputs

    def _buffer(self, value: ort.NodeArg, cuda: int) -> NDArray[Any]:
        shape, dtype = tuple(value.shape), np.dtype(dtype_of(value))
        array = pinned(shape, dtype, cuda) if cuda else None
        if array is None:
            self.pinned = False
            array = np.empty(shape, dtype)
        return array


def _value(array: NDArray[Any], cuda: int) -> ort.OrtValue:
    if cuda:
        return ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, "cuda", 0)
    return ort.OrtValue.ortvalue_from_numpy(array)  # the array itself
