"""Which inputs of the backend tests are parameters in real models: shapes, axes, weights, scales."""

from __future__ import annotations

import onnx

BAKED: dict[str, tuple[int, ...]] = {
    # weights and what belongs to them
    "BatchNormalization": (1, 2, 3, 4),
    **dict.fromkeys(
        ["Conv", "ConvTranspose", "Gemm", "GroupNormalization", "InstanceNormalization", "LayerNormalization"], (1, 2)
    ),
    "ConvInteger": (1, 2, 3),
    "DeformConv": (1, 3),
    **dict.fromkeys(["GRU", "RNN"], (1, 2, 3)),
    "LSTM": (1, 2, 3, 7),
    "MatMulInteger": (1, 2, 3),
    **dict.fromkeys(["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"], (2,)),
    **dict.fromkeys(["PRelu", "RMSNormalization"], (1,)),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
    # scales
    **dict.fromkeys(["DequantizeLinear", "QuantizeLinear"], (1, 2)),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    # shapes, axes, sizes and other settings
    **dict.fromkeys(["AffineGrid", "CenterCropPad", "CumProd", "CumSum", "Expand", "Reshape", "Split"], (1,)),
    **dict.fromkeys(["Squeeze", "Tile", "TopK", "Trilu", "Unsqueeze"], (1,)),
    **dict.fromkeys(["BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow"], (0,)),
    **dict.fromkeys(["Clip", "Col2Im", "DFT", "Dropout", "OneHot"], (1, 2)),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2, 3, 4),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "STFT": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
}
"""Operator to the positions of those inputs; of every Reduce operator, the axes."""


def baked(model: onnx.ModelProto) -> set[str]:
    """The names of the values that `BAKED` makes constants."""
    return {
        name
        for node in model.graph.node
        for position, name in enumerate(node.input)
        if name and (position in BAKED.get(node.op_type, ()) or (node.op_type.startswith("Reduce") and position == 1))
    }
