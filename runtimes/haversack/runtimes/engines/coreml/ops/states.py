"""States: tensors that outlive a call (iOS 18)."""

from __future__ import annotations

from typing import Any

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Context, op


@op("read_state", moves=True)
def read_state(input: str, context: Context) -> Any:
    """Return a copy of the state."""
    return context.states[input].copy()


@op("write_state", moves=True)
def write_state(input: str, data: Array, context: Context) -> Any:
    """Put a copy of `data` into the state."""
    context.states[input] = data.copy()
    return ()
