"""The subgraphs of ONNX's control flow, as lowerings see them.

A `Region` is a subgraph that is emitted where it is called, as a model of its own (`hub.subgraphs`): with the shapes of
what it is called with. In a nested MIL block it may read any variable of the blocks around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from haversack.convert.hub.subgraphs import always_true, closed
from haversack.convert.targets.coreml.builder import Value

Emit = Callable[[ir.Model, Sequence[ir.Value], Sequence[Value]], list[Value]]


@dataclass(frozen=True)
class Region:
    """A subgraph of a node.

    Attributes:
        graph: As the hub holds it.
        emit: Lowers a model of its own: given the model, the captured values that its last inputs are, and what its
            first inputs are.
    """

    graph: ir.Graph
    emit: Emit

    def __call__(self, *inputs: Value) -> list[Value]:
        """Emit the subgraph applied to `inputs`; its outputs."""
        model, captured = closed(self.graph, [(x.shape, ir.DataType.from_numpy(x.dtype)) for x in inputs])
        return self.emit(model, captured, inputs)

    def always(self, output: int, given: int) -> bool:
        """Whether an output is true whenever the input number `given` is."""
        return always_true(self.graph, output, given)
