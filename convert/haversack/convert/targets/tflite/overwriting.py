"""Copies where LiteRT would compute over a value that is still to be read.

Outside of XNNPACK, LiteRT lets the operators of `OVERWRITES` write their result where their input lies, if that is
read once, and lets `VIEWS` give their input's memory on. Whether it is read once it asks of the tensor that owns the
memory: the first of a row of such operators. So in

    x = ADD(a, b)    y = MUL(x, c)    z = RESHAPE(y)    w = ADD(z, d)    v = SIN(y)

w is written over y, whose memory is x's, before v is computed. What overwrites was found by values over all kernels
of `KERNELS`, LiteRT 2.3.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor
from haversack.convert.targets.tflite.kernels import KERNELS

OVERWRITES = frozenset({"ADD", "DIV", "DYNAMIC_UPDATE_SLICE", "MUL", "SOFTMAX", "SUB"})
VIEWS = frozenset({"BITCAST", "RESHAPE"})


def copy_before_overwriting(graph: Graph) -> None:
    """Copy what a view gives, where an operator that overwrites it would change what others read."""
    producers, uses = graph.producers(), graph.uses()
    for operator in list(graph.operators):
        if operator.code not in OVERWRITES:
            continue
        for place, tensor in enumerate(operator.inputs[:2]):
            if tensor is None or tensor.constant or uses[id(tensor)] > 1:
                continue
            if _shows_what_others_read(tensor, producers, uses):
                at = graph.operators.index(operator)
                graph.operators.insert(at, _copied(tensor, operator.node))
                operator.inputs[place] = graph.operators[at].outputs[0]


def _copied(tensor: Tensor, node: str) -> Operator:
    """All of the tensor, whatever its size, as XNNPACK has it too; of more axes than that takes, by a TILE."""
    rank = len(tensor.shape)
    zeros, ones = (Tensor((rank,), "int32", np.full(rank, number, np.int32)) for number in (0, 1))
    copy = Tensor(tensor.shape, tensor.dtype, quantization=tensor.quantization)
    if rank <= (KERNELS["STRIDED_SLICE"].max_rank or rank):
        masks = {"begin_mask": 2**rank - 1, "end_mask": 2**rank - 1}
        return Operator("STRIDED_SLICE", [tensor, zeros, zeros, ones], [copy], masks, node)
    return Operator("TILE", [tensor, ones], [copy], {}, node)


def _shows_what_others_read(tensor: Tensor, producers: dict[int, Operator], uses: dict[int, int]) -> bool:
    """Whether a tensor is a view of one that has other readers and does not own its memory."""
    view = producers.get(id(tensor))
    while view is not None and view.code in VIEWS and view.inputs[0] is not None:
        source = view.inputs[0]
        view = producers.get(id(source))
        if view is not None and view.code in VIEWS | OVERWRITES and uses[id(source)] > 1:
            return True
    return False
