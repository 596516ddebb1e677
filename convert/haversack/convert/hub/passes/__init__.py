"""The rewrites that make any ONNX graph a legal hub graph: one a file, and the order they run in."""

from __future__ import annotations

from typing import Protocol

import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    NameFixPass,
    RemoveUnusedNodesPass,
    TopologicalSortPass,
)

from haversack.convert.hub import shapes
from haversack.convert.hub.passes.canonical_clip import canonical_clip
from haversack.convert.hub.passes.canonical_gemm import canonical_gemm
from haversack.convert.hub.passes.canonical_sum import canonical_sum
from haversack.convert.hub.passes.compress_to_gather import compress_to_gather
from haversack.convert.hub.passes.einsum_to_product import einsum_to_product
from haversack.convert.hub.passes.expand_functions import expand_functions
from haversack.convert.hub.passes.explicit_windows import explicit_windows
from haversack.convert.hub.passes.fold_bias import fold_bias
from haversack.convert.hub.passes.fold_constants import fold_constants
from haversack.convert.hub.passes.fold_scale import fold_scale
from haversack.convert.hub.passes.fold_shapes import fold_shapes
from haversack.convert.hub.passes.gelu import gelu
from haversack.convert.hub.passes.hard_swish import hard_swish
from haversack.convert.hub.passes.inline_branches import inline_branches
from haversack.convert.hub.passes.layer_norm import layer_norm
from haversack.convert.hub.passes.lift_constants import lift_constants
from haversack.convert.hub.passes.loop_shapes import loop_shapes
from haversack.convert.hub.passes.merge_reshapes import merge_reshapes
from haversack.convert.hub.passes.merge_scales import merge_scales
from haversack.convert.hub.passes.merge_transposes import merge_transposes
from haversack.convert.hub.passes.remove_identities import remove_identities
from haversack.convert.hub.passes.remove_no_ops import remove_no_ops
from haversack.convert.hub.passes.reshape_before_transpose import reshape_before_transpose
from haversack.convert.hub.passes.reshape_to_transpose import reshape_to_transpose
from haversack.convert.hub.passes.resolve_reshapes import resolve_reshapes
from haversack.convert.hub.passes.select_before_transpose import select_before_transpose
from haversack.convert.hub.passes.split_batch_norm import split_batch_norm
from haversack.convert.hub.passes.unroll_loops import unroll_loops


class Pass(Protocol):
    """A rewrite in place; it says whether it changed anything."""

    __name__: str

    def __call__(self, model: ir.Model) -> bool:
        """Rewrite `model`."""
        ...


ROUNDS = 64
"""More rounds than any graph needs: each makes the graph smaller or more canonical."""


def remove_unused(model: ir.Model) -> bool:
    """Remove nodes and initializers that nothing reads."""
    return bool(RemoveUnusedNodesPass()(model).modified)


def merge_equal_nodes(model: ir.Model) -> bool:
    """Compute what is computed twice once."""
    return bool(CommonSubexpressionEliminationPass()(model).modified)


def merge_equal_initializers(model: ir.Model) -> bool:
    """Hold what is held twice once."""
    return bool(DeduplicateInitializersPass()(model).modified)


ORDER: tuple[Pass, ...] = (
    lift_constants,  # so that every later pass has one way to see a constant
    expand_functions,  # before folding: the bodies are full of constants
    remove_identities,  # so that neighbours are neighbours
    remove_no_ops,
    compress_to_gather,  # gives fold_shapes sizes that it can know
    fold_shapes,  # makes constants of shape arithmetic
    resolve_reshapes,
    fold_constants,  # needs lifted constants and folded shapes
    inline_branches,  # after fold_constants: conditions and trip counts are constants now
    unroll_loops,
    loop_shapes,  # after fold_constants: trip counts are constants now
    merge_equal_nodes,
    explicit_windows,  # needs shapes
    einsum_to_product,  # before merge_transposes, which merges its Transposes
    merge_transposes,
    reshape_before_transpose,  # after merge_transposes, before merge_reshapes: each meets its like
    select_before_transpose,
    merge_reshapes,
    reshape_to_transpose,  # after merge_reshapes, which takes it back where a Reshape follows
    hard_swish,  # the formulas that follow are named before folding takes their constants away
    gelu,
    layer_norm,
    merge_scales,
    split_batch_norm,  # gives fold_scale and fold_bias their work
    fold_scale,  # before fold_bias: it scales the bias that is there
    canonical_gemm,  # makes MatMul + Add a Gemm, whose bias fold_bias then extends
    fold_bias,
    canonical_clip,
    canonical_sum,
    merge_equal_initializers,
    remove_unused,  # last: the others leave what they bypassed
)


def simplify(model: ir.Model) -> ir.Model:
    """Run `ORDER` over `model` until no pass changes anything, in place, shapes inferred anew after every round.

    Raises:
        RuntimeError: The passes never come to rest (two undo each other): a bug.
    """
    for _ in range(ROUNDS):
        changed = [rewrite.__name__ for rewrite in ORDER if rewrite(model)]
        if not changed:
            return model
        TopologicalSortPass()(model)
        NameFixPass()(model)
        shapes.infer(model)
    raise RuntimeError(f"the passes did not come to rest within {ROUNDS} rounds: {', '.join(changed)}")


__all__ = ["ORDER", "Pass", "simplify"]
