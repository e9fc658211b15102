"""What must hold before a rate means anything: the GPU runs the network, and says what the CPU says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.network import providers
from pipeline.network.providers import CPU, CUDA
from tests.bench.gpu.engines import article, engine_of, take_options, told_by, windows
from tests.bench.gpu.sheet import Asked, Sheet

SIDE, COUNT = 512, 6  # of the windows that are compared with the CPU
EPSILON = 2.0**-12  # 1 + EPSILON is a float32, and 1 in TF32


def part(asked: Asked, sheet: Sheet, folder: Path) -> None:
    if asked.device == "cuda":
        done = subprocess.run(["nvidia-smi"], capture_output=True, text=True)
        sheet.note(nvidia_smi=done.stdout)
    asked, small = asked.anew(), asked.device == "cpu"
    side, count = (80, 2) if small else (SIDE, COUNT)
    for precision in asked.precisions:
        what = {"device": asked.device, "precision": precision, "side": side, "count": count}
        what |= {"window": asked.windows[0], "batches": sorted(asked.batches)}
        try:
            for found in told_by(__name__, what, str(folder), limit=max(60, asked.seconds)):
                sheet.row("check", precision=precision, **found)
        except RuntimeError as error:
            sheet.row("failed", precision=precision, because=str(error)[-600:])


def keeps_float32(device: str, precision: str) -> bool:
    """Whether a convolution on that device tells 1 + 2⁻¹² from 1: TF32 has ten bits behind the point."""
    eye = np.zeros((64, 64, 3, 3), np.float32)
    eye[range(64), range(64), 1, 1] = 1
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64, 128, 128]) for name in "xy"]
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "eye", ports[:1], ports[1:], [numpy_helper.from_array(eye, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    if device == "cuda" and (reason := providers.why_not(precision)):
        raise SystemExit(reason)
    chosen = providers.cuda_providers(precision) if device == "cuda" else [CPU]
    session = providers.start(model.SerializeToString(), chosen, threads=1)
    pixels = np.full((1, 64, 128, 128), 1 + EPSILON, np.float32)
    return bool((session.run(None, {"x": pixels})[0] == pixels).all())


def _in_process(what: dict, folder: str) -> None:
    take_options()
    device, precision = what["device"], what["precision"]
    _, network = article(Path(folder))
    engine = engine_of(network, device, precision, what["side"], 1)
    print(json.dumps({"numeric class": engine.numeric_class, "nodes": engine.nodes}), flush=True)
    if precision != "fp16":
        print(json.dumps({"float32 is float32": keeps_float32(device, precision)}), flush=True)
    print(json.dumps(_against_cpu(network, engine, what)), flush=True)
    print(json.dumps(_by_batch(network, what)), flush=True)
    if device == "cuda":
        print(json.dumps({"pinned": engine._lanes.mine.pinned, "heavy nodes off the GPU": _astray(engine)}), flush=True)


def _against_cpu(network: object, engine: object, what: dict) -> dict:
    cpu = engine_of(network, "cpu", "fp32", what["side"], 1)
    flips, pixels = 0, 0
    for seed in range(what["count"]):
        one = windows(1, what["side"], seed)
        ours, theirs = engine.run(*one), cpu.run(*one)
        flips += int(np.count_nonzero(ours["classes"] != theirs["classes"]))
        pixels += theirs["classes"].size
    ours, theirs = (
        engine_of(network, device, precision, what["side"], 1, blend=True).run(*windows(1, what["side"]))
        for device, precision in ((what["device"], what["precision"]), ("cpu", "fp32"))
    )
    apart = float(np.abs(ours["probabilities"] - theirs["probabilities"]).max())
    return {"flips per million": 1e6 * flips / pixels, "pixels": pixels, "largest |Δp|": apart}


def _by_batch(network: object, what: dict) -> dict:
    """Class flips between the batches and batch 1, and between a batch and itself, on the same windows."""
    batch, first = windows(max(what["batches"]), what["window"]), None
    flips, again = {}, {}
    for size in what["batches"]:
        engine = engine_of(network, what["device"], what["precision"], what["window"], size)
        parts = [[one[at : at + size] for one in batch[:2]] for at in range(0, len(batch[0]), size)]
        said, twice = (np.concatenate([engine.run(*part, *batch[2:])["classes"] for part in parts]) for _ in range(2))
        first = said if first is None else first
        flips[size] = int(np.count_nonzero(said != first))
        again[size] = int(np.count_nonzero(said != twice))
    return {"flips by batch": flips, "flips when run again": again, "of": int(first.size)}


def _astray(engine: object) -> int:
    found = providers.where(engine._session)
    return sum(
        n for name, kinds in found.items() if name != CUDA for kind, n in kinds.items() if kind in providers.HEAVY
    )


if __name__ == "__main__":
    _in_process(*(json.loads(word) for word in sys.argv[1:]))
