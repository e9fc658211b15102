"""Networks run in ONNX Runtime on the CPU with one thread: one pass over a whole image, and windows held against it."""

from math import ceil, floor

import numpy as np
import onnx
import onnxruntime as ort

from pipeline.grid import reflected
from pipeline.network.field import Field, layout_of


class Runner:
    """A network in ONNX Runtime as the engine runs it: one thread, the CPU. Images are (bands, rows, cols)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.last = layout_of(model) == "NHWC"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Give (classes, rows, cols)."""
        fed = np.ascontiguousarray(image.transpose(1, 2, 0) if self.last else image)[None]
        made = self.session.run(None, {self.session.get_inputs()[0].name: fed})[0][0]
        if made.ndim == 2:
            return made[None]
        return made.transpose(2, 0, 1) if self.last else made


def bands_of(model: onnx.ModelProto) -> int:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[3 if layout_of(model) == "NHWC" else 1].dim_value


def picture(bands: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(bands, height, width)).astype(np.float32)


def padded(scene: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    rows = reflected(top, top + height, scene.shape[1])
    cols = reflected(left, left + width, scene.shape[2])
    return scene[:, rows][:, :, cols]


def kept(field: Field, margin: int, side: int) -> slice:
    """Which outputs of a pass over `side` pixels stand for what lies `margin` inside."""
    start, stop = (ceil((edge - field.offset) / field.scale) for edge in (margin, side - margin))
    return slice(start, stop)


def core(run: Runner, field: Field, image: np.ndarray, margin: int) -> np.ndarray:
    rows, cols = (kept(field, margin, side) for side in image.shape[1:])
    return run(image)[:, rows, cols]


def largest_difference(model: onnx.ModelProto, field: Field, margin: int, shift: int = 0, scene=(1, 1)) -> float:
    """Compare windows with one pass; `scene` is in cores, `shift` puts the windows off the stride's grid."""
    run, stride = Runner(model), field.stride
    side = stride * max(-(-16 // stride), 16 - 2 * margin // stride)  # all maps at least 16 × 16
    window = side + 2 * margin
    image = picture(bands_of(model), scene[0] * side - 3, scene[1] * side - 1)
    around = margin + stride
    whole = [count * side + 2 * around for count in scene]
    one_pass = core(run, field, padded(image, -around, -around, *whole), around)
    cells = side / field.scale
    worst = 0.0
    for row in range(scene[0]):
        for col in range(scene[1]):
            top, left = row * side - margin, col * side - margin
            cell = core(run, field, padded(image, top + shift, left + shift, window, window), margin)
            at = [round(place * cells) + shift for place in (row, col)]
            other = one_pass[:, at[0] : at[0] + cell.shape[1], at[1] : at[1] + cell.shape[2]]
            cell = cell[:, : other.shape[1], : other.shape[2]]
            assert cell.size
            worst = max(worst, float(np.max(np.abs(cell - other))))
    return worst


def seen_from(model: onnx.ModelProto, field: Field, row: int = 0, col: int = 0) -> tuple[int, int]:
    """Change one pixel amid an image; say how far before and behind it outputs change, in rows and columns."""
    run = Runner(model)
    side = 4 * field.margin + 8 * field.stride * -(-16 // field.stride)
    at = np.array([side // 2 + row, side // 2 + col])
    image = picture(bands_of(model), side, side)
    other = image.copy()
    other[:, at[0], at[1]] += 100
    changed = np.argwhere(np.any(run(image) != run(other), axis=0))
    if not len(changed):
        return 0, 0
    scale, offset = field.scale, field.offset
    first = np.array([[floor(scale * int(i)) + offset for i in place] for place in changed])
    last = np.maximum(first, [[ceil(scale * (int(i) + 1)) - 1 + offset for i in place] for place in changed])
    return int((at - last).max()), int((first - at).max())
