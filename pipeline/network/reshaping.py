"""The rules of operators that order, group, cut or name a tensor's axes anew without touching its values.

Each rule takes a Step and gives the node's results, or raises MixesError. Numbers that were written for one size of
image (a Reshape to 512 × 512, a Slice to 512) are read for what they mean, and the step says how to repair them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from pipeline.network.graph import Known
from pipeline.network.lines import Span
from pipeline.network.trace import SPATIAL, Axis, Note, Repair, Rule, Step, Tensor, Value, VanishesError


def transposition(step: Step) -> tuple[Value, ...]:
    """Transpose: how NHWC becomes NCHW and back."""
    tensor = step.tensor
    perm = step.node.numbers("perm") or list(reversed(range(tensor.rank)))
    if sorted(perm) != list(range(tensor.rank)):
        raise step.refusal(f"orders {tensor.rank} axes as {perm}")
    return (tensor.arranged([tensor.axes[axis] for axis in perm], [tensor.shape[axis] for axis in perm]),)


def shape_of(step: Step) -> tuple[Value, ...]:
    """Shape: its result no longer depends on the pixels."""
    start, end = step.node.number("start", 0), step.node.number("end", step.tensor.rank)
    return (Known.of(np.asarray(step.tensor.shape[start:end], np.int64)),)


def size_of(step: Step) -> tuple[Value, ...]:
    """Size: the number of elements."""
    return (Known.of(np.asarray(math.prod(step.tensor.shape), np.int64)),)


def squeezing(step: Step) -> tuple[Value, ...]:
    """Squeeze: drops axes of one element."""
    tensor = step.tensor
    said = step.ints(1, "axes")
    alone = [place for place, side in enumerate(tensor.shape) if side == 1 and tensor.axes[place] is Axis.OTHER]
    gone = alone if said is None else [step.axis(axis, tensor.rank) for axis in said]
    if any(tensor.axes[axis] in SPATIAL or tensor.shape[axis] != 1 for axis in gone):
        raise step.refusal("drops axes that hold more than one element")
    kept = [place for place in range(tensor.rank) if place not in gone]
    return (tensor.arranged([tensor.axes[place] for place in kept], [tensor.shape[place] for place in kept]),)


def unsqueezing(step: Step) -> tuple[Value, ...]:
    """Unsqueeze: adds axes of one element."""
    tensor = step.tensor
    said = step.ints(1, "axes") or []
    rank = tensor.rank + len(said)
    added = {step.axis(axis, rank) for axis in said}
    old = iter(zip(tensor.axes, tensor.shape, strict=True))
    both = [(Axis.OTHER, 1) if place in added else next(old, (Axis.OTHER, 1)) for place in range(rank)]
    return (tensor.arranged([axis for axis, _ in both], [side for _, side in both]),)


def splitting(step: Step) -> tuple[Value, ...]:
    """Split along channels."""
    tensor, count = step.tensor, len(step.node.outputs)
    axis = step.axis(step.node.number("axis", 0), tensor.rank)
    step.free([axis])
    each = -(-tensor.shape[axis] // count)
    sizes = step.ints(1, "split") or [min(each, tensor.shape[axis] - each * place) for place in range(count)]
    if sum(sizes) != tensor.shape[axis] or len(sizes) != count:
        raise step.refusal(f"cuts {tensor.shape[axis]} channels into {sizes}")
    shapes = [[size if place == axis else own for place, own in enumerate(tensor.shape)] for size in sizes]
    return tuple(tensor.arranged(tensor.axes, shape) for shape in shapes)


def gathering(step: Step) -> tuple[Value, ...]:
    """Gather of channels by constant places."""
    tensor, places = step.tensor, step.operand(1)
    axis = step.axis(step.node.number("axis", 0), tensor.rank)
    step.free([axis])
    if places is None or places.shape is None:
        raise step.refusal("picks channels that cannot be worked out beforehand")
    axes = (*tensor.axes[:axis], *[Axis.OTHER] * len(places.shape), *tensor.axes[axis + 1 :])
    return (tensor.arranged(axes, (*tensor.shape[:axis], *places.shape, *tensor.shape[axis + 1 :])),)


def tiling(step: Step) -> tuple[Value, ...]:
    """Tile along channels."""
    tensor, repeats = step.tensor, step.values(1)
    if repeats is None or len(repeats) != tensor.rank:
        raise step.refusal("repeats by numbers that cannot be worked out beforehand")
    step.free([place for place, times in enumerate(repeats) if times != 1])
    return (tensor.arranged(tensor.axes, [side * int(n) for side, n in zip(tensor.shape, repeats, strict=True)]),)


def expansion(step: Step) -> tuple[Value, ...]:
    """Expand: broadcasts axes of one element; rows, columns and the batch stay as they are."""
    tensor, said = step.tensor, step.values(1)
    if said is None or len(said) < tensor.rank:
        raise step.refusal("expands to a shape that cannot be worked out beforehand")
    ahead = len(said) - tensor.rank
    shape = [*said[:ahead].tolist(), *np.maximum(tensor.shape, said[ahead:]).tolist()]
    grown = [place for place, side in enumerate(tensor.shape) if shape[ahead + place] != side]
    step.free(grown)
    if any(tensor.shape[place] != 1 for place in grown):
        raise step.refusal(f"expands a shape {tensor.shape} to {said.tolist()}")
    return (tensor.arranged([Axis.OTHER] * ahead + list(tensor.axes), shape),)


def slicing(step: Step) -> tuple[Value, ...]:
    """Slice: channels, a crop, or every n-th row."""
    tensor = step.tensor
    starts, ends = step.ints(1, "starts") or [], step.ints(2, "ends") or []
    said = step.ints(3, "axes")
    axes = [step.axis(axis, tensor.rank) for axis in (range(len(starts)) if said is None else said)]
    steps = step.values(4)
    strides = [1] * len(axes) if steps is None else [int(item) for item in steps]
    if not len(starts) == len(ends) == len(axes) == len(strides):
        raise step.refusal("has starts, ends, axes and steps that do not fit each other")
    step.note = Note(tensor.shape, (*starts, *ends))
    meant = [_meant_end(step, place, axis, starts, ends) for place, axis in enumerate(axes)]
    if meant != ends:
        step.repair = Repair(2, np.asarray(meant, np.int64))
    shape, lines = list(tensor.shape), dict(tensor.lines)
    for axis, start, end, stride in zip(axes, starts, meant, strides, strict=True):
        kind = tensor.axes[axis]
        if stride == 0 or (stride < 0 and kind in SPATIAL):
            raise step.refusal(f"takes every {stride}th element")
        index = np.arange(tensor.shape[axis])[_python(start, end, stride, tensor.shape[axis])]
        if kind is Axis.BATCH and len(index) != tensor.shape[axis]:
            raise step.refusal("picks images of a batch")
        shape[axis] = len(index)
        if not len(index):
            raise VanishesError(f"{step.node.title} leaves nothing of {tensor.shape[axis]} elements")
        if kind in SPATIAL:
            lines[kind] = lines[kind].through(Span(index, index), Fraction(stride))
    return (Tensor(tuple(shape), tensor.axes, lines),)


def _python(start: int, end: int, stride: int, size: int) -> slice:
    """Translate ONNX's bounds: with a negative step, an end far below zero means to the first element."""
    return slice(start, None if stride < 0 and end < -size else end, stride)


