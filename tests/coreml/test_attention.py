"""Attention in one op from iOS 18 on, spelled out below; computed as onnxruntime does either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(18)
Q, K, V = (RNG.normal(size=(2, 3, length, width)).astype(np.float32) for length, width in ((6, 16), (9, 16), (9, 5)))
MASK = np.triu(np.full((6, 9), -30, np.float32), 4)
FP16 = 1e-2
"""The contract of fp16."""
FUSED = "scaled_dot_product_attention"


def _nodes(scale: str = "", mask: str = "", perm: tuple[int, ...] = (0, 1, 3, 2)) -> list[onnx.NodeProto]:
    nodes = [make_node("Transpose", ["k"], ["kt"], perm=perm)]
    query, scores = "q", "raw"
    if scale in ("queries", "both"):
        nodes.append(make_node("Mul", ["s", "q"], ["qs"]))
        query = "qs"
    nodes.append(make_node("MatMul", [query, "kt"], ["raw"]))
    if scale in ("scores", "both"):
        nodes.append(make_node("Div", ["raw", "d"], ["scaled"]))
        scores = "scaled"
    if mask:
        nodes.append(make_node("Add", [scores, "m"] if mask == "right" else ["m", scores], ["masked"]))
        scores = "masked"
    return [*nodes, make_node("Softmax", [scores], ["p"], axis=-1), make_node("MatMul", ["p", "v"], ["y"])]


FORMS: list[Any] = [
    (_nodes("scores"), 1),
    (_nodes("queries", "right"), 1),
    (_nodes("both", "left"), 2),  # another scale than 1 / sqrt(16): one multiplication is left
    (_nodes("", "right"), 2),
]


@pytest.mark.parametrize(("recipe", "limit"), [("fp32", 1e-4), ("fp16", FP16)])
@pytest.mark.parametrize(("nodes", "ops"), FORMS, ids=["scores", "queries", "both", "none"])
def test_attention_is_one_op_from_ios_18_on(
    bench: Any, ops_of: Any, nodes: list[onnx.NodeProto], ops: int, recipe: str, limit: float
) -> None:
    inputs = {"q": Q, "k": K, "v": V}
    constants = {"s": np.float32(0.25), "d": np.array([4], np.float32), "m": MASK}
    for target in ("iOS18", "iOS17"):
        written = bench.agree(nodes, inputs, ["y"], constants, recipe=recipe, tolerance=limit, deployment_target=target)
        found = [op for op in ops_of(written.path) if op not in ("cast", "transpose")]
        assert found.count(FUSED) == (target == "iOS18")
        assert "softmax" not in found if target == "iOS18" else "softmax" in found
        if target == "iOS18":
            assert len(found) == ops
    assert written.layers[-1].op == "matmul"


def test_keys_in_another_order_are_transposed_once(bench: Any, ops_of: Any) -> None:
    """[B, S, heads, E] as models hold it: the two transposes of the keys are one."""
    keys = np.ascontiguousarray(K.transpose(0, 2, 1, 3))
    nodes, constants = _nodes("scores", perm=(0, 2, 3, 1)), {"d": np.array([4], np.float32)}
    written = bench.agree(nodes, {"q": Q, "k": keys, "v": V}, ["y"], constants, deployment_target="iOS18")
    assert ops_of(written.path) == ["transpose", FUSED]
    assert [(layer.name, layer.op) for layer in written.layers] == [("MatMul_4", FUSED)]


@pytest.mark.parametrize("case", ["read elsewhere", "broadcast keys", "another axis", "a mask of one column", "held"])
def test_what_the_op_would_compute_otherwise_stays_spelled_out(bench: Any, ops_of: Any, case: str) -> None:
    nodes, outputs, k, mask = _nodes("scores", "right"), ["y"], K, MASK
    if case == "read elsewhere":
        outputs = ["y", "p"]
    elif case == "broadcast keys":
        k = K[:, :1]
    elif case == "another axis":
        nodes[-2].attribute[0].i = 2
    elif case == "a mask of one column":
        mask = MASK[:, -1:]
    held = frozenset({"Softmax_4"}) if case == "held" else frozenset()
    written = bench.agree(
        nodes, {"q": Q, "k": k, "v": V}, outputs, {"d": np.float32(4), "m": mask},
        deployment_target="iOS18", float32_nodes=held, recipe="fp16", tolerance=FP16,
    )  # fmt: skip
    assert FUSED not in ops_of(written.path)


def test_onnx_attention_is_that_op_too(tmp_path: Path, ops_of: Any) -> None:
    """Expanded in the hub, joined again in the target."""
    from haversack.convert.pipeline import convert

    node = make_node("Attention", ["q", "k", "v"], ["y"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "g",
            [onnx.helper.make_tensor_value_info(n, 1, a.shape) for n, a in (("q", Q), ("k", K), ("v", V))],
            [onnx.helper.make_tensor_value_info("y", 1, (2, 3, 6, 5))],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 23)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "model.onnx")
    convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", deployment_target="iOS18")
    assert ops_of(tmp_path / "m.mlpackage").count(FUSED) == 1
