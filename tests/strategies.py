"""Networks for tests, drawn by hypothesis or drawn by hand, as ONNX graphs with random weights.

`bounded_networks()` gives (model, description): networks for which some margin makes windows exact. Input and output
are free in size; channels and classes stand in the graph. `Sketch` is the pencil: each method adds a node and gives
the name of its result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 18, 9


class Sketch:
    """An ONNX graph being drawn. `height` and `width` None leave the input free in size, and so is `batch`."""

    def __init__(self, bands: int = 3, *, seed: int = 0, layout: str = "NCHW", height=None, width=None, batch="n"):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.channels = [], [], {}
        self.layout = layout
        rows, cols = height or "rows", width or "cols"
        self.shape = [batch, rows, cols, bands] if layout == "NHWC" else [batch, bands, rows, cols]
        self.image = "image"
        self.channels["image"] = bands
        if layout == "NHWC":
            self.image = self.add("Transpose", "image", perm=[0, 3, 1, 2])

    def add(self, op: str, *inputs: str, channels: int | None = None, outputs: int = 1, name: str = "", **attributes):
        """Add any node; the result has as many channels as the first operand where nothing else is said."""
        made = [f"{op.lower()}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(op, inputs, made, name=name or made[0], domain=domain, **attributes))
        for item in made:
            self.channels[item] = channels or self.channels.get(inputs[0] if inputs else "", 1)
        return made[0] if outputs == 1 else made

    def constant(self, values, dtype=np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, *shape: int) -> str:
        spread = 1 / np.sqrt(np.prod(shape[1:]))
        return self.constant(self.random.normal(0, spread, shape))

    def conv(self, x: str, out: int, kernel: int = 3, *, stride=1, dilation=1, group=1, pad: int | str = "same"):
        """A convolution; `pad` is "same", "valid", one of ONNX's auto_pad, or a number for all sides."""
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2}
        reach = dilation * (kernel - 1)
        if pad == "same":
            attributes["pads"] = [reach // 2] * 2 + [reach - reach // 2] * 2
        elif isinstance(pad, int):
            attributes["pads"] = [pad] * 4
        elif pad != "valid":
            attributes["auto_pad"] = pad
        weights = self.weights(out, self.channels[x] // group, kernel, kernel)
        return self.add("Conv", x, weights, self.weights(out), channels=out, group=group, **attributes)

    def transposed(self, x: str, out: int, kernel: int = 2, *, stride=2, pad=0, more=0):
        weights = self.weights(self.channels[x], out, kernel, kernel)
        attributes = {"strides": [stride] * 2, "pads": [pad] * 4, "output_padding": [more] * 2}
        return self.add("ConvTranspose", x, weights, channels=out, kernel_shape=[kernel] * 2, **attributes)

    def pool(self, x: str, kind: str = "MaxPool", kernel: int = 2, *, stride: int | None = None, pad: int = 0, ceil=0):
        sides = {"kernel_shape": [kernel] * 2, "strides": [stride or kernel] * 2, "pads": [pad] * 4}
        return self.add(kind, x, ceil_mode=ceil, **sides)

    def resize(self, x: str, factor=2.0, mode="nearest", coordinates="half_pixel", *, rounding="floor", like=None):
        """Resize by a factor, or to the size of another tensor by shape arithmetic as exporters write it."""
        said = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
        if like is None:
            return self.add("Resize", x, "", self.constant([1, 1, factor, factor]), **said)
        ahead = self.cut(self.add("Shape", x), 0, 2, 0)
        sizes = self.add("Concat", ahead, self.cut(self.add("Shape", like), 2, 4, 0), axis=0)
        return self.add("Resize", x, "", "", sizes, channels=self.channels[x], **said)

    def cut(self, x: str, start: int, end: int, axis: int, step: int = 1):
        bounds = [self.constant([number], np.int64) for number in (start, end, axis, step)]
        return self.add("Slice", x, *bounds)

    def crop(self, x: str, pixels: int):
        numbers = ([pixels] * 2, [-pixels] * 2, [2, 3])
        return self.add("Slice", x, *(self.constant(item, np.int64) for item in numbers))

    def norm(self, x: str):
        """BatchNormalization."""
        count = self.channels[x]
        numbers = [self.random.uniform(0.5, 1.5, count) for _ in range(4)]
        return self.add("BatchNormalization", x, *(self.constant(item) for item in numbers))

    def join(self, *tensors: str):
        return self.add("Concat", *tensors, channels=sum(self.channels[item] for item in tensors), axis=1)

    def model(self, *results: str, rank: int = 4) -> onnx.ModelProto:
        """Close the graph: each result becomes an output named output, output1, …, in the input's layout."""
        outputs, nodes = [], list(self.nodes)
        for number, result in enumerate(results):
            name = f"output{number or ''}"
            last = self.layout == "NHWC" and rank == 4
            nodes.append(helper.make_node("Transpose" if last else "Identity", [result], [name], name=name))
            if last:
                nodes[-1].attribute.append(helper.make_attribute("perm", [0, 2, 3, 1]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank))
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(nodes, "sketch", [image], outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR)


def unet(
    bands: int = 3, widths: Sequence[int] = (4, 8, 8), classes: int = 3, *, seed: int = 0, layout: str = "NCHW"
) -> onnx.ModelProto:
    """Draw the classic: two convolutions a level, max pooling, transposed convolutions, skips by concatenation."""
    sketch, skips = Sketch(bands, seed=seed, layout=layout), []
    x = sketch.image
    for level, width in enumerate(widths):
        for _ in range(2):
            x = sketch.add("Relu", sketch.conv(x, width))
        if level < len(widths) - 1:
            skips.append(x)
            x = sketch.pool(x)
    for width, skip in zip(reversed(widths[:-1]), reversed(skips), strict=True):
        x = sketch.join(sketch.transposed(x, width), skip)
        for _ in range(2):
            x = sketch.add("Relu", sketch.conv(x, width))
    return sketch.model(sketch.conv(x, classes, 1))


POINTWISE = ("Relu", "Sigmoid", "LeakyRelu", "HardSwish", "Clip", "norm", "Softmax", "LayerNorm", "PRelu", "gate")


def _pointwise(draw, sketch: Sketch, x: str) -> str:
    kind, count = draw(st.sampled_from(POINTWISE)), sketch.channels[x]
    if kind == "norm":
        return sketch.norm(x)
    if kind == "Clip":
        return sketch.add("Clip", x, sketch.constant(-1), sketch.constant(1))
    if kind == "PRelu":
        return sketch.add("PRelu", x, sketch.constant(np.full((count, 1, 1), 0.2)))
    if kind == "gate":
        return sketch.add("Mul", x, sketch.add("Sigmoid", sketch.conv(x, count, 1)))
    if kind == "LayerNorm":
        last = sketch.add("Transpose", x, perm=[0, 2, 3, 1])
        scale = sketch.constant(sketch.random.uniform(0.5, 1.5, count))
        return sketch.add("Transpose", sketch.add("LayerNormalization", last, scale, axis=-1), perm=[0, 3, 1, 2])
    return sketch.add(kind, x, **({"axis": 1} if kind == "Softmax" else {}))


def _local(draw, sketch: Sketch, x: str, width: int, *, valid: bool) -> str:
    """One operator that looks around without changing the scale."""
    kind = draw(st.sampled_from(["conv", "conv", "conv", "depthwise", "max", "average", "pad"]))
    if kind in {"max", "average"}:
        pool = {"max": "MaxPool", "average": "AveragePool"}[kind]
        return sketch.pool(x, pool, 3, stride=1, pad=0 if valid and draw(st.booleans()) else 1)
    if kind == "pad":
        mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
        padded = sketch.add("Pad", x, sketch.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode=mode)
        return sketch.conv(padded, width, 3, pad="valid")
    pads = ["same", "SAME_UPPER", "SAME_LOWER", *(["valid", "valid"] if valid else [])]
    kernel, pad = draw(st.sampled_from([1, 2, 3, 3, 3, 5])), draw(st.sampled_from(pads))
    if valid and pad == "valid" and kernel % 2 == 0:
        kernel += 1  # or the output would lie between pixels
    dilation = draw(st.sampled_from([1, 1, 2, 3])) if not pad.startswith("SAME") else 1
    if kind == "depthwise":
        return sketch.conv(x, sketch.channels[x], kernel, dilation=dilation, group=sketch.channels[x], pad=pad)
    return sketch.conv(x, width, kernel, dilation=dilation, pad=pad)


def _down(draw, sketch: Sketch, x: str, width: int, factor: int) -> str:
    kinds = ["MaxPool", "AveragePool", "conv", "patch", "space"] + (["padded", "ceil", "shift"] if factor == 2 else [])
    kind = draw(st.sampled_from(kinds))
    if kind in {"MaxPool", "AveragePool"}:
        return sketch.pool(x, kind, factor)
    if kind == "padded":
        return sketch.pool(x, "MaxPool", 3, stride=2, pad=1)
    if kind == "ceil":
        return sketch.pool(x, "MaxPool", 3, stride=2, ceil=1)
    if kind == "shift":
        return sketch.conv(x, width, 3, stride=2, pad="SAME_UPPER")
    if kind == "space":
        block = sketch.add("SpaceToDepth", x, channels=sketch.channels[x] * factor**2, blocksize=factor)
        return sketch.conv(block, width, 1)
    return sketch.conv(x, width, factor if kind == "patch" else 2 * factor - 1, stride=factor,
                       pad="valid" if kind == "patch" else factor - 1)  # fmt: skip


def _up(draw, sketch: Sketch, x: str, width: int, factor: int, like: str, *, inexact: bool) -> str:
    kinds = ["transposed", "nearest", "asymmetric", "shuffle", "like"]
    kinds += ["linear", "wide", "cubic", "linear asymmetric"] if factor == 2 else ["linear"] if inexact else []
    kind = draw(st.sampled_from(kinds))
    if kind == "transposed":
        return sketch.transposed(x, width, factor, stride=factor)
    if kind == "wide":
        return sketch.transposed(x, width, 4, stride=2, pad=1)
    if kind == "shuffle":
        x = sketch.conv(x, width * factor**2, 1)
        return sketch.add(
            "DepthToSpace", x, channels=width, blocksize=factor, mode=draw(st.sampled_from(["DCR", "CRD"]))
        )
    mode = "nearest" if kind in {"nearest", "asymmetric", "like"} else kind.split()[0]
    half = draw(st.sampled_from(["half_pixel", "pytorch_half_pixel"]))
    rounding = draw(st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]))
    return sketch.resize(
        x, float(factor), mode, "asymmetric" if "asymmetric" in kind else half, rounding=rounding,
        like=like if kind == "like" else None,
    )  # fmt: skip