def _meant_end(step: Step, place: int, axis: int, starts: Sequence[int], ends: Sequence[int]) -> int:
    """Read an end that was written for one size of image: the map's end, or as far from it as the start is."""
    size, meant, end = step.tensor.shape[axis], step.meant, ends[place]
    if meant is None or step.tensor.axes[axis] is Axis.OTHER or end < 0:
        return end
    written = (*starts, *ends) == meant.numbers and size != meant.shape[axis]
    if not written:
        return end
    left_over = max(0, meant.shape[axis] - end)
    return size - left_over if left_over == 0 or abs(left_over - starts[place]) <= 1 else end


def reshape(step: Step) -> tuple[Value, ...]:
    """Reshape that adds or drops axes of one element, or groups channels; rows and columns stay whole."""
    tensor, said = step.tensor, step.values(1)
    numbers = step.node.numbers("shape") if said is None else [int(side) for side in said]
    if numbers is None:
        raise step.refusal("has a shape that cannot be worked out beforehand")
    asked, meant = _asked(step, numbers, tensor.shape), step.meant
    if meant and tuple(numbers) == meant.numbers and tensor.shape != meant.shape:
        sources = meant.sources
        written = _whole(step, _asked(step, numbers, meant.shape), meant.shape)
        shape = [side if at is None else tensor.shape[at] for side, at in zip(written, sources, strict=True)]
        if math.prod(shape) != math.prod(tensor.shape):
            raise step.refusal(f"has a shape, {numbers}, that was written for one size of image")
        if shape != _filled(asked, tensor.shape):
            step.repair = Repair(1, np.asarray(shape, np.int64))
    else:
        shape = _whole(step, asked, tensor.shape)
        sources = tuple(_sources(step, shape))
    step.note = Note(tensor.shape, tuple(numbers), sources)
    return (tensor.arranged([Axis.OTHER if at is None else tensor.axes[at] for at in sources], shape),)


