"""The NVIDIA driver and runtime, asked; where there is none, that is an answer too."""

import gc

import numpy as np
import pytest

from pipeline.network import cuda, providers

here = providers.why_no_cuda() is None


@pytest.mark.skipif(here, reason="there is a GPU here")
def test_without_a_driver_there_are_no_gpus_and_no_pinned_memory():
    assert cuda.gpu_name() == "GPU" or cuda.gpu_count() > 0
    assert cuda.pinned((2, 3), np.uint8, major=1) is None  # no runtime is called so


@pytest.mark.skipif(not here, reason="there is no GPU here")
def test_pinned_memory_is_an_array_that_outlives_its_maker():
    assert cuda.gpu_count() >= 1
    assert "cc" in cuda.gpu_name()
    array = cuda.pinned((3, 5, 7), np.uint16, providers.cuda_major())
    array[:] = 7
    part = array[1:]
    del array
    gc.collect()
    assert part.sum() == 2 * 5 * 7 * 7
