"""If, Loop and Scan. Their subgraphs come as regions, which are emitted where they are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.regions import Region
from haversack.convert.targets.tflite import control, steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers


@lowers("If")
def if_(
    b: Builder, condition: Tensor, *, then_branch: Region[Tensor], else_branch: Region[Tensor]
) -> tuple[Tensor, ...]:
    """IF; the branch itself where the condition is known."""
    if condition.data is not None:
        return tuple((then_branch if bool(condition.value().reshape(-1)[0]) else else_branch)())
    return tuple(control.branch(b, steps.reshape(b, condition, (1,)), then_branch, else_branch))


@lowers("Loop")
def loop(
    b: Builder, trips: Tensor | None, condition: Tensor | None, *state: Tensor, body: Region[Tensor]
) -> tuple[Tensor, ...]:
    """WHILE over an int32 counter, the condition where it can change, the state, and the scan outputs so far."""
    scans = len(body.graph.outputs) - 1 - len(state)
    conditional = condition is not None and not (condition.data is not None and condition.value().all())
    conditional = conditional or not body.always(0, 1)
    count = None if trips is None or trips.data is None else int(trips.value().reshape(-1)[0])
    if scans and (conditional or count is None or count < 1):
        raise b.refuse(
            "how many rows its scan outputs have is known at run time only",
            "make its trip count an initializer of at least 1, and its condition always true",
        )
    limit = None if trips is None else steps.reshape(b, _trips(b, trips), (1,))
    true = b.const(np.array([True]))
    start = [b.ints([0]), true if condition is None else steps.reshape(b, condition, (1,)), *state]
    size = len(start)

    def proceed(time: Tensor, going: Tensor, *_: Tensor) -> Tensor:
        if limit is None:
            return going
        below = steps.binary(b, "LESS", time, limit, "bool")
        return steps.binary(b, "LOGICAL_AND", below, going) if conditional else below

    def step(time: Tensor, going: Tensor, *carried: Tensor) -> list[Tensor]:
        number = steps.reshape(b, b.cast(time, "int64"), ())
        again, *results = body(number, steps.reshape(b, going, ()), *carried[: len(state)])
        after, rows = results[: len(state)], results[len(state) :]
        held = [_updated(b, total, row, time) for total, row in zip(carried[len(state) :], rows, strict=True)]
        again = steps.reshape(b, again, (1,)) if conditional else going
        return [steps.binary(b, "ADD", time, b.ints([1])), again, *after, *held]

    collected = [_empty(b, result.shape, result.dtype) for result in b.results[len(state) :]] if scans else []
    return tuple(control.while_loop(b, [*start, *collected], proceed, step)[size - len(state) :])


@lowers("Scan")
def scan(
    b: Builder,
    *inputs: Tensor,
    body: Region[Tensor],
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (),
    scan_output_axes: Sequence[int] = (),
    scan_output_directions: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """WHILE over an int32 counter, the state, and the outputs so far; a step is a row of each scanned input."""
    state, scanned = inputs[: len(inputs) - num_scan_inputs], inputs[len(inputs) - num_scan_inputs :]
    axes = list(scan_input_axes) or [0] * len(scanned)
    moved = [_axis_first(b, x, axis) for x, axis in zip(scanned, axes, strict=True)]
    count = moved[0].shape[0]
    backward = list(scan_input_directions) or [0] * len(scanned)
    size = len(state)
    rows = len(b.results) - size
    out_axes = list(scan_output_axes) or [0] * rows
    out_backward = list(scan_output_directions) or [0] * rows
    collected = []
    for result, axis in zip(b.results[size:], out_axes, strict=True):
        shape = list(result.shape)
        length = shape.pop(axis)
        collected.append(_empty(b, (length, *shape), result.dtype))

    def place(time: Tensor, reverse: int) -> Tensor:
        return steps.binary(b, "SUB", b.ints([count - 1]), time) if reverse else time

    def proceed(time: Tensor, *_: Tensor) -> Tensor:
        return steps.binary(b, "LESS", time, b.ints([count]), "bool")

    def step(time: Tensor, *carried: Tensor) -> list[Tensor]:
        given = [
            steps.reshape(b, steps.gather(b, x, place(time, reverse), 0), x.shape[1:])
            for x, reverse in zip(moved, backward, strict=True)
        ]
        results = body(*carried[:size], *given)
        held = [
            _updated(b, total, row, place(time, reverse))
            for total, row, reverse in zip(carried[size:], results[size:], out_backward, strict=True)
        ]
        return [steps.binary(b, "ADD", time, b.ints([1])), *results[:size], *held]

    _, *after = control.while_loop(b, [b.ints([0]), *state, *collected], proceed, step)
    outputs = [_axis_back(b, y, axis) for y, axis in zip(after[size:], out_axes, strict=True)]
    return (*after[:size], *outputs)


def _trips(b: Builder, trips: Tensor) -> Tensor:
    """The trip count as int32: a loop that only its condition ends is often given the largest int64."""
    most = np.iinfo(np.int32).max
    if trips.data is not None:
        return b.const(np.clip(trips.value(), 0, most).astype(np.int32))
    return b.cast(steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", trips, 0), most), "int32")


def _empty(b: Builder, shape: Sequence[int], dtype: str) -> Tensor:
    return b.const(np.zeros(tuple(shape), dtype))


def _updated(b: Builder, total: Tensor, row: Tensor, time: Tensor) -> Tensor:
    """`total` with `row` at the index `time` of its first axis."""
    if row.shape != total.shape[1:]:
        raise b.refuse(f"a row of {row.shape} for a result of {total.shape}", "give its rows one static shape")
    place = steps.binary(b, "MUL", time, b.ints([1] + [0] * len(row.shape)))
    return b.op("DYNAMIC_UPDATE_SLICE", [total, steps.reshape(b, row, (1, *row.shape)), place], total.shape)


def _axis_first(b: Builder, x: Tensor, axis: int) -> Tensor:
    axis %= len(x.shape)
    return steps.transpose(b, x, [axis, *(n for n in range(len(x.shape)) if n != axis)])


def _axis_back(b: Builder, x: Tensor, axis: int) -> Tensor:
    rank = len(x.shape)
    order = list(range(1, rank))
    order.insert(axis % rank, 0)
    return steps.transpose(b, x, order)
