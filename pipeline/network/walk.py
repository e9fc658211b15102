"""A graph followed at one size of image: what each tensor is made of, from the first node to the output.

One walk knows concrete sizes, so shape arithmetic is plain arithmetic. What holds at every size is told by walks at
several sizes: `field.py` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

from pipeline.errors import ModelError
from pipeline.network.folding import folded
from pipeline.network.graph import Graph, Node
from pipeline.network.lines import Line
from pipeline.network.pointwise import POINTWISE
from pipeline.network.reshaping import RESHAPING
from pipeline.network.sliding import SLIDING
from pipeline.network.trace import SPATIAL, Axis, MixesError, Note, Repair, Rule, Step, Tensor, Value

RULES: dict[str, Rule] = {**SLIDING, **POINTWISE, **RESHAPING}

ONNX = {"", "ai.onnx"}
RUNTIME = {"FusedConv", "Gelu", "QuickGelu", "FastGelu", "BiasGelu"} | {name for name in RULES if name[:7] == "QLinear"}
BODIES = {"If", "Loop", "Scan", "SequenceMap"}  # they may use any tensor without naming it among their operands


@dataclass(frozen=True, slots=True)
class Seen:
    """How one result of a node lies over the image: by axis, pixels per element and elements beyond side / scale."""

    title: str
    scales: tuple[Fraction, ...]
    beyond: tuple[Fraction, ...]


@dataclass(slots=True, eq=False)
class Walk:
    """What following a graph found. Sizes are pixels.

    `trail` is in the order of nodes; `repairs` and `notes` are by the node's index.
    """

    height: int
    width: int
    result: Tensor
    trail: list[Seen] = field(default_factory=list)
    notes: dict[int, Note] = field(default_factory=dict)
    repairs: dict[int, Repair] = field(default_factory=dict)
    inexact: str | None = None

    @classmethod
    def through(cls, graph: Graph, height: int, width: int, batch: int = 1, meant: Walk | None = None) -> Self:
        """Follow a graph. `meant` is the walk at the size that the graph was made for, where it has one.

        Raises MixesError where no margin makes the network exact, ModelError where the graph is broken.
        """
        image = _image(graph, height, width, batch)
        values: dict[str, Value] = {**graph.constants, graph.image: image}
        walk = cls(height, width, image)
        last = {name: node.index for node in graph.nodes for name in node.inputs}
        for node in graph.nodes:
            values.update(zip(node.outputs, walk._followed(graph, node, values, meant), strict=False))
            for name in node.inputs:
                if last[name] == node.index and name != graph.output:
                    values.pop(name, None)  # what nobody reads any more
        result = values.get(graph.output)
        if not isinstance(result, Tensor):
            raise ModelError(f"The network's output `{graph.output}` does not depend on the image.")
        walk.result = result
        return walk

    def _followed(self, graph: Graph, node: Node, values: dict[str, Value], meant: Walk | None) -> tuple[Value, ...]:
        operands = _operands(node, values)
        if node.op in BODIES:
            raise MixesError(f"{node.title} holds a graph of its own, which is not followed")
        if not any(isinstance(item, Tensor) for item in operands):
            return (folded(node, [item for item in operands if not isinstance(item, Tensor)]),)
        step = Step(node, operands, graph.opset, meant.notes.get(node.index) if meant else None)
        rule = _rule(node)
        try:
            made = rule(step)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise step.refusal("has operands or attributes that do not fit it") from error
        self._remember(step, made)
        return made

    def _remember(self, step: Step, made: tuple[Value, ...]) -> None:
        index = step.node.index
        if step.note:
            self.notes[index] = step.note
        if step.repair:
            self.repairs[index] = step.repair
        self.inexact = self.inexact or step.inexact
        sides = {Axis.ROWS: self.height, Axis.COLS: self.width}
        for item in made:
            if isinstance(item, Tensor):
                lines = [item.lines[axis] for axis in SPATIAL]
                beyond = tuple(len(line) - sides[axis] / line.scale for axis, line in zip(SPATIAL, lines, strict=True))
                self.trail.append(Seen(step.node.title, tuple(line.scale for line in lines), beyond))


def _image(graph: Graph, height: int, width: int, batch: int) -> Tensor:
    lines = {Axis.ROWS: Line.image(height), Axis.COLS: Line.image(width)}
    if graph.layout == "NHWC":
        return Tensor((batch, height, width, graph.channels), (Axis.BATCH, Axis.ROWS, Axis.COLS, Axis.OTHER), lines)
    return Tensor((batch, graph.channels, height, width), (Axis.BATCH, Axis.OTHER, Axis.ROWS, Axis.COLS), lines)


def _operands(node: Node, values: dict[str, Value]) -> list[Value | None]:
    for name in node.inputs:
        if name and name not in values:
            raise ModelError(f"The network is broken: {node.title} reads `{name}`, which no node before it makes.")
    operands = [values[name] if name else None for name in node.inputs]
    while operands and operands[-1] is None:
        operands.pop()
    return operands


def _rule(node: Node) -> Rule:
    known = node.domain in ONNX or (node.domain == "com.microsoft" and node.op in RUNTIME)
    if not known or node.op not in RULES:
        where = f" of {node.domain}" if node.domain not in ONNX else ""
        raise MixesError(f"{node.title} is an operator{where} that maskmill does not know")
    return RULES[node.op]
