"""Conditions, loops and the constant op's run-time relatives."""

from __future__ import annotations

from typing import Any

from haversack.runtimes.engines.coreml.registry import Arrays, Context, op


@op("cond", moves=True)
def cond(pred: bool, context: Context) -> Any:
    """Run the first block when `pred` is true, else the second, and return its outputs."""
    return context.blocks[0 if pred else 1]()


@op("while_loop", moves=True)
def while_loop(loop_vars: Arrays, context: Context) -> Any:
    """Run the second block on the loop variables while the first one, on the same variables, gives true."""
    condition, body = context.blocks
    values: tuple[Any, ...] = loop_vars
    while bool(condition(*values)[0]):
        values = body(*values)
    return values
