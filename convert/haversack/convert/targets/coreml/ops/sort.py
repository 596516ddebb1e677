"""Ordering."""

from __future__ import annotations

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


@lowers("TopK")
def top_k(
    b: Builder,
    x: Value,
    k: Value,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,
) -> tuple[Var, ...]:
    """The k largest or smallest entries along one axis, and their indices."""
    return tuple(
        b.op(
            "topk",
            x=x,
            k=b.integers(k, "k")[0],
            axis=axis % x.rank,
            ascending=not largest,
            sort=bool(sorted),
            return_indices=True,
        )
    )
