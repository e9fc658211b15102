"""What ONNX Runtime can run on this machine, asked of the session itself and never of its list of hopes.

ONNX Runtime lists providers that cannot start, and falls back to the CPU without an error where one does not. Here a
session says which of its nodes run where, and a missing driver or library becomes a sentence.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import platform
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.capi import build_and_package_info as build
from onnxruntime.capi import onnxruntime_pybind11_state as state

from pipeline.network.cuda import driver_file, driver_version
from pipeline.settings import Precision

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
HEAVY: Final = frozenset({"Conv", "ConvTranspose", "FusedConv", "NhwcConv", "NhwcFusedConv", "Gemm", "MatMul"})
# ^ where a network's time goes: a device that does not run these does not run the network

ORT_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(error for error in vars(state).values() if isinstance(error, type) and issubclass(error, Exception)),
    RuntimeError,
    ValueError,
    MemoryError,
)
CUDA_OPTIONS: Final = {
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE tunes anew for each shape; DEFAULT can be 50 times slower
    "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and takes the GPU from its neighbours
    "cudnn_conv_use_max_workspace": "1",
}
TF32_VARIABLE: Final = "NVIDIA_TF32_OVERRIDE"  # at "0", NVIDIA's libraries compute float32 in float32
_tf32: list[bool] = []  # whether this process computes in TF32, once that is settled

Provider: TypeAlias = str | tuple[str, dict[str, str]]


def start(model: bytes, providers: list[Provider], threads: int) -> ort.InferenceSession:
    """Make a session that keeps quiet, shares its cores and remembers which node runs where.

    Raises one of ORT_ERRORS where ONNX Runtime refuses the model or a provider.
    """
    ort.set_default_logger_severity(4)  # what it would print is raised or asked for
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = providers != [CPU]  # there the second run would take 0.4 times more than the first
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning takes the neighbours' cores
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)


def where(session: ort.InferenceSession) -> dict[str, Counter[str]]:
    """Count which operators each provider runs, by the session's own record."""
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def cuda_providers(precision: Precision = "fp32") -> list[Provider]:
    """CUDA with the options that suit fixed shapes, and the CPU for the few nodes that CUDA leaves to it."""
    # Without `use_tf32` ONNX Runtime takes no tensor cores at all, and float16 lives on them.
    return [(CUDA, {**CUDA_OPTIONS, "use_tf32": "0" if precision == "fp32" else "1"}), CPU]


def why_not(precision: Precision) -> str | None:
    """Settle for this process whether float32 may be TF32; say why not where that is settled otherwise.

    ONNX Runtime's own option leaves it TF32 where cuDNN knows no other way to fuse; NVIDIA's variable does not. But
    their libraries read the variable once, with the first session.
    """
    wanted = precision == "tf32"
    if not _tf32:
        if wanted and os.environ.get(TF32_VARIABLE) == "0":
            return f"the environment has {TF32_VARIABLE}=0, which forbids TF32; unset it"
        if not wanted:
            os.environ[TF32_VARIABLE] = "0"
        _tf32.append(wanted)
    if _tf32[0] != wanted:
        return f"this process computes {'in' if _tf32[0] else 'without'} TF32 already; take another process"
    return None


@lru_cache(maxsize=1)
def why_no_cuda() -> str | None:
    """Say why CUDA cannot start here, and what to do about it; None where driver and libraries are found."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA; install onnxruntime-gpu in its place"
    try:
        ctypes.CDLL(driver_file())
    except OSError:
        return f"there is no NVIDIA driver ({driver_file()} is not found); install it, or run where there is a GPU"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it cannot load
        ort.preload_dlls()
    if missing := [line for line in said.getvalue().splitlines() if line.startswith("Failed to load")]:
        return (
            f"CUDA's libraries are missing ({missing[0].removeprefix('Failed to load ').rstrip('.')}); "
            "install onnxruntime-gpu[cuda,cudnn]"
        )
    if driver_version() < 1000 * cuda_major():
        return (
            f"the NVIDIA driver knows CUDA {_dotted(driver_version())}, and this onnxruntime needs "
            f"{_dotted(1000 * cuda_major())}; install a newer driver, or onnxruntime-gpu 1.26 for CUDA 12"
        )
    return None


def cuda_version() -> str:
    """Say which CUDA this onnxruntime was built for, such as "13.0"; "" for one without."""
    return str(getattr(build, "cuda_version", "") or "")


def cuda_major() -> int:
    """The major version alone decides what fits: within one, older drivers run newer libraries. 0 for no CUDA."""
    major = cuda_version().split(".", maxsplit=1)[0]
    return int(major) if major.isdecimal() else 0


def instruction_set() -> str:
    """Name the widest vector instructions of this CPU; the machine's name where they are not to be found out."""
    flags = _of_cpu("flags").split()
    known = ("avx512_vnni", "avx512f", "avx2", "avx", "sse4_1")
    return next((name for name in known if name in flags), platform.machine())


def processor() -> str:
    """Name this CPU, such as "Intel(R) Xeon(R) CPU @ 2.60GHz"; the machine's name where it is not to be found out."""
    return _of_cpu("model name") or platform.machine()


def _of_cpu(what: str) -> str:
    """A line of what Linux says of the first core; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(what)), "")


def providers_that_start() -> dict[str, str | None]:
    """Try each provider with a real session of one convolution: None where it ran it, else a sentence why not."""
    return {name: _why_not(name) for name in ort.get_available_providers()}


def sentence(error: Exception) -> str:
    """Give what ONNX Runtime said on one line, without its error numbers, source paths and signatures."""
    line = " ".join(str(error).split())
    line = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", line)
    line = re.sub(r"/\S+\.(?:cc|h|cpp):\d+ .*?\) (?=[A-Z])", "", line)
    return line.rstrip(". ")[:400]


def _why_not(name: str) -> str | None:
    if name == CUDA and (reason := why_no_cuda()):
        return f"CUDA does not start: {reason}."
    providers: list[Provider] = cuda_providers() if name == CUDA else [name]
    try:
        session = start(one_convolution(), providers, threads=1)
        session.run(None, {"x": np.ones((1, 1, 8, 8), np.float32)})
    except ORT_ERRORS as error:
        return f"{name} does not start: {sentence(error)}."
    ran = where(session)
    if ran.get(name, Counter())["Conv"]:
        return None
    elsewhere = ", ".join(f"{sum(nodes.values())} on {provider}" for provider, nodes in ran.items())
    return f"{name} is listed and does not run: of its nodes, ONNX Runtime put {elsewhere}."


def one_convolution() -> bytes:
    """Make the smallest network that says whether a provider convolves: x (1, 1, 8, 8) float32 to y of that shape."""
    shape: list[Any] = [1, 1, 8, 8]
    kernel = onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = onnx.helper.make_graph([node], "probe", values[:1], values[1:], [kernel])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
