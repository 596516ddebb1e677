"""An ONNX model of more than 2 GiB, written weight by weight: a table, dense layers and a convolution."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TOKENS, TABLE = 4, (131_072, 1024)


def write_large_model(folder: Path) -> Path:
    """Write `large.onnx` with its weights in `large.data` beside it: ids int64[4] → y float32[1,512,8,4]."""
    rng = np.random.default_rng(5)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(file: BinaryIO, name: str, shape: tuple[int, ...], scale: float) -> str:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        size = 4 * int(np.prod(shape))
        for key, value in (("location", "large.data"), ("offset", file.tell()), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        for _ in range(16):
            file.write(rng.standard_normal((shape[0] // 16, *shape[1:]), np.float32) * np.float32(scale))
        weights.append(tensor)
        return name

    def small(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    def bias(name: str, size: int) -> str:
        return small(name, rng.normal(0, 0.1, size).astype(np.float32))

    def node(op: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    # Scales keep the variance from layer to layer: 1 / fan in, twice that behind a ReLU (He et al., 2015).
    with (folder / "large.data").open("wb") as file:
        x = node("Gather", weight(file, "table", TABLE, 1.0), "ids")
        x = node("Gemm", x, weight(file, "first", (TABLE[1], 8192), TABLE[1] ** -0.5), bias("first_bias", 8192))
        widths = [8192, 4096] * 6 + [8192]
        for number, (rows, columns) in enumerate(itertools.pairwise(widths)):
            x = node("MatMul", x, weight(file, f"w{number}", (rows, columns), (2 / rows) ** 0.5))
            x = node("Relu", node("Add", x, bias(f"b{number}", columns)))
        x = node("Reshape", x, small("shape", np.array([1, 1024, 8, 4])))
        x = node("Conv", x, weight(file, "kernel", (512, 1024, 3, 3), (9 * 1024) ** -0.5), pads=[1, 1, 1, 1])
    ends = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [TOKENS]),
        helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 512, 8, 4]),
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    path = folder / "large.onnx"
    path.write_bytes(made.SerializeToString())
    return path
