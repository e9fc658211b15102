"""How a network's answer lies over its window: at which scale, and how much the window's rim lacks.

The graph says it of a bounded network. Of one that mixes all its pixels only sizes are known: at the window and, where
the sides are free, at twice the window, which tells a scale from a missing rim.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from pipeline.child import in_child
from pipeline.errors import ModelError
from pipeline.grid import Stitch
from pipeline.lay import blend_window
from pipeline.network.field import field_of
from pipeline.network.host import Host, Recipe, dims_of
from pipeline.network.model_file import load_model
from pipeline.network.providers import CPU, ORT_ERRORS, sentence, start
from pipeline.network.rescale import can_rescale, rescaled, trimmed
from pipeline.network.scaling import WindowStatistics
from pipeline.plan import Network
from pipeline.settings import Job


def placed(network: Network, model: onnx.ModelProto, job: Job) -> Network:
    """Complete a network with its output's scale and offset, and say what was made of them.

    `network.field` is that of the model as it is. Raises ModelError where an answer of such a size cannot be placed.
    """
    network = _with_fitting_sides(network, model)
    model = trimmed(model, network.card.layout, network.rim)
    card, scale, less = network.card, network.field.scale, network.field.offset
    if not network.field.bounded:
        window = blend_window(job, network)
        scale, less = _measured(network, model, window)
    if can_rescale(scale) and scale != 1:
        field = field_of(rescaled(model, card.output, card.layout, scale), card.output, card.layout)
        network = replace(network, field=field, scale=scale, notes=(*network.notes, _rescaled_note(scale)))
    field = network.field if network.field.bounded else replace(network.field, offset=less)
    if isinstance(card.scaling, WindowStatistics) and field.bounded:
        field = replace(field, unbounded=f"its scaling `{card.scaling.kind}` takes the statistics of each window")
    if not field.bounded and field.offset:
        network = replace(network, notes=(*network.notes, _rim_note(field.offset)))
    return replace(network, field=field)


def _with_fitting_sides(network: Network, model: onnx.ModelProto) -> Network:
    """Cut the rim off its windows that a network without padding needs to lose no row to rounding down.

    Where none is lost it looks least far: all maps lie in the window's middle.
    """
    field = network.field
    if not (field.bounded and field.offset and network.side is None):
        return network
    layout, output = network.card.layout, network.card.output
    rims = range(max(1, field.stride // 2))
    tried = {rim: field_of(trimmed(model, layout, rim), output, layout) for rim in rims}
    rim = min((rim for rim, found in tried.items() if found.bounded), key=lambda rim: (tried[rim].reach, rim))
    if not rim:
        return network
    note = f"Of each window {rim} px on each side are cut off before the network, whose maps then lie over each other."
    return replace(network, field=tried[rim], rim=rim, notes=(*network.notes, note))


def _rescaled_note(scale: Fraction) -> str:
    if scale > 1:
        return (
            f"The network says one pixel for {scale} × {scale} of its input; what it says is interpolated (linear, "
            "half-pixel) to the input's grid."
        )
    side = scale.denominator
    return f"The network says {side} × {side} pixels for one of its input; their mean stands for it."


def _rim_note(less: int) -> str:
    return f"The network's answer is smaller than its window; it is taken for the window's middle, {less} px inside."


def _measured(network: Network, model: onnx.ModelProto, window: int) -> tuple[Fraction, int]:
    """(input pixels per output pixel, input pixels from the window's corner to the answer's), both from sizes."""
    said = _side(network, model, window)
    twice = _side_of_twice(network, model, window) if network.side is None else None
    if twice is not None and twice > said:
        scale = Fraction(window, twice - said)
    elif said > window or 2 * said <= window:
        scale = Fraction(window, said)
    else:
        scale = Fraction(1)  # nearly the window's size: a rim is missing
    less = (window - said * scale) / 2
    if not can_rescale(scale) or less.denominator != 1 or less < 0:
        raise ModelError(
            f"The network says {said} × {said} pixels of a window of {window}, and it cannot be told where they lie: "
            "neither is one size a multiple of the other, nor is an even rim missing. Take another --window, a "
            "multiple of 32 say, or export the network with an output of its input's size."
        )
    return scale, int(less)


def _side_of_twice(network: Network, model: onnx.ModelProto, window: int) -> int | None:
    """The side of the answer to a window twice as large; None where the graph does not say it."""
    try:
        rows, _ = _host(network, model, 2 * window).size
    except ModelError:
        return None
    return rows


def _side(network: Network, model: onnx.ModelProto, window: int) -> int:
    rows, cols = _host(network, model, window).size
    if rows is None or cols is None:
        rows, cols = in_child(said_size, network, window)
    if rows != cols:
        raise ModelError(f"The network says {rows} × {cols} pixels of a square window of {window}; both must be alike.")
    return rows


def _host(network: Network, model: onnx.ModelProto, window: int) -> Host:
    return Host.of(model, network.card, Recipe(window, 0, 1, "float32", Stitch.BLEND))


def said_size(network: Network, window: int) -> tuple[int, int]:
    """Run the bare network on a window of zeros: (rows, cols) of its answer. To be called in a process of its own."""
    host = _host(network, load_model(Path(network.path)), window)
    kind = helper.tensor_dtype_to_np_dtype(host.input.type.tensor_type.elem_type)
    image = np.zeros([side or 1 for side in dims_of(host.input)], kind)
    try:
        session = start(host.model.SerializeToString(), [CPU], 1)
        answer = session.run([host.output.name], {host.input.name: image})[0]
    except ORT_ERRORS as error:
        raise ModelError(f"The network does not run on a window of {window} px: {sentence(error)}.") from None
    rows = 1 if host.nhwc or answer.ndim == 3 else 2
    return int(answer.shape[rows]), int(answer.shape[rows + 1])
