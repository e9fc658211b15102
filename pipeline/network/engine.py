"""The engine: one ONNX Runtime session of a fused graph, on the device that was asked for and on no other.

Shapes are fixed. Fewer windows than the batch are padded with copies of the last, so that every run has the same shape:
the answer does not depend on how many windows came along, and a GPU's memory does not creep.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.errors import BlockError, DeviceError, ModelError
from pipeline.network import providers
from pipeline.network.cuda import gpu_name
from pipeline.network.lane import Lane, dtype_of
from pipeline.network.providers import CPU, CUDA, HEAVY, ORT_ERRORS
from pipeline.settings import Device, Precision

_PROBABILITIES_AGREE = 2e-2  # what two devices owe each other: they round sums differently
_NO_MEMORY = (
    *("failed to allocate memory", "bad allocation", "bad_alloc", "out of memory", "cuda_error_out_of_memory"),
    *("alloc_failed", "smaller than requested bytes"),  # cuDNN's and cuBLAS's words, and the arena's
)


class EngineOutOfMemory(BlockError):  # noqa: N818  it says what happened, as MemoryError's own children do
    """A run did not fit into the device's memory; a smaller batch may."""


class Engine:
    """A session that turns raw windows into what the fused graph says.

    Parameters
    ----------
    fused
        What `fuse` made: inputs `pixels`, `valid`, `shift`, `factor`, all of fixed shape.
    device
        `cpu`; `cuda`, which is an error where CUDA does not run every convolution; or `auto`, which takes CUDA if it
        does and else the CPU, and says why in `fallback`.
    threads
        Of one run. One thread gives the same bytes for any batch; more may split sums otherwise.
    precision
        `tf32` lets CUDA round what it multiplies to TF32, which the others forbid it; `fp16` is in the graph already.
    bound
        Whether each calling thread keeps buffers that are bound to the session; by default on CUDA, where it saves
        copies. On the CPU it saves nothing.

    `nodes` says how many nodes of the graph each provider runs; `batch`, `bands` and `window` are the graph's.
    Raises DeviceError where the device cannot be had and ModelError where ONNX Runtime cannot run the graph. A session
    belongs to its process: it does not pickle, and must not be forked. `run` may be called from several threads.

    """

    def __init__(
        self,
        fused: bytes,
        device: Device | str = Device.AUTO,
        threads: int = 1,
        precision: Precision = "fp32",
        *,
        bound: bool | None = None,
    ) -> None:
        if threads < 1:
            raise ValueError(f"a run has at least one thread, not {threads}")
        self.threads, self.precision = threads, precision
        self.fallback: str | None = None
        self._session = self._on(Device(device), fused)
        inputs = {_port(value.name): value for value in self._session.get_inputs()}
        pixels = inputs["pixels"]
        shape: tuple[int, int, int, int] = tuple(pixels.shape)
        self.batch, self.bands, self.window, _ = shape
        self._dtype = dtype_of(pixels)
        self.nodes: dict[str, int] = {
            name: operators.total() for name, operators in providers.where(self._session).items()
        }
        self._inputs = {port: value.name for port, value in inputs.items()}
        self._rows = {value.name: int(value.shape[0]) for value in inputs.values()}
        self._shapes = {value.name: tuple(value.shape) for value in self._session.get_outputs()}
        self._said = dict(self._session.get_modelmeta().custom_metadata_map)
        self._bound = self.provider == CUDA if bound is None else bound
        self._lanes = threading.local()

    @property
    def provider(self) -> str:
        """The provider that runs the network, by ONNX Runtime's name."""
        return CUDA if CUDA in self.nodes else CPU

    @property
    def numeric_class(self) -> str:
        """Name what results share bit for bit: provider, precision, runtime, and instruction set or GPU."""
        precision = self._said.get("precision", "fp32")
        runtime = f"ort-{ort.__version__}"
        if self.provider == CUDA:
            tf32 = "-as-tf32" if self.precision == "tf32" else ""
            return f"cuda {precision}{tf32} {runtime} cuda-{providers.cuda_version()} {gpu_name()}"
        threads = f" threads-{self.threads}" if self.threads > 1 else ""
        return f"cpu {precision} {runtime} {providers.instruction_set()}{threads}"

    def run(
        self,
        pixels: NDArray[Any] | Sequence[NDArray[Any]],
        valid: NDArray[np.bool_] | Sequence[NDArray[np.bool_]],
        shift: NDArray[np.float32],
        factor: NDArray[np.float32],
    ) -> dict[str, NDArray[Any]]:
        """Run up to `batch` windows.

        `pixels` is (n, band, row, col) in the scene's dtype, `valid` (n, row, col) bool, or sequences of n arrays;
        `shift` and `factor` are (band,): scaled = (raw − shift) × factor. Returns the graph's outputs by name, each
        with n rows. Raises EngineOutOfMemory where memory does not hold the run, BlockError where ONNX Runtime fails
        otherwise.
        """
        count = len(pixels)
        if not 1 <= count <= self.batch:
            raise ValueError(f"a run takes 1 to {self.batch} windows, not {count}")
        feed = {
            "pixels": pixels,
            "valid": [one[np.newaxis] for one in valid],
            "shift": np.asarray(shift, np.float32).reshape(1, self.bands, 1, 1),
            "factor": np.asarray(factor, np.float32).reshape(1, self.bands, 1, 1),
        }
        try:
            found = self._asked({self._inputs[port]: given for port, given in feed.items()})
        except ORT_ERRORS as error:
            raise self._explained(error) from error
        for name, values in found.items():
            if values.shape != self._shapes[name]:
                raise BlockError(
                    f"The graph's output `{_port(name)}` came as {values.shape} where {self._shapes[name]} was "
                    f"promised; it may not take {self.batch} windows at once: take a batch of 1."
                )
        kept = {_port(name): values[:count] for name, values in found.items()}
        return {name: values.copy() for name, values in kept.items()} if self._bound else kept

    def _asked(self, feed: dict[str, NDArray[Any] | Sequence[NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """What the session says, by its own names, of a batch that is filled up."""
        if not self._bound:
            filled = {name: _filled(given, self._rows[name]) for name, given in feed.items()}
            found = self._session.run(list(self._shapes), filled)
            return dict(zip(self._shapes, found, strict=True))
        lane: Lane | None = getattr(self._lanes, "mine", None)
        if lane is None:
            lane = self._lanes.mine = Lane(self._session, providers.cuda_major() if self.provider == CUDA else 0)
        return lane.run(feed)

    def warm(self) -> None:
        """Run once on a full batch of nothing: memory is taken, kernels are chosen. Raises what `run` raises."""
        pixels = np.zeros((self.batch, self.bands, self.window, self.window), self._dtype)
        ones = np.ones(self.bands, np.float32)
        self.run(pixels, np.ones((self.batch, self.window, self.window), np.bool_), ones * 0, ones)

    def _on(self, device: Device, fused: bytes) -> ort.InferenceSession:
        if device is not Device.CPU:
            try:
                return _on_cuda(fused, self.threads, self.precision)
            except DeviceError as error:
                if device is Device.CUDA:
                    raise
                self.fallback = error.message
        try:
            return providers.start(fused, [CPU], self.threads)
        except ORT_ERRORS as error:
            said = providers.sentence(error)
            out = " Export it in float32, for operator sets up to 21." if "find an implementation" in said else ""
            raise ModelError(f"ONNX Runtime cannot run the network: {said}.{out}") from error

    def _explained(self, error: Exception) -> BlockError:
        said = providers.sentence(error)
        if isinstance(error, MemoryError) or any(mark in said.lower() for mark in _NO_MEMORY):
            smaller = f"halve the batch to {self.batch // 2}" if self.batch > 1 else "take a smaller window"
            return EngineOutOfMemory(
                f"A batch of {self.batch} windows of {self.window} pixels does not fit into memory: {smaller}."
            )
        return BlockError(f"The network failed on a batch of {self.batch}: {said}.")


def largest_batch(build: Callable[[int], Engine], batch: int) -> tuple[Engine, str | None]:
    """Build and warm an engine for `batch` windows, or for as many as the network and the memory take.

    A network that refuses the batch gets 1; one that does not fit into memory half of it, and so on. Returns the engine
    and None, or a sentence that says what was refused. Raises what the batch of 1 raises.
    """
    refused: str | None = None
    while True:
        try:
            engine = build(batch)
            engine.warm()
        except EngineOutOfMemory as error:
            if batch == 1:
                raise
            refused, batch = error.message, batch // 2
        except (BlockError, ModelError) as error:
            if batch == 1:
                raise
            refused, batch = f"The network refuses a batch of {batch}, so it runs with 1: {error.message}", 1
        else:
            return engine, refused


def agreement(ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]]) -> float:
    """The share of pixels on which two engines agree that ran the same windows.

    On the class, or, for blending, on probabilities to 0.02; on values to 0.02 of the range that they span. A window
    that is finite for them alone agrees nowhere.
    """
    if "classes" in ours:
        agree = ours["classes"] == theirs["classes"]
    elif "values" in ours:
        span = float(np.ptp(theirs["values"])) or 1.0
        agree = np.abs(ours["values"] - theirs["values"]) <= _PROBABILITIES_AGREE * span
    else:
        agree = np.abs(ours["probabilities"] - theirs["probabilities"]) <= _PROBABILITIES_AGREE
    lost = theirs["finite"] & ~ours["finite"]
    agree[lost] = False
    return float(agree.mean())


def _on_cuda(fused: bytes, threads: int, precision: Precision) -> ort.InferenceSession:
    """Start on CUDA and make sure of it. Raises DeviceError with what is missing."""
    if reason := providers.why_no_cuda():
        raise DeviceError(f"CUDA does not start: {reason}.")
    if reason := providers.why_not(precision):
        raise DeviceError(f"CUDA does not compute in {precision} here: {reason}.")
    try:
        session = providers.start(fused, providers.cuda_providers(precision), threads)
    except ORT_ERRORS as error:
        raise DeviceError(f"CUDA does not start: {providers.sentence(error)}.") from error
    if CUDA not in session.get_providers():
        raise DeviceError("CUDA does not start, and ONNX Runtime took the CPU; `maskmill doctor` says what is missing.")
    ran = providers.where(session)
    astray = {name: sum(n for kind, n in kinds.items() if kind in HEAVY) for name, kinds in ran.items() if name != CUDA}
    if CUDA not in ran or any(astray.values()):
        on_gpu = sum(n for kind, n in ran.get(CUDA, {}).items() if kind in HEAVY)
        raise DeviceError(
            f"CUDA runs {on_gpu} of the network's {on_gpu + sum(astray.values())} convolutions and products, and the "
            "CPU the others; run it with `device: cpu`, or export the network with operators that CUDA knows."
        )
    return session


def _port(name: str) -> str:
    """Take the prefix off a name of the fused graph's."""
    return name.rsplit("/", 1)[-1]


def _filled(values: NDArray[Any] | Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    """Repeat the last row until there are `rows` of them; no copy of an array that has them already."""
    whole = values if isinstance(values, np.ndarray) else np.stack(values)
    if not (short := rows - len(whole)):
        return whole
    return np.concatenate([whole, np.broadcast_to(whole[-1:], (short, *whole.shape[1:]))])