def _asked(step: Step, numbers: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Put the operand's own sides in the place of zeros."""
    if step.node.number("allowzero", 0):
        return list(numbers)
    return [shape[place] if side == 0 and place < len(shape) else side for place, side in enumerate(numbers)]


def _filled(asked: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Put the side that is left over in the place of −1."""
    known = math.prod(side for side in asked if side != -1)
    return [math.prod(shape) // known if side == -1 and known else side for side in asked]


def _whole(step: Step, asked: Sequence[int], shape: Sequence[int]) -> list[int]:
    made = _filled(asked, shape)
    if math.prod(made) != math.prod(shape) or min(made, default=1) < 1:
        raise step.refusal(f"turns a shape {tuple(shape)} into {list(asked)}")
    return made


def _sources(step: Step, made: Sequence[int]) -> list[int | None]:
    """Say which axis of the operand each axis is: sides are matched from the left, ones come and go, channels group."""
    tensor, sources, old, new = step.tensor, list[int | None](), 0, 0
    while old < tensor.rank or new < len(made):
        side = tensor.shape[old] if old < tensor.rank else 0
        if new < len(made) and side == made[new]:
            sources.append(old)
            old, new = old + 1, new + 1
        elif new < len(made) and made[new] == 1:
            sources.append(None)
            new += 1
        elif side == 1:
            old += 1
        else:
            old_end, new_end = _group(tensor.shape, made, old, new)
            step.free(range(old, old_end))
            sources += [None] * (new_end - new)
            old, new = old_end, new_end
    return sources


def _group(shape: Sequence[int], made: Sequence[int], old: int, new: int) -> tuple[int, int]:
    """Find the ends of the shortest runs of sides, from `old` and from `new` on, that have the same product."""
    left, right = shape[old], made[new]
    while left != right:  # the whole products are equal, so the runs end
        if left < right:
            old += 1
            left *= shape[old]
        else:
            new += 1
            right *= made[new]
    return old + 1, new + 1


def flattening(step: Step) -> tuple[Value, ...]:
    """Flatten always makes one axis of rows and columns."""
    raise step.refusal("flattens rows and columns into one axis")


RESHAPING: dict[str, Rule] = {
    "Expand": expansion,
    "Flatten": flattening,
    "Gather": gathering,
    "Reshape": reshape,
    "Shape": shape_of,
    "Size": size_of,
    "Slice": slicing,
    "Split": splitting,
    "Squeeze": squeezing,
    "Tile": tiling,
    "Transpose": transposition,
    "Unsqueeze": unsqueezing,
}
