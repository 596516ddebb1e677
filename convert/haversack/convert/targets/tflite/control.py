"""Operators that run subgraphs: IF and WHILE.

A TFLite subgraph sees nothing of the graph around it. What the functions given here emit may read any tensor of the
enclosing graph; such tensors become inputs of the operator, and of a WHILE also loop-carried values that never change.
Constants are no inputs: each subgraph has its own tensor of them, all of which share one buffer of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Graph, Tensor


def while_loop(
    b: Builder,
    state: Sequence[Tensor],
    proceed: Callable[..., Tensor],
    step: Callable[..., Sequence[Tensor]],
) -> list[Tensor]:
    """WHILE: `while proceed(*state): state = step(*state)`.

    Args:
        b: The builder.
        state: The loop-carried values before the first iteration.
        proceed: Emits a bool of one element.
        step: Emits the next values, of the same shapes and element types.

    Returns:
        The values after the last iteration.
    """
    state = [b.plain(tensor) for tensor in state]
    test = _subgraph(b, state, lambda *given: [proceed(*given)])
    body = _subgraph(b, state, step)
    before, after = ([(t.shape, t.dtype) for t in row] for row in (state, [t for _, t in body.outputs]))
    if before != after:
        raise b.refuse(
            f"its loop-carried values change from {before} to {after}", "give them the same shape in every iteration"
        )
    captured = _captured((test, body))
    for graph in (test, body):
        _capture(graph, captured)
    body.outputs += body.inputs[len(state) :]
    return b.control("WHILE", [*state, *captured], (test, body))[: len(state)]


def branch(
    b: Builder,
    condition: Tensor,
    then: Callable[[], Sequence[Tensor]],
    otherwise: Callable[[], Sequence[Tensor]],
) -> list[Tensor]:
    """IF: what `then` emits where the condition (a bool of one element) holds, else what `otherwise` emits."""
    graphs: list[Graph] = []
    blockers: list[Blocker] = []
    for make in (then, otherwise):
        try:
            graphs.append(_subgraph(b, [], make))
        except UnsupportedError as error:  # the other branch is examined too
            blockers += error.blockers
    if blockers:
        raise UnsupportedError("tflite", blockers)
    first, second = ([(t.shape, t.dtype) for _, t in graph.outputs] for graph in graphs)
    if first != second:
        raise b.refuse(f"its branches give {first} and {second}", "give both branches the same shapes")
    captured = _captured(graphs)
    for graph in graphs:
        _capture(graph, captured)
    return b.control("IF", [condition, *captured], graphs)


def _subgraph(b: Builder, given: Sequence[Tensor], make: Callable[..., Sequence[Tensor]]) -> Graph:
    inputs = [_like(tensor) for tensor in given]
    with b.nested() as operators:
        outputs: list[Tensor] = []
        for tensor in make(*inputs):
            tensor = b.plain(tensor)
            made = any(tensor is output for operator in operators for output in operator.outputs)
            if not made or any(tensor is other for other in outputs):  # each output is computed by an operator
                tensor = b.op("RESHAPE", [tensor, b.ints(tensor.shape)], tensor.shape)
            outputs.append(tensor)
    return Graph([("", tensor) for tensor in inputs], [("", tensor) for tensor in outputs], operators)


def _like(tensor: Tensor) -> Tensor:
    return Tensor(tensor.shape, tensor.dtype, quantization=tensor.quantization)


def _captured(graphs: Sequence[Graph]) -> list[Tensor]:
    """The tensors of the enclosing graph that `graphs` read, in order of use."""
    found: dict[int, Tensor] = {}
    for graph in graphs:
        known = {id(tensor) for _, tensor in graph.inputs}
        for operator in graph.operators:
            found.update({id(t): t for t in operator.activations if id(t) not in known})
            known.update(id(tensor) for tensor in operator.outputs)
    return list(found.values())


def _capture(graph: Graph, captured: Sequence[Tensor]) -> None:
    """Make inputs of what the subgraph reads from outside."""
    own = {id(tensor): _like(tensor) for tensor in captured}
    graph.inputs += [("", tensor) for tensor in own.values()]
    for operator in graph.operators:
        operator.inputs = [t if t is None else own.get(id(t), t) for t in operator.inputs]
