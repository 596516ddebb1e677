"""States: tensors that a package keeps from call to call (iOS 18), where the model has them as an input and an output.

ONNX has no states; a model that is called in a loop takes in what it gave out in the call before. The user names such
pairs. A state is float16, Core ML has no other, and has one size: a cache that grows in each call cannot be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from haversack.convert.errors import Blocker
from haversack.convert.hub.shapes import static_shape
from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.names import identifier

FIRST = 18
"""The lowest system that has states."""


def problems(graph: ir.Graph, states: Mapping[str, str], ios: int, *, half: bool) -> list[Blocker]:
    """Why these pairs cannot be states; empty where they can.

    Args:
        graph: The hub graph with static shapes.
        states: Names of inputs, each with that of the output that is the same tensor after the call.
        ios: Deployment target.
        half: Whether the program computes in float16.
    """
    inputs = {str(value.name): value for value in graph.inputs}
    outputs = {str(value.name): value for value in graph.outputs}
    found = []
    if states and ios < FIRST:
        why = f"states are there from iOS {FIRST} on, the deployment target is iOS {ios}"
        found.append(Blocker(next(iter(states)), "state", why, f"use iOS{FIRST}"))
    if states and not half:
        why = "Core ML's states are float16, which a float32 program would round to in each call"
        found.append(Blocker(next(iter(states)), "state", why, "use the recipe fp16"))
    if states and not outputs.keys() - set(states.values()):
        found.append(Blocker(next(iter(states)), "state", "no output would be left", "keep an output"))
    for before, after in states.items():
        source, result = inputs.get(before), outputs.get(after)
        if source is None or result is None or list(states.values()).count(after) > 1:
            why = f"{before}={after} is no pair of an input and an output of its own"
            has = f"inputs are {', '.join(inputs)}; outputs are {', '.join(outputs)}"
            found.append(Blocker(before, "state", why, has))
        elif static_shape(source) != static_shape(result) or source.dtype != result.dtype or not static_shape(source):
            why = f"it is {_said(source)} before a call and {_said(result)} after it"
            found.append(Blocker(before, "state", why, "give both one shape, as a cache of fixed size has"))
        elif source.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            found.append(Blocker(before, "state", f"Core ML has no states of {source.dtype}", "leave it an input"))
    return found


def placeholder(b: Builder, value: ir.Value) -> Any:
    """The state as a parameter of the program."""
    return b.mil.state_tensor_placeholder(static_shape(value), dtype=b.types.fp16)


def name(value: ir.Value, taken: set[str]) -> str:
    """What the state is called in the package: as the input is in the model, where that is legal."""
    return identifier(str(value.name), taken)


def read(b: Builder, value: ir.Value, state: Var) -> Value:
    """What the state holds when a call begins."""
    dtype = value.dtype.numpy() if value.dtype is not None else None
    assert dtype is not None
    return Value(str(value.name), static_shape(value) or (), dtype, var=b.mil.read_state(input=state))


def update(b: Builder, value: Value, state: Var) -> None:
    """Put what the model gave out into the state."""
    b.half = True
    b.mil.coreml_update_state(state=state, value=b.cast(b.var(value), "fp16"))


def notes(states: Mapping[str, str]) -> list[str]:
    """What the user should know."""
    return [
        f"{before!r} is a state in float16, zero at first; each call leaves {after!r} in it."
        for before, after in states.items()
    ]


def _said(value: ir.Value) -> str:
    return f"{value.dtype}{list(value.shape or ())}"
