"""The first TensorFlow Lite release with each version of each operator (TensorFlow Lite's `runtime_version.cc`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from haversack.convert.targets.tflite.graph import Operator
from haversack.convert.targets.tflite.kernels import version

_RELEASES: Final[dict[str, str]] = {
    "ABS": "1.13.0 2.4.0 2.5.0 2.6.0 2.12.0",
    "ADD": "1.5.0 1.14.0 2.4.0 2.6.0 2.13.0",
    "ARG_MAX": "1.9.0 1.14.0 2.9.0",
    "ARG_MIN": "1.9.0 1.14.0 2.9.0",
    "ATAN2": "2.10.0",
    "AVERAGE_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "BATCH_MATMUL": "2.3.0 2.3.0 2.4.0 2.5.0",
    "BITCAST": "2.13.0",
    "BITWISE_XOR": "2.13.0",
    "BROADCAST_TO": "- 2.5.0 2.5.0",
    "CAST": "1.5.0 2.7.0 2.8.0 2.9.0 2.12.0",
    "CEIL": "1.14.0",
    "CONCATENATION": "1.5.0 1.14.0 2.3.0 2.14.0",
    "CONV_2D": "1.5.0 1.14.0 1.14.0 2.3.0 2.4.0 2.9.0 2.11.0",
    "CONV_3D": "2.5.0",
    "COS": "1.14.0",
    "CUMSUM": "2.4.0",
    "DEPTHWISE_CONV_2D": "1.5.0 1.12.0 1.14.0 2.2.0 2.3.0 2.3.0 2.11.0",
    "DEPTH_TO_SPACE": "2.1.0 2.5.0",
    "DEQUANTIZE": "1.13.1 1.14.0 1.15.0 2.2.0 2.7.0 LiteRT_1.0.1",
    "DIV": "1.6.0 2.3.0",
    "DYNAMIC_UPDATE_SLICE": "2.9.0",
    "ELU": "1.14.0",
    "EQUAL": "1.14.0 1.14.0 2.3.0 2.13.0 2.21.0",
    "EXP": "1.7.0 2.12.0",
    "FLOOR": "1.9.0",
    "FLOOR_DIV": "1.14.0 1.14.0 2.13.0",
    "FLOOR_MOD": "1.13.0 2.13.0",
    "FULLY_CONNECTED": "1.5.0 1.10.0 1.14.0 1.14.0 2.0.0 2.1.0 2.3.0 2.3.0 2.3.0 2.11.0 2.15.0 2.17.0",
    "GATHER": "1.6.0 1.14.0 1.15.0 2.4.0 2.5.0",
    "GATHER_ND": "1.14.0 2.3.0 2.5.0 2.13.0 2.16.0",
    "GELU": "2.9.0 2.9.0",
    "GREATER": "1.14.0 1.14.0",
    "GREATER_EQUAL": "1.14.0 1.14.0 2.13.0",
    "HARD_SWISH": "1.15.0",
    "IF": "1.15.0",
    "L2_NORMALIZATION": "1.5.0 1.14.0",
    "L2_POOL_2D": "1.5.0",
    "LEAKY_RELU": "1.13.1 2.3.0",
    "LESS": "1.14.0 1.14.0 2.13.0",
    "LESS_EQUAL": "1.14.0 1.14.0",
    "LOCAL_RESPONSE_NORMALIZATION": "1.5.0",
    "LOG": "1.14.0 2.15.0",
    "LOGICAL_AND": "1.11.0",
    "LOGICAL_NOT": "1.11.0",
    "LOGICAL_OR": "1.11.0",
    "LOGISTIC": "1.14.0 1.14.0 2.3.0",
    "LOG_SOFTMAX": "1.14.0 1.14.0",
    "MAXIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MAX_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "MEAN": "1.6.0 1.14.0 2.4.0",
    "MINIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MIRROR_PAD": "1.13.1 2.3.0 2.12.0",
    "MUL": "1.5.0 1.14.0 1.15.0 2.3.0 2.6.0 2.11.0 2.13.0",
    "NEG": "1.9.0",
    "NON_MAX_SUPPRESSION_V4": "2.1.0",
    "NOT_EQUAL": "1.14.0 1.14.0 2.3.0 2.21.0",
    "ONE_HOT": "1.11.0",
    "PAD": "1.5.0 1.14.0 2.4.0 2.6.0 2.20.0",
    "PADV2": "1.9.0 1.14.0 2.4.0 2.6.0 2.20.0",
    "POW": "1.10.0",
    "PRELU": "1.8.0",
    "QUANTIZE": "1.14.0 1.15.0 2.7.0",
    "REDUCE_MAX": "1.11.0 1.14.0 2.5.0",
    "REDUCE_MIN": "1.11.0 1.14.0 2.5.0",
    "REDUCE_PROD": "1.11.0 2.6.0",
    "RELU": "1.5.0 2.1.0 2.5.0",
    "RELU6": "1.5.0 1.14.0 2.5.0",
    "RELU_0_TO_1": "2.10.0",
    "RELU_N1_TO_1": "1.5.0",
    "RESHAPE": "1.5.0",
    "RESIZE_BILINEAR": "1.7.0 1.14.0 2.2.0 2.5.0",
    "RESIZE_NEAREST_NEIGHBOR": "1.13.1 1.14.0 2.3.0 2.4.0",
    "REVERSE_SEQUENCE": "1.14.0",
    "REVERSE_V2": "1.14.0 2.2.0 2.5.0",
    "RIGHT_SHIFT": "2.13.0",
    "ROUND": "1.14.0",
    "RSQRT": "1.10.0 2.5.0 2.15.0",
    "SCATTER_ND": "2.1.0",
    "SELECT_V2": "2.2.0 2.12.0",
    "SHAPE": "1.10.0",
    "SIGN": "2.11.0 2.12.0",
    "SIN": "1.9.0",
    "SLICE": "1.14.0 1.14.0 1.14.0 2.4.0 2.5.0 2.14.0",
    "SOFTMAX": "1.5.0 1.14.0 2.3.0",
    "SPACE_TO_DEPTH": "1.5.0 1.14.0",
    "SPLIT": "1.5.0 1.14.0 1.14.0 2.3.0",
    "SPLIT_V": "1.13.1 2.3.0",
    "SQRT": "1.10.0 2.21.0",
    "SQUARE": "1.12.0",
    "SQUARED_DIFFERENCE": "1.13.1 2.5.0",
    "STRIDED_SLICE": "1.6.0 1.14.0 2.1.0 2.2.0 2.5.0 2.6.0 2.14.0 2.14.0",
    "SUB": "1.6.0 1.14.0 2.3.0 2.4.0 2.4.0",
    "SUM": "1.10.0 1.15.0",
    "TANH": "1.14.0 1.14.0 2.3.0",
    "TILE": "1.10.1 2.2.0 2.8.0",
    "TOPK_V2": "1.7.0 1.14.0 2.13.0",
    "TRANSPOSE": "1.6.0 1.14.0 1.15.0 2.3.0 2.4.0 2.12.0",
    "TRANSPOSE_CONV": "1.9.0 2.2.0 2.3.0 2.13.0",
    "WHERE": "1.14.0",
    "WHILE": "1.15.0",
}
"""Releases of the versions 1, 2, 3 … of each operator; where none is published, the first that was seen to load it."""


def published(operator: Operator) -> str | None:
    """The release that the operator's version came with; None where that is not known."""
    releases, number = _RELEASES.get(operator.code, "").split(), version(operator)
    return releases[number - 1].replace("_", " ") if number <= len(releases) else None


