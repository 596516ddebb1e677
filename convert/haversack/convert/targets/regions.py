"""The subgraphs of ONNX's control flow, as lowerings see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import onnx_ir as ir

from haversack.convert.hub.subgraphs import always_true, closed

T = TypeVar("T")
"""What a target's lowerings compute with."""

Emit = Callable[[ir.Model, Sequence[ir.Value], Sequence[T]], list[T]]
TypeOf = Callable[[T], tuple[tuple[int, ...], ir.DataType | None]]


@dataclass(frozen=True)
class Region(Generic[T]):
    """A subgraph of a node, emitted where it is called as a model of its own, with the shapes it is called with.

    Attributes:
        graph: As the hub holds it.
        emit: Lowers a model of its own: given the model, the captured values that its last inputs are, and what its
            first inputs are.
        type_of: The shape and element type of what it is called with.
    """

    graph: ir.Graph
    emit: Emit[T]
    type_of: TypeOf[T]

    def __call__(self, *inputs: T) -> list[T]:
        """Emit the subgraph applied to `inputs`; its outputs."""
        model, captured = closed(self.graph, [self.type_of(x) for x in inputs])
        return self.emit(model, captured, inputs)

    def always(self, output: int, given: int) -> bool:
        """Whether an output is true whenever the input number `given` is."""
        return always_true(self.graph, output, given)
