from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

Build = Callable[..., ir.Model]


@pytest.fixture
def build() -> Build:
    """Make a hub graph: nodes as (op, inputs, output, attributes), arrays as initializers, shapes inferred by onnx."""

    def make(nodes, inputs, outputs, **arrays) -> ir.Model:
        made = [
            helper.make_node(op, list(ins), [out] if isinstance(out, str) else out, name=f"{op}_{i}", **(attrs or {}))
            for i, (op, ins, out, attrs) in enumerate(nodes)
        ]
        graph = helper.make_graph(
            made,
            "graph",
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        onnx.checker.check_model(proto, full_check=True)
        return ir.from_proto(proto)

    return make


@pytest.fixture
def network(build: Build) -> ir.Model:
    """A small network with what matters: fused ReLU, residual add, pool, concat, softmax, a dead channel."""
    rng = np.random.default_rng(1)
    w1 = rng.normal(0, 0.5, (40, 3, 3, 3)).astype(np.float32)
    w1[1] = 0
    w1[2] *= 1e-4
    w2 = rng.normal(0, 0.2, (40, 40, 1, 1)).astype(np.float32)
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return build(
        [
            ("Conv", ("x", "w1", "b1"), "c1", conv),
            ("Relu", ("c1",), "r1", None),
            ("Conv", ("r1", "w2", "b2"), "c2", {"kernel_shape": [1, 1]}),
            ("Add", ("r1", "c2"), "a", None),
            ("Relu", ("a",), "r2", None),
            ("MaxPool", ("r2",), "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("Concat", ("p", "p"), "cat", {"axis": 1}),
            ("GlobalAveragePool", ("cat",), "g", None),
            ("Flatten", ("g",), "f", None),
            ("Gemm", ("f", "w3", "b3"), "logits", {"transB": 1}),
            ("Softmax", ("logits",), "y", {"axis": 1}),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        w1=w1,
        b1=np.concatenate([[0.3, -5.0, 2.0], rng.normal(0, 0.1, 37)]).astype(np.float32),
        w2=w2,
        b2=rng.normal(0, 0.1, 40).astype(np.float32),
        w3=rng.normal(0, 0.3, (5, 80)).astype(np.float32),
        b3=rng.normal(0, 0.3, 5).astype(np.float32),
    )


@pytest.fixture
def batches() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    return [{"x": rng.normal(0.5, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(16)]