def _floor(draw, sketch: Sketch, x: str, width: int, factors: Sequence[int], *, inexact: bool) -> str:
    """A U-Net: one level down by factors[0] and up again, with the rest of the levels in between."""
    for _ in range(draw(st.integers(1, 2))):
        x = _pointwise(draw, sketch, _local(draw, sketch, x, width, valid=False))
    if not factors:
        return x
    below = _down(draw, sketch, x, width, factors[0])
    below = _floor(draw, sketch, below, width, factors[1:], inexact=inexact)
    above = _up(draw, sketch, below, width, factors[0], x, inexact=inexact)
    if sketch.channels[above] == sketch.channels[x] and draw(st.booleans()):
        return sketch.add("Add", above, x)
    if draw(st.integers(0, 3)) == 0:
        return sketch.join(above, x)
    return sketch.conv(sketch.join(above, x), width, 3)


@st.composite
def bounded_networks(draw, *, same: bool = False, classes: int | None = None, inexact: bool = False, layouts=None):
    """Draw (model, description): a bounded network with free height, width and batch.

    same
        Only networks whose output has the input's size; else convolutions without padding and strided or stretched
        outputs are drawn too.
    classes
        How many channels the output has; drawn from 1 to 4 where it is None (and of one, rank 3 is drawn too).
    inexact
        Linear resizing by 3 is drawn too, which is exact to rounding only.
    layouts
        "NCHW", "NHWC", as a sequence; None draws both.
    """
    bands, width = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([2, 4, 5, 8]))
    layout = draw(st.sampled_from(list(layouts or ["NCHW", "NCHW", "NHWC"])))
    sketch = Sketch(bands, seed=draw(st.integers(0, 2**16)), layout=layout)
    x = sketch.conv(sketch.image, width, draw(st.sampled_from([1, 3])))
    factors = draw(st.sampled_from([(), (2,), (2,), (3,), (4,), (2, 2), (2, 2), (3, 2), (2, 2, 2)]))
    if same or draw(st.integers(0, 2)):
        x = _floor(draw, sketch, x, width, factors, inexact=inexact)
    if not same:
        for _ in range(draw(st.integers(0, 2))):
            x = _local(draw, sketch, x, width, valid=True)
        end = draw(st.sampled_from(["", "", "", "crop", "strided", "stretched"]))
        x = _ended(draw, sketch, x, width, end)
    count = classes or draw(st.integers(1, 4))
    x = sketch.conv(x, count, 1)
    flat = classes is None and count == 1 and draw(st.booleans())
    if flat:
        x = sketch.add("Squeeze", x, sketch.constant([1], np.int64))
    model = sketch.model(x, rank=3 if flat else 4)
    return model, f"{layout} {bands} bands: " + " ".join(node.op_type for node in model.graph.node)


def _ended(draw, sketch: Sketch, x: str, width: int, end: str) -> str:
    if end == "crop":
        return sketch.crop(x, draw(st.integers(1, 5)))
    if end == "strided":
        return sketch.conv(x, width, 3, stride=2, pad=1)
    if end == "stretched":
        return sketch.transposed(x, width, 2)
    return x
