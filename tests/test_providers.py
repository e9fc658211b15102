"""What runs here is asked of ONNX Runtime's sessions; what it says becomes a sentence."""

import platform

import onnxruntime as ort
import pytest

from pipeline.network import providers
from pipeline.network.cuda import gpu_name

no_cuda = pytest.mark.skipif(providers.why_no_cuda() is None, reason="there is a GPU here")


@no_cuda
def test_providers_are_asked_and_not_believed(capfd):
    found = providers.providers_that_start()
    assert set(found) == set(ort.get_available_providers())
    assert found["CPUExecutionProvider"] is None
    for name, reason in found.items():
        assert name == "CPUExecutionProvider" or reason.endswith(".")
    assert capfd.readouterr() == ("", "")


def test_onnx_runtime_s_sentences_lose_their_numbers():
    said = "[ONNXRuntimeError] : 1 : FAIL : Load model failed:\n  Node (x) Op (Add).  "
    assert providers.sentence(RuntimeError(said)) == "Load model failed: Node (x) Op (Add)"
    said = "/src/onnxruntime/core/x.cc:729 void onnxruntime::Register(const Options&) Please install it.\n"
    assert providers.sentence(RuntimeError(said)) == "Please install it"


def test_a_session_keeps_quiet_and_counts_its_nodes(capfd):
    session = providers.start(providers.one_convolution(), [providers.CPU], threads=1)
    assert providers.where(session) == {providers.CPU: {"Conv": 1}}
    with pytest.raises(providers.ORT_ERRORS):
        providers.start(b"nonsense", [providers.CPU], threads=1)
    assert capfd.readouterr() == ("", "")


@no_cuda
def test_why_cuda_does_not_start_ends_with_what_to_do():
    assert "; " in providers.why_no_cuda()
    assert gpu_name() == "GPU" or "cc" in gpu_name()


def test_the_instruction_set_is_one_of_this_machine():
    name = providers.instruction_set()
    if platform.machine() == "x86_64" and platform.system() == "Linux":
        assert name in ("avx512_vnni", "avx512f", "avx2", "avx", "sse4_1")
    else:
        assert name == platform.machine()


def test_a_process_computes_in_tf32_or_without_and_not_in_both():
    import subprocess
    import sys

    script = (
        "import os; from pipeline.network.providers import why_not, cuda_providers\n"
        "print(why_not('fp32'), why_not('fp16'), os.environ['NVIDIA_TF32_OVERRIDE'])\n"
        "print(why_not('tf32'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "None None 0",
        "this process computes without TF32 already; take another process",
    ]
    script = "from pipeline.network.providers import why_not; print(why_not('tf32'), why_not('tf32'), why_not('fp32'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("None None this process computes in TF32 already")
    forbidden = {"NVIDIA_TF32_OVERRIDE": "0", "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=forbidden)
    assert "NVIDIA_TF32_OVERRIDE=0, which forbids TF32" in done.stdout


def test_float32_alone_is_kept_from_the_tensor_cores():
    options = {
        precision: providers.cuda_providers(precision)[0][1]["use_tf32"] for precision in ("fp32", "tf32", "fp16")
    }
    assert options == {"fp32": "0", "tf32": "1", "fp16": "1"}
