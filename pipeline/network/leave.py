"""The fused graph's last part: what the network says becomes classes, steps of confidence, probabilities or values."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from pipeline.network.card import Card
from pipeline.network.host import Host, Recipe, dims_of
from pipeline.network.nodes import BOOL, BYTE, FLOAT, UNSIGNED, Nodes, Ports
from pipeline.network.rule import cut
from pipeline.settings import STEPS


def leave(nodes: Nodes, network: Host, core: tuple[int, int] | None) -> str:
    """What the network says to float32 (batch, C, row, col), of the core where one is given."""
    value, rank = network.output.name, len(dims_of(network.output))
    if core:
        rows = 1 if network.nhwc or rank == 3 else 2
        value = nodes.sliced(value, [core[0]] * 2, [core[1]] * 2, [rows, rows + 1])
    if rank == 3:
        value = nodes.over("Unsqueeze", value, [1])
    elif network.nhwc:
        value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
    if network.output.type.tensor_type.elem_type != TensorProto.FLOAT:
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    return value


def exact_outputs(nodes: Nodes, said: str, card: Card, recipe: Recipe) -> Ports:
    """Classes, finiteness and what else is asked for, of the core; returns the outputs."""
    core, finite = recipe.core, _finite(nodes, said, recipe)
    every = [recipe.batch, card.channels, core, core]
    if card.says == "values":
        nodes.add("Identity", said, into="values")
        return finite | {"values": (FLOAT, every)}
    if card.layered:
        return finite | _layers(nodes, said, card, recipe, every)
    outputs = finite | {"classes": (UNSIGNED[card.mask_dtype], [recipe.batch, core, core])}
    best, below = _classes(nodes, said, card)
    if recipe.confidence:
        certain = _confidence(nodes, said, best, below, card)
        nodes.over("Squeeze", _quantised(nodes, certain), [1], into="confidence")
        outputs["confidence"] = BYTE, [recipe.batch, core, core]
    if recipe.probabilities:
        _quantised(nodes, _probabilities(nodes, said, best, card), into="probabilities")
        outputs["probabilities"] = BYTE, every
    return outputs


def _layers(nodes: Nodes, said: str, card: Card, recipe: Recipe, every: list[int]) -> Ports:
    """Classes, and what else is asked for, where each channel has a band of its own; returns the outputs."""
    below = nodes.add("Less", said, nodes.constant(cut(card, card.says) or np.float32(0)))
    kind = UNSIGNED[card.mask_dtype]
    nodes.add("Cast", nodes.add("Not", below), to=kind, into="classes")
    outputs: Ports = {"classes": (kind, every)}
    if not (recipe.confidence or recipe.probabilities):
        return outputs
    parts = _probabilities(nodes, said, said, card)
    if recipe.confidence:
        left = nodes.add("Sub", nodes.constant(np.float32(1)), parts)
        certain = nodes.add("Min", *_channels(nodes, nodes.add("Where", below, left, parts), card))
        nodes.over("Squeeze", _quantised(nodes, certain), [1], into="confidence")
        outputs["confidence"] = BYTE, [every[0], *every[2:]]
    if recipe.probabilities:
        _quantised(nodes, parts, into="probabilities")
        outputs["probabilities"] = BYTE, every
    return outputs


def blend_outputs(nodes: Nodes, said: str, card: Card, recipe: Recipe, side: int) -> Ports:
    """Probabilities or values, and finiteness, of all `side` × `side` pixels that the network says; the outputs."""
    outputs = _finite(nodes, said, recipe)
    answer = said
    if card.says == "logits":
        channels = _channels(nodes, said, card)
        best = nodes.add("Max", *channels) if len(channels) > 1 else said
        answer = _probabilities(nodes, said, best, card)
    nodes.add("Identity", answer, into=card.answer)
    return outputs | {card.answer: (FLOAT, [recipe.batch, card.channels, side, side])}


def _finite(nodes: Nodes, said: str, recipe: Recipe) -> Ports:
    """Whether all numbers of a window are finite: 0 times each is 0, or it and the sum are not a number."""
    nought = nodes.over("ReduceSum", nodes.add("Mul", said, nodes.constant(np.float32(0))), [1, 2, 3], keepdims=0)
    nodes.add("Not", nodes.add("IsNaN", nought), into="finite")
    return {"finite": (BOOL, [recipe.batch])}


def _channels(nodes: Nodes, said: str, card: Card) -> list[str]:
    if card.channels == 1:
        return [said]
    return [nodes.sliced(said, [channel], [channel + 1], [1]) for channel in range(card.channels)]


def _classes(nodes: Nodes, said: str, card: Card) -> tuple[str, str | None]:
    """Write `classes`; returns the largest channel's number and, with sigmoid, whether it stays below the threshold.

    A chain of comparisons on single channels: ArgMax takes four times as long on the CPU, and 64 bits a pixel.
    """
    least = cut(card, card.says)
    wide = card.mask_dtype != "uint8"  # ONNX Runtime has no Where for 16 bits
    values = [nodes.constant(np.array(value, "int32" if wide else "uint8")) for value in card.values]
    none = values.pop(0) if least is not None else ""
    best, *others = _channels(nodes, said, card)
    chosen = values[0]
    for value, channel in zip(values[1:], others, strict=True):
        chosen = nodes.add("Where", nodes.add("Less", best, channel), value, chosen)
        best = nodes.add("Max", best, channel)
    below = None
    if least is not None:
        below = nodes.add("Less", best, nodes.constant(least))
        chosen = nodes.add("Where", below, none, chosen)
    if wide:
        chosen = nodes.add("Cast", chosen, to=UNSIGNED[card.mask_dtype])
    nodes.over("Squeeze", chosen, [1], into="classes")
    return best, below


def _probabilities(nodes: Nodes, said: str, best: str, card: Card) -> str:
    """From what the network says to probabilities (batch, C, row, col)."""
    if card.says == "probabilities":
        return said
    if card.activation == "sigmoid":
        return nodes.add("Sigmoid", said)
    powers, total = _powers(nodes, said, best)
    return nodes.add("Div", powers, total)


def _powers(nodes: Nodes, said: str, best: str) -> tuple[str, str]:
    """The softmax's numerators and denominator: ONNX Runtime's Softmax over channels takes five times as long."""
    powers = nodes.add("Exp", nodes.add("Sub", said, best))
    return powers, nodes.over("ReduceSum", powers, [1], keepdims=1)


def _confidence(nodes: Nodes, said: str, best: str, below: str | None, card: Card) -> str:
    """The probability of the chosen class, (batch, 1, row, col)."""
    certain = best
    if card.says == "logits" and below is None:
        certain = nodes.add("Reciprocal", _powers(nodes, said, best)[1])
    elif card.says == "logits":
        certain = nodes.add("Sigmoid", best)
    if below is None:
        return certain
    return nodes.add("Where", below, nodes.add("Sub", nodes.constant(np.float32(1)), certain), certain)


def _quantised(nodes: Nodes, part: str, into: str | None = None) -> str:
    """Parts of 1 to uint8 steps, as `rule.quantised`."""
    part = nodes.add("Max", part, nodes.constant(np.float32(0)))
    part = nodes.add("Min", part, nodes.constant(np.float32(1)))
    steps = nodes.add("Mul", part, nodes.constant(np.float32(STEPS)))
    return nodes.add("Cast", nodes.add("Add", steps, nodes.constant(np.float32(0.5))), to=TensorProto.UINT8, into=into)
