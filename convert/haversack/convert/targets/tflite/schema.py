"""The part of the TFLite file format that Haversack writes, as plain tables.

Numbers and slots are those of the published schema (`schema.fbs`, version 3); a test compares every row with the schema
module that ships with LiteRT. Importing that module costs 0.3 CPU-s, these tables nothing.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

SCHEMA_VERSION: Final = 3
FILE_IDENTIFIER: Final = b"TFL3"

TENSOR_TYPES: Final[dict[str, int]] = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "float64": 10,
    "uint64": 12,
    "uint32": 15,
    "uint16": 16,
    "int4": 17,
}
"""NumPy's name of an element type to `TensorType`; int4 is ml_dtypes', and only constants have it."""

SAME: Final = 0
VALID: Final = 1
"""`Padding` of convolutions and pools."""

ACTIVATIONS: Final[dict[str, int]] = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
"""Operators that a producer can carry, to `ActivationFunctionType`."""


class Field(NamedTuple):
    """One scalar or vector field of an options table.

    Attributes:
        slot: Its number in the table.
        name: As `schema.fbs` spells it.
        kind: Its type; `vector` is a vector of int32.
        default: What a reader assumes where it is left out.
    """

    slot: int
    name: str
    kind: Literal["i8", "i32", "bool", "f32", "vector"]
    default: int | float | bool | None


OPERATORS: Final[dict[str, tuple[int, str | None]]] = {
    "ABS": (101, None),
    "ADD": (0, "AddOptions"),
    "ARG_MAX": (56, "ArgMaxOptions"),
    "ARG_MIN": (79, "ArgMinOptions"),
    "ATAN2": (156, None),
    "AVERAGE_POOL_2D": (1, "Pool2DOptions"),
    "BATCH_MATMUL": (126, "BatchMatMulOptions"),
    "BITCAST": (159, None),
    "BITWISE_XOR": (160, None),
    "BROADCAST_TO": (130, None),
    "CAST": (53, "CastOptions"),
    "CEIL": (104, None),
    "CONCATENATION": (2, "ConcatenationOptions"),
    "CONV_2D": (3, "Conv2DOptions"),
    "CONV_3D": (132, "Conv3DOptions"),
    "COS": (108, None),
    "CUMSUM": (128, "CumsumOptions"),
    "DEPTHWISE_CONV_2D": (4, "DepthwiseConv2DOptions"),
    "DEPTH_TO_SPACE": (5, "DepthToSpaceOptions"),
    "DEQUANTIZE": (6, None),
    "DIV": (42, "DivOptions"),
    "DYNAMIC_UPDATE_SLICE": (151, None),
    "ELU": (111, None),
    "EQUAL": (71, None),
    "EXP": (47, None),
    "FILL": (94, None),
    "FLOOR": (8, None),
    "FLOOR_DIV": (90, None),
    "FLOOR_MOD": (95, None),
    "FULLY_CONNECTED": (9, "FullyConnectedOptions"),
    "GATHER": (36, "GatherOptions"),
    "GATHER_ND": (107, None),
    "GELU": (150, "GeluOptions"),
    "GREATER": (61, None),
    "GREATER_EQUAL": (62, None),
    "HARD_SWISH": (117, None),
    "IF": (118, "IfOptions"),
    "L2_NORMALIZATION": (11, "L2NormOptions"),
    "L2_POOL_2D": (12, "Pool2DOptions"),
    "LEAKY_RELU": (98, "LeakyReluOptions"),
    "LESS": (58, None),
    "LESS_EQUAL": (63, None),
    "LOCAL_RESPONSE_NORMALIZATION": (13, "LocalResponseNormalizationOptions"),
    "LOG": (73, None),
    "LOGICAL_AND": (86, None),
    "LOGICAL_NOT": (87, None),
    "LOGICAL_OR": (84, None),
    "LOGISTIC": (14, None),
    "LOG_SOFTMAX": (50, None),
    "MAXIMUM": (55, None),
    "MAX_POOL_2D": (17, "Pool2DOptions"),
    "MEAN": (40, "ReducerOptions"),
    "MINIMUM": (57, None),
    "MIRROR_PAD": (100, "MirrorPadOptions"),
    "MUL": (18, "MulOptions"),
    "NEG": (59, None),
    "NON_MAX_SUPPRESSION_V4": (120, None),
    "NOT_EQUAL": (72, None),
    "ONE_HOT": (85, "OneHotOptions"),
    "PAD": (34, None),
    "PADV2": (60, None),
    "POW": (78, None),
    "PRELU": (54, None),
    "QUANTIZE": (114, None),
    "REDUCE_ALL": (140, "ReducerOptions"),
    "REDUCE_ANY": (91, "ReducerOptions"),
    "REDUCE_MAX": (82, "ReducerOptions"),
    "REDUCE_MIN": (89, "ReducerOptions"),
    "REDUCE_PROD": (81, "ReducerOptions"),
    "RELU": (19, None),
    "RELU6": (21, None),
    "RELU_0_TO_1": (152, None),
    "RELU_N1_TO_1": (20, None),
    "RESHAPE": (22, "ReshapeOptions"),
    "RESIZE_BILINEAR": (23, "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": (97, "ResizeNearestNeighborOptions"),
    "REVERSE_SEQUENCE": (112, "ReverseSequenceOptions"),
    "REVERSE_V2": (105, None),
    "RIGHT_SHIFT": (161, None),
    "ROUND": (116, None),
    "RSQRT": (76, None),
    "SCATTER_ND": (122, None),
    "SELECT": (64, None),
    "SELECT_V2": (123, None),
    "SHAPE": (77, "ShapeOptions"),
    "SIGN": (158, None),
    "SIN": (66, None),
    "SLICE": (65, None),
    "SOFTMAX": (25, "SoftmaxOptions"),
    "SPACE_TO_DEPTH": (26, "SpaceToDepthOptions"),
    "SPLIT": (49, "SplitOptions"),
    "SPLIT_V": (102, "SplitVOptions"),
    "SQRT": (75, None),
    "SQUARE": (92, None),
    "SQUARED_DIFFERENCE": (99, None),
    "STRIDED_SLICE": (45, "StridedSliceOptions"),
    "SUB": (41, "SubOptions"),
    "SUM": (74, "ReducerOptions"),
    "TANH": (28, None),
    "TILE": (69, None),
    "TOPK_V2": (48, None),
    "TRANSPOSE": (39, None),
    "TRANSPOSE_CONV": (67, "TransposeConvOptions"),
    "WHERE": (109, None),
    "WHILE": (119, "WhileOptions"),
}
"""`BuiltinOperator`: the code of each operator and its options table (None where that has no fields)."""

OPTIONS: Final[dict[str, tuple[int, tuple[Field, ...]]]] = {
    "AddOptions": (
        11,
        (
            Field(0, "fused_activation_function", "i8", 0),
            Field(1, "pot_scale_int16", "bool", True),
        ),
    ),
    "ArgMaxOptions": (40, (Field(0, "output_type", "i8", 0),)),
    "ArgMinOptions": (57, (Field(0, "output_type", "i8", 0),)),
    "BatchMatMulOptions": (
        101,
        (
            Field(0, "adj_x", "bool", False),
            Field(1, "adj_y", "bool", False),
            Field(2, "asymmetric_quantize_inputs", "bool", False),
        ),
    ),
    "CastOptions": (
        37,
        (
            Field(0, "in_data_type", "i8", 0),
            Field(1, "out_data_type", "i8", 0),
        ),
    ),
    "ConcatenationOptions": (
        10,
        (
            Field(0, "axis", "i32", 0),
            Field(1, "fused_activation_function", "i8", 0),
        ),
    ),
    "Conv2DOptions": (
        1,
        (
            Field(0, "padding", "i8", 0),
            Field(1, "stride_w", "i32", 0),
            Field(2, "stride_h", "i32", 0),
            Field(3, "fused_activation_function", "i8", 0),
            Field(4, "dilation_w_factor", "i32", 1),
            Field(5, "dilation_h_factor", "i32", 1),
            Field(6, "quantized_bias_type", "i8", 0),
        ),
    ),
    "Conv3DOptions": (
        106,
        (
            Field(0, "padding", "i8", 0),
            Field(1, "stride_d", "i32", 0),
            Field(2, "stride_w", "i32", 0),
            Field(3, "stride_h", "i32", 0),
            Field(4, "fused_activation_function", "i8", 0),
            Field(5, "dilation_d_factor", "i32", 1),
            Field(6, "dilation_w_factor", "i32", 1),
            Field(7, "dilation_h_factor", "i32", 1),
        ),
    ),
    "CumsumOptions": (
        102,
        (
            Field(0, "exclusive", "bool", False),
            Field(1, "reverse", "bool", False),
        ),
    ),
    "DepthToSpaceOptions": (94, (Field(0, "block_size", "i32", 0),)),
    "DepthwiseConv2DOptions": (
        2,
        (
            Field(0, "padding", "i8", 0),
            Field(1, "stride_w", "i32", 0),
            Field(2, "stride_h", "i32", 0),
            Field(3, "depth_multiplier", "i32", 0),
            Field(4, "fused_activation_function", "i8", 0),
            Field(5, "dilation_w_factor", "i32", 1),
            Field(6, "dilation_h_factor", "i32", 1),
        ),
    ),
    "DivOptions": (29, (Field(0, "fused_activation_function", "i8", 0),)),
    "FullyConnectedOptions": (
        8,
        (
            Field(0, "fused_activation_function", "i8", 0),
            Field(1, "weights_format", "i8", 0),
            Field(2, "keep_num_dims", "bool", False),
            Field(3, "asymmetric_quantize_inputs", "bool", False),
            Field(4, "quantized_bias_type", "i8", 0),
        ),
    ),
    "GatherOptions": (
        23,
        (
            Field(0, "axis", "i32", 0),
            Field(1, "batch_dims", "i32", 0),
        ),
    ),
    "GeluOptions": (116, (Field(0, "approximate", "bool", False),)),
    "IfOptions": (
        92,
        (
            Field(0, "then_subgraph_index", "i32", 0),
            Field(1, "else_subgraph_index", "i32", 0),
        ),
    ),
    "L2NormOptions": (12, (Field(0, "fused_activation_function", "i8", 0),)),
    "LeakyReluOptions": (75, (Field(0, "alpha", "f32", 0.0),)),
    "LocalResponseNormalizationOptions": (
        13,
        (
            Field(0, "radius", "i32", 0),
            Field(1, "bias", "f32", 0.0),
            Field(2, "alpha", "f32", 0.0),
            Field(3, "beta", "f32", 0.0),
        ),
    ),
    "MirrorPadOptions": (77, (Field(0, "mode", "i8", 0),)),
    "MulOptions": (21, (Field(0, "fused_activation_function", "i8", 0),)),
    "OneHotOptions": (61, (Field(0, "axis", "i32", 0),)),
    "Pool2DOptions": (
        5,
        (
            Field(0, "padding", "i8", 0),
            Field(1, "stride_w", "i32", 0),
            Field(2, "stride_h", "i32", 0),
            Field(3, "filter_width", "i32", 0),
            Field(4, "filter_height", "i32", 0),
            Field(5, "fused_activation_function", "i8", 0),
        ),
    ),
    "ReducerOptions": (27, (Field(0, "keep_dims", "bool", False),)),
    "ReshapeOptions": (17, (Field(0, "new_shape", "vector", None),)),
    "ResizeBilinearOptions": (
        15,
        (
            Field(2, "align_corners", "bool", False),
            Field(3, "half_pixel_centers", "bool", False),
        ),
    ),
    "ResizeNearestNeighborOptions": (
        74,
        (
            Field(0, "align_corners", "bool", False),
            Field(1, "half_pixel_centers", "bool", False),
        ),
    ),
    "ReverseSequenceOptions": (
        87,
        (
            Field(0, "seq_dim", "i32", 0),
            Field(1, "batch_dim", "i32", 0),
        ),
    ),
    "ShapeOptions": (55, (Field(0, "out_type", "i8", 0),)),
    "SoftmaxOptions": (9, (Field(0, "beta", "f32", 0.0),)),
    "SpaceToDepthOptions": (19, (Field(0, "block_size", "i32", 0),)),
    "SplitOptions": (35, (Field(0, "num_splits", "i32", 0),)),
    "SplitVOptions": (79, (Field(0, "num_splits", "i32", 0),)),
    "StridedSliceOptions": (
        32,
        (
            Field(0, "begin_mask", "i32", 0),
            Field(1, "end_mask", "i32", 0),
            Field(2, "ellipsis_mask", "i32", 0),
            Field(3, "new_axis_mask", "i32", 0),
            Field(4, "shrink_axis_mask", "i32", 0),
            Field(5, "offset", "bool", False),
        ),
    ),
    "SubOptions": (
        28,
        (
            Field(0, "fused_activation_function", "i8", 0),
            Field(1, "pot_scale_int16", "bool", True),
        ),
    ),
    "TransposeConvOptions": (
        49,
        (
            Field(0, "padding", "i8", 0),
            Field(1, "stride_w", "i32", 0),
            Field(2, "stride_h", "i32", 0),
            Field(3, "fused_activation_function", "i8", 0),
            Field(4, "quantized_bias_type", "i8", 0),
        ),
    ),
    "WhileOptions": (
        93,
        (
            Field(0, "cond_subgraph_index", "i32", 0),
            Field(1, "body_subgraph_index", "i32", 0),
        ),
    ),
}
"""`BuiltinOptions`: the union's tag of each options table, and its fields."""
