"""Cards drawn at random, and the smallest network that fits a card."""

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pipeline.network.card import Card

_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
_NUMBERS = st.floats(-1e4, 1e4)
_POSITIVE = st.floats(1e-3, 1e4)


def _lists(numbers, bands):
    return st.one_of(st.lists(numbers, min_size=1, max_size=1), st.lists(numbers, min_size=bands, max_size=bands))


@st.composite
def scalings(draw, bands):
    """A scaling of any kind, its numbers for all bands at once or for each."""
    kind = draw(st.sampled_from(["none", "constant", "mean_std", "min_max", "scene", "percentile", "window"]))
    if kind == "none":
        return {"kind": kind}
    if kind in ("scene", "percentile", "window"):
        ends = {"low": draw(st.floats(0, 50)), "high": draw(st.floats(51, 100))} if kind == "percentile" else {}
        return {"kind": kind, "eps": draw(st.sampled_from([0.0, 1e-6])), **ends}
    if kind == "constant":
        return {"kind": kind, "divide_by": draw(_POSITIVE)}
    low = draw(_lists(_NUMBERS, bands))
    wide = draw(st.lists(_POSITIVE, min_size=len(low), max_size=len(low)))
    if kind == "min_max":
        return {"kind": kind, "min": low, "max": [a + b for a, b in zip(low, wide, strict=True)]}
    return {"kind": kind, "mean": low, "std": wide, "divide_by": draw(st.sampled_from([1, 255, 10_000]))}


@st.composite
def cards(draw, scaling=None):
    """A card with every entry drawn."""
    count = draw(st.integers(1, 4))
    says = draw(st.sampled_from(["logits", "probabilities", "values"]))
    activation = "none" if says == "values" else draw(st.sampled_from(["softmax", "sigmoid"]))
    names = draw(st.lists(_WORDS, min_size=1 if says == "values" else 2, max_size=6, unique=True))
    highest = draw(st.sampled_from([252, 65532]))
    values = draw(st.lists(st.integers(0, highest), min_size=len(names), max_size=len(names), unique=True))
    colours = st.from_regex("#[0-9a-f]{6}", fullmatch=True)
    optional = st.none() | _WORDS
    return Card.model_validate(
        {
            "name": draw(_WORDS),
            "bands": [{"name": draw(_WORDS), "index": draw(st.none() | st.integers(1, 12))} for _ in range(count)],
            "dtype": draw(st.sampled_from([None, "uint8", "uint16", "int16", "float32"])),
            "gain": draw(_lists(st.sampled_from([1.0, 2e-5, 1e-4, -1.0, 3.0]), count)),
            "offset": draw(_lists(st.sampled_from([0.0, -0.1, 7.0]), count)),
            "scaling": draw(scalings(count) if scaling is None else scaling(count)),
            "units": draw(st.sampled_from([None, "reflectance"])),
            "clip": draw(st.sampled_from([None, [0.0, 1.0], [-3.5, 3.5]])),
            "fill": draw(_NUMBERS),
            "resolution": draw(st.none() | _POSITIVE),
            "classes": [
                {"name": name, "value": value, "colour": draw(colours)}
                for name, value in zip(names, values, strict=True)
            ],
            "output": draw(st.sampled_from([None, "mask"])),
            "layout": draw(st.sampled_from(["NCHW", "NHWC"])),
            "says": says,
            "activation": activation,
            "exclusive": says != "values" and draw(st.booleans()),
            "threshold": draw(st.floats(0.01, 0.99)),
            "window": draw(st.none() | st.integers(1, 4096)),
            "architecture": draw(_WORDS),
            "licence": draw(optional),
            "training_data": draw(optional),
            "scores": draw(st.dictionaries(_WORDS, st.floats(0, 1), max_size=3)),
        }
    )


def network(
    bands, channels, *, layout="NCHW", side=None, last=None, rank=4, outputs=("mask",), weights=None, known=True
) -> ModelProto:
    """One pointwise convolution of `bands` to `channels`, and after it the operator `last`, if any."""
    if weights is None:
        weights = np.linspace(-1, 1, channels * bands, dtype=np.float32).reshape(channels, bands, 1, 1)
    sides = {"N": "n", "C": bands, "H": side or "h", "W": side or "w"}
    nodes, at = [], "image"

    def then(operator, **attributes):
        nonlocal at
        taken = [at, "weights"] if operator == "Conv" else [at]
        at = f"t{len(nodes)}"
        nodes.append(helper.make_node(operator, taken, [at], **attributes))

    if layout == "NHWC":
        then("Transpose", perm=[0, 3, 1, 2])
    then("Conv")
    if last:
        then(last, **({"axis": 1} if last == "Softmax" else {}))
    if layout == "NHWC":
        then("Transpose", perm=[0, 2, 3, 1])
    if rank == 3:
        nodes.append(helper.make_node("Squeeze", [at, "axes"], ["flat"]))
        at = "flat"
    nodes += [helper.make_node("Identity", [at], [name]) for name in outputs]
    order = [sides[axis] if axis != "C" else channels for axis in layout]
    shape = (order if rank == 4 else [sides[axis] for axis in "NHW"]) if known else None
    axis = numpy_helper.from_array(np.array([layout.index("C")]), "axes")
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [sides[axis] for axis in layout])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
        [numpy_helper.from_array(weights, "weights"), *([axis] if rank == 3 else [])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