def minimum(operators: Iterable[Operator], *, outside: bool = False) -> str | None:
    """The first release that runs all of `operators` right; None where that is not known for one of them.

    `outside`: constants follow the FlatBuffer (schema 3c), which 2.14 is the first release known to read.
    """
    latest = "2.14.0" if outside else ""
    for operator in operators:
        release = published(operator)
        if release is None:
            return None
        latest = max(latest, release, measured(operator), key=age)
    return (latest if latest.startswith("LiteRT") else f"TensorFlow Lite {latest}") if latest else None


def age(release: str) -> tuple[bool, tuple[int, ...]]:
    """What orders releases: LiteRT counts anew from 1.0, after TensorFlow Lite 2.17."""
    return release.startswith("LiteRT"), tuple(map(int, re.findall(r"\d+", release)))


def measured(operator: Operator) -> str:
    """The first release that was seen to compute what the version promises, "" where all that were tried do.

    Kernels grew more axes and truer sums under an old number: that was found by running the cells of
    `tests/tflite/kernel_cases.py` on tflite-runtime 2.7 to 2.14 and LiteRT 1.0.1 to 2.3.
    """
    code, given = operator.code, [tensor for tensor in operator.inputs if tensor is not None]
    many, int8 = any(len(tensor.shape) > 4 for tensor in given), bool(given) and given[0].dtype == "int8"
    broadcast = many and len({tensor.shape for tensor in given}) > 1
    per_channel = any(tensor.quantization is not None and tensor.quantization.per_channel for tensor in given)
    int4 = code == "FULLY_CONNECTED" and any(tensor.dtype == "int4" for tensor in given)
    int16 = bool(given) and given[0].dtype == "int16" and given[0].quantization is not None
    deep = bool(given) and len(given[0].shape) > 2
    grown = {
        "LiteRT 2.1.6": (code in ("MEAN", "PRELU") and many and int8)
        or (int16 and (code == "TILE" or (code == "SOFTMAX" and many))),
        "LiteRT 1.3.0": int16 and code == "SUM",
        "LiteRT 1.1.2": per_channel and (int4 or (int16 and deep and code == "FULLY_CONNECTED")),
        "LiteRT 1.0.1": any(tensor.dtype == "uint16" for tensor in (*given, *operator.outputs))
        or (code == "MUL" and broadcast),
        "2.13.0": (code == "ADD" and broadcast) or (code in ("EXP", "SUM") and int8),
        "2.10.0": (code in ("BATCH_MATMUL", "SELECT_V2") and many) or (code == "FULLY_CONNECTED" and per_channel),
        "2.9.1": code in ("ADD", "MUL") and many,
        "2.8.0": code == "SUB" and many and int8,
    }
    return next((release for release, late in grown.items() if late), "")
