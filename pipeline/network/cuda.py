"""The NVIDIA driver and runtime, asked through their own libraries: which GPUs there are, and memory that they read."""

from __future__ import annotations

import ctypes
import platform
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_COMPUTE_CAPABILITY = (75, 76)  # CUdevice_attribute: major, minor
_PORTABLE = 1  # cudaHostAllocPortable: for whichever thread asks


def driver_file() -> str:
    """The file that the driver's library is called."""
    return "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"


def has_driver() -> bool:
    """Whether an NVIDIA driver is there; without one nothing runs on a GPU."""
    return _driver() is not None


def driver_version() -> int:
    """1000 × major + 10 × minor, as the driver counts; 0 where it does not say. Raises OSError without a driver."""
    version = ctypes.c_int()
    ctypes.CDLL(driver_file()).cuDriverGetVersion(ctypes.byref(version))
    return version.value


def gpu_count() -> int:
    """How many GPUs this process may use, as CUDA_VISIBLE_DEVICES leaves them; 0 without a driver."""
    count, driver = ctypes.c_int(), _driver()
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def gpu_name() -> str:
    """Name the first GPU and its compute capability, such as "NVIDIA H200 cc9.0"; "GPU" where the driver is mute."""
    driver = _driver()
    if driver is None:
        return "GPU"
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceGetName(name, 128, device):
        return "GPU"
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return f"{name.value.decode(errors='replace')} cc{capability[0]}.{capability[1]}"


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(driver_file())
    except OSError:
        return None


def pinned(shape: tuple[int, ...], dtype: DTypeLike, major: int) -> NDArray[Any] | None:
    """An array of pinned memory, which the GPU copies at full speed; None where CUDA's runtime gives none.

    `major` is CUDA's, whose runtime ONNX Runtime has loaded. The memory goes with the array and all views of it.
    """
    size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    place = ctypes.c_void_p()
    try:
        runtime = ctypes.CDLL(f"cudart64_{major}.dll" if platform.system() == "Windows" else f"libcudart.so.{major}")
        refused = runtime.cudaHostAlloc(ctypes.byref(place), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE))
    except (OSError, AttributeError):
        return None
    if refused or not place.value:
        return None
    memory = (ctypes.c_byte * size).from_address(place.value)
    weakref.finalize(memory, runtime.cudaFreeHost, place).atexit = False  # the process's end frees it, too
    array: NDArray[Any] = np.frombuffer(memoryview(memory).cast("B"), dtype, int(np.prod(shape)))
    return array.reshape(shape)
