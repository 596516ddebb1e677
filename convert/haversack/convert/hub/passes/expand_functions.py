"""Operators that ONNX defines by others, where no target has a better way."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub import OPSET
from haversack.convert.hub.function_body import expand

EXPANDED = {
    "AffineGrid": "no target has it; its body is a MatMul over a constant grid",
    "BlackmanWindow": "of a constant size: folds to a constant",
    "CastLike": "its body is Cast, or the bits of one",
    "CenterCropPad": "its body is Slice and Pad, constant for static shapes",
    "HammingWindow": "of a constant size: folds to a constant",
    "HannWindow": "of a constant size: folds to a constant",
    "MeanVarianceNormalization": "its body is the formula, in reductions that every target has",
    "NegativeLogLikelihoodLoss": "a training loss; its body is the formula",
    "SoftmaxCrossEntropyLoss": "a training loss; its body is the formula",
}
"""Operators that are expanded, and why the body is as good as a kernel of its own.

All others with a body stay for the lowerings. Most have a kernel on a target, which is faster and fuses: Celu, Clip,
DynamicQuantizeLinear, Elu, Gelu, GreaterOrEqual, GroupNormalization, HardSigmoid, HardSwish, LayerNormalization,
LeakyRelu, LessOrEqual, LogSoftmax, Mish, PRelu, ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceSumSquare,
Relu, Selu, Softmax, Softplus, Softsign, ThresholdedRelu. Of Shrink the lowerings know a shorter form than its body;
Range's and SequenceMap's bodies are loops; Bernoulli is random.
"""


def expand_functions(model: ir.Model) -> bool:
    """Replace operators in `EXPANDED` by their ONNX function body.

    Given:
        y = CastLike(x, like)          like is float16

    Result:
        y = Cast<to=FLOAT16>(x)

    The nodes of the body are named after the node: `m` gives `m/Cast`.
    """
    return expand(model, OPSET, lambda node: node.op_type in EXPANDED)
